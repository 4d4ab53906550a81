"""What a user sees of the package: its names, their documentation, and what importing it costs."""

import ast
import dis
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import flowjax as fj

PACKAGE = Path(fj.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The names of the design that exist by now; a release may add to them and takes none away.
# fmt: off
STABLE = [
    "SDE", "solve", "trajectory", "Stepper", "plus", "check_finite",
    "euler", "heun", "midpoint", "rk4", "adams",
    "euler_maruyama", "milstein", "stochastic_heun", "reversible_heun",
    "brownian_increments", "brownian_path", "coarsen",
    "Checkpointed", "Direct", "Truncated", "Reversible",
    "uniform_grid", "karras_grid", "log_snr_grid", "shifted_grid", "beta_grid",
    "Schedule", "CondOT", "Trigonometric", "VariancePreserving", "VarianceExploding", "SquareRoot",
    "Polynomial", "EDM",
    "velocity", "Velocity", "convert", "precondition", "change_schedule", "with_noise",
    "memoryless",
    "ddim", "ancestral", "stochastic_ddim", "exponential_euler", "dpmpp_2m", "dpmpp_2m_sde",
    "unipc", "edm_heun",
    "linear_field", "linear_flow", "ornstein_uhlenbeck", "langevin", "Gaussian", "GaussianMixture",
    "gaussian_bridge",
    "sample", "log_likelihood", "euler_log_likelihood", "Exact", "Hutchinson",
    "path_log_prob", "path_log_ratio", "transition_log_probs",
    "densities.kl", "densities.log_prob", "densities.log_ratio",
    "guidance.classifier_free", "guidance.interval", "guidance.autoguidance", "guidance.cfg_zero",
    "guidance.rescaled", "guidance.by_gradient", "guidance.corrected", "models.MLP", "data.digits",
    "losses.flow_matching", "losses.interpolate", "losses.mean_flow", "losses.flow_map",
    "losses.interpolant", "losses.uniform", "losses.stratified", "losses.logit_normal",
    "losses.edm_times", "losses.snr", "losses.min_snr", "losses.edm_weight",
    "training.TrainState", "training.init", "training.step", "training.fit", "training.save",
    "training.restore",
    "rewards.adjoint_matching", "rewards.policy_gradient", "rewards.group_advantages",
    "couplings.independent", "couplings.exact", "couplings.entropic", "couplings.unbalanced",
    "couplings.conditional", "couplings.reflow",
    "estimators.Estimate", "estimators.expectation", "estimators.path_expectation",
    "estimators.pathwise_gradient", "estimators.log_density_gradient", "estimators.multilevel",
    "inverse.dps", "inverse.pigdm", "inverse.mmps", "inverse.twisted_smc",
    "data.eight_gaussians", "data.moons", "data.checkerboard", "data.s_curve", "data.spirals",
    "fold", "refine", "grid_through", "sample_paths", "sample_pairs", "two_time", "flow_map",
    "losses.bridge", "losses.drop_label", "losses.sigmoid_weight", "training.averaged",
    "observers.cost", "observers.energy", "observers.histogram", "observers.mean",
    "observers.several", "observers.straightness", "observers.variance",
    "interop.cross_check", "interop.from_diffrax", "interop.to_diffrax",
    "plot.animate", "plot.convergence_orders", "plot.dark", "plot.density_map",
    "plot.density_ridges", "plot.error_against_calls", "plot.flow_grid", "plot.grid_lines",
    "plot.histogram", "plot.image_grid", "plot.molecule", "plot.point_clouds",
    "plot.stochastic_paths", "plot.trajectories", "plot.vector_field", "plot.video_strip",
    "data.moving_digits", "data.conformers", "data.folder",
    "metrics.energy_distance", "metrics.mmd", "metrics.wasserstein", "metrics.sliced_wasserstein",
    "metrics.marginal_wasserstein", "metrics.label_accuracy", "metrics.displacements",
    "metrics.bond_lengths", "metrics.bond_angles", "metrics.bootstrap",
]

# The modules that a user names.
NAMED = [
    "flowjax",
    *(
        f"flowjax.{n}"
        for n in (
            "couplings", "data", "densities", "estimators", "guidance", "inverse", "losses",
            "metrics", "models", "observers", "rewards", "training",
        )
    ),
]
# fmt: on

# Those that are imported by themselves.
ALONE = ["flowjax.interop", "flowjax.plot"]


def module_named(name):
    """A module by the name that a user has for it."""
    return importlib.import_module(name)


def public_callables():
    """Every function and class that a user reaches by public names: (name, value)."""
    for module in (*map(module_named, NAMED), *map(importlib.import_module, ALONE)):
        for name in getattr(module, "__all__", [n for n in vars(module) if n[0] != "_"]):
            value = getattr(module, name)
            # What a method that remembers does is told of by its step.
            value = value.step if isinstance(value, fj.Stepper) else value
            if callable(value) and value.__module__.startswith("flowjax"):
                yield f"{module.__name__}.{name}", value


CALLABLES = dict(public_callables())


def order(name):
    """Constants, then classes, then functions, each by the alphabet."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_the_stable_names_are_exported():
    for name in STABLE:
        module, _, last = f"flowjax.{name}".rpartition(".")
        assert last in module_named(module).__all__, name
    assert set(NAMED) == {"flowjax", *(f"flowjax.{n}" for n in fj.__all__ if is_module(n))}


def is_module(name):
    return isinstance(getattr(fj, name), ModuleType)


@pytest.mark.parametrize("module", [*NAMED, *ALONE])
def test_what_a_module_exports_exists_once_and_in_order(module):
    module = importlib.import_module(module)
    assert module.__all__ == sorted(set(module.__all__), key=order)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_nothing_public_is_left_out_of_what_the_package_exports():
    public = {
        name
        for name, value in vars(fj).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public <= set(fj.__all__)


@pytest.mark.parametrize("name", [name for name in fj.__all__ if callable(getattr(fj, name))])
def test_a_public_name_comes_from_a_floor_of_the_package(name):
    assert getattr(fj, name).__module__.startswith("flowjax.")


def section(docstring, title):
    """The indented text below ``title:``, or None."""
    found = re.search(rf"^{title}:\n((?:[ \t]+.*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return found[1] if found else None


# What a function of the package returns and no user makes: the function's docstring tells of it.
RECORDS = {
    "flowjax.couplings.Pairs",
    "flowjax.data.Conformers",
    "flowjax.data.Digits",
    "flowjax.data.Folder",
    "flowjax.data.LabelledImages",
    "flowjax.data.LabelledVideos",
    "flowjax.metrics.Interval",
    "flowjax.interop.Cost",
    "flowjax.interop.CrossCheck",
    "flowjax.estimators.Estimate",
    "flowjax.estimators.Levels",
    "flowjax.estimators.MultilevelEstimate",
    "flowjax.training.Info",
}


def lacks(value):
    """What the docstring of a public function or class ought to have and has not."""
    docstring = inspect.getdoc(value)
    if not docstring or value.__doc__ is None:
        return ["a docstring"]
    missing = []
    first_line, _, rest = docstring.partition("\n")
    if not first_line.endswith(".") or (rest and not rest.startswith("\n")):
        missing.append("a first line that is a sentence of its own")
    parameters = [
        name
        for name, parameter in inspect.signature(value).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    described = section(docstring, "Args") or ""
    missing += [
        f"{name} in Args" for name in parameters if not re.search(rf"^ +{name}:", described, re.M)
    ]
    returns = inspect.signature(value).return_annotation
    if not inspect.isclass(value) and returns is not None and not section(docstring, "Returns"):
        missing.append("Returns")
    if ">>> " not in (section(docstring, "Example") or ""):
        missing.append("Example")
    return missing


@pytest.mark.parametrize("name", [name for name in CALLABLES if name not in RECORDS])
def test_the_docstring_of_a_public_name_says_what_a_user_needs(name):
    assert lacks(CALLABLES[name]) == []


# What computes nothing that an equation would say better, or is from no publication.
# fmt: off
NO_EQUATION = {
    f"flowjax.{name}"
    for name in (
        "check_finite", "observers.several", "training.TrainState", "training.restore",
        "training.save",
    )
}
NO_REFERENCE = NO_EQUATION | {
    f"flowjax.{name}" for name in ("grid_through", "observers.Observer", "plus")
}
# fmt: on

# How the arguments that are arrays begin, wherever they occur; or else by naming where it is told.
ARRAYS = {
    "increments": r"a pytree of arrays of shape \(|the Brownian increments",
    "key": r"one JAX key\b",
    "log_probs": r"\(n,\) ",
    "path": r"states |the states |the path of the file",
    "rewards": r"\(\.\.\., G\) ",
    "times": r"\(m,\) ",
    "ts": r"\(n \+ 1,\) |the \(m,\) ",
    "weights": r"\(k,\) ",
}
ARRAYS |= dict.fromkeys(("t", "t0", "t1"), r".*\b(scalar|unused)\b")
ARRAYS |= dict.fromkeys(
    ("x", "x0", "x1", "observed", "like"),
    r".*\b(array|arrays|batch|sample|shapes|structure|TrainState)\b",
)
ELSEWHERE = r".*\bas in `"


def described(docstring):
    """The text of each argument, by its name."""
    items = re.finditer(
        r"^ +\*{0,2}(\w+): ((?:.*\n)(?: {5,}.*\n)*)", section(docstring, "Args") or "", re.M
    )
    return {item[1]: " ".join(item[2].split()) for item in items}


def refuses(value):
    """Whether a function or class raises an error: it, or what it calls that is not public."""
    public = {inspect.unwrap(other) for other in CALLABLES.values()} - {inspect.unwrap(value)}
    todo, seen = [value], set()
    while todo:
        function = inspect.unwrap(todo.pop())
        if inspect.isclass(function):
            makers = ("__new__", "__init__", "__check_init__", "__post_init__")
            todo += [vars(function)[maker] for maker in makers if maker in vars(function)]
        code = getattr(function, "__code__", None)
        own = str(getattr(function, "__module__", "")).startswith("flowjax")
        # (Not what checks the annotations under the tests.)
        if code is None or code in seen or not own or "site-packages" in code.co_filename:
            continue
        seen.add(code)
        names, raises = called(code)
        if raises:
            return True
        values = [function.__globals__[name] for name in names if name in function.__globals__]
        modules = [vars(value) for value in values if isinstance(value, ModuleType)]
        values += [module[name] for module in modules for name in names if name in module]
        todo += {inspect.unwrap(value) for value in values if callable(value)} - public
    return False


def called(code):
    """The names in some code and the functions within it, and whether there is a `raise`."""
    names = set(code.co_names)
    raises = any(
        instruction.opname == "RAISE_VARARGS" for instruction in dis.get_instructions(code)
    )
    for within in filter(inspect.iscode, code.co_consts):
        more, also = called(within)
        names, raises = names | more, raises or also
    return names, raises


def falls_short(name, value):
    """What the docstring of a public name ought to tell a researcher, and does not."""
    docstring, short = inspect.getdoc(value), []
    if "$" not in docstring and name not in NO_EQUATION:
        short.append("an equation")
    for argument, text in described(docstring).items():
        if not re.match(f"{ARRAYS.get(argument, '')}|{ELSEWHERE}", text):
            short.append(f"the shape of {argument}")
    raised = section(docstring, "Raises")
    if inspect.signature(value).parameters and refuses(value) and not raised:
        short.append("Raises")
    if not re.match(r"(?: +(?:\w+Error(?:, )?)+: .+\n(?: {5,}.*\n)*)*\n*\Z", raised or ""):
        short.append("an error by name in each line of Raises")
    references = section(docstring, "References") or ""
    titles, papers = references.count('"') // 2, references.count("arXiv")
    dated = re.search(r"\b(?:18|19|20)\d\d\b", references)
    if name not in NO_REFERENCE and not (titles and titles >= papers and dated):
        short.append("References with a title and a year")
    # Of the first line of Returns, what comes before a colon would be taken for a type.
    returned = re.sub(r"`+[^`]*`+|\[[^]]*\]", "", section(docstring, "Returns") or "").strip()
    if ":" in returned.partition("\n")[0]:
        short.append("a first line of Returns without a colon")
    if unknown := set(re.findall(r"^([A-Z]\w+):$", docstring, re.M)) - SECTIONS:
        short.append(f"sections of a known name, in place of {unknown}")
    return short


SECTIONS = {"Args", "Returns", "Raises", "Example", "References"}

# The module of pictures is not looked at so closely.
CLOSELY = [n for n in CALLABLES if n not in RECORDS and not n.startswith("flowjax.plot.")]


@pytest.mark.parametrize("name", CLOSELY)
def test_a_docstring_has_its_equation_shapes_errors_and_references(name):
    assert falls_short(name, CALLABLES[name]) == []


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_is_told_of_where_it_is_returned(name):
    record = rf"`{name.rpartition('.')[2]}\b"
    others = [value for other, value in CALLABLES.items() if other != name]
    assert any(re.search(record, inspect.getdoc(value)) for value in others)


def test_a_docstring_that_falls_short_is_caught():
    good = """Adds.

    $$x + h$$

    Args:
        x: an array.
        ts: (n + 1,) times.

    Returns:
        The sum.

    Raises:
        ValueError: x is negative.

    References:
        Peano (1889), "Arithmetices principia", section 1.
    """

    def short_of(wrong, right=""):
        def add(x, ts):
            if x < 0:
                raise ValueError(x)

        add.__module__ = "flowjax.add"
        add.__doc__ = good.replace(wrong, right)
        assert wrong in good
        return falls_short("flowjax.add", add)

    assert short_of("") == []
    assert short_of("$$x + h$$") == ["an equation"]
    assert short_of("(n + 1,) times", "times") == ["the shape of ts"]
    assert short_of("an array", "the input") == ["the shape of x"]
    assert short_of("Raises:\n        ValueError: x is negative.") == ["Raises"]
    assert short_of("ValueError: x", "where x") == ["an error by name in each line of Raises"]
    for wrong in (' (1889), "', ', "Arithmetices principia"'):
        assert short_of(wrong) == ["References with a title and a year"]
    assert short_of("The sum", "The sum: a number") == ["a first line of Returns without a colon"]
    assert (
        short_of("References:", "Notes:")[-1] == "sections of a known name, in place of {'Notes'}"
    )


def test_what_is_said_to_have_no_equation_or_reference_exists_and_has_none():
    assert set(CLOSELY) >= NO_REFERENCE
    for name in NO_EQUATION:
        assert "$" not in inspect.getdoc(CALLABLES[name]), name
    for name in NO_REFERENCE:
        assert not section(inspect.getdoc(CALLABLES[name]), "References"), name


@pytest.mark.parametrize("name", [name for name in CALLABLES if inspect.isclass(CALLABLES[name])])
def test_the_methods_of_a_public_class_are_documented(name):
    for attribute, value in vars(CALLABLES[name]).items():
        own = getattr(value, "__module__", None) == CALLABLES[name].__module__
        if own and callable(value) and not attribute.startswith("_"):
            assert value.__doc__, f"{name}.{attribute}"


def test_a_docstring_that_lacks_something_is_caught():
    def undocumented(x, y):
        return x

    def half_documented(x, y) -> int:
        """Adds.

        Args:
            x: a number.

        Example:
            >>> half_documented(1, 2)
        """

    assert lacks(undocumented) == ["a docstring"]
    assert lacks(half_documented) == ["y in Args", "Returns"]


def test_importing_the_package_imports_no_optional_package_and_draws_nothing():
    """Extras are imported where they are used, and no computation starts a backend."""
    script = (
        "import sys, flowjax\n"
        "optional = {'matplotlib', 'sklearn', 'tqdm', 'scipy.stats', 'torch', 'pandas', 'rdkit'}\n"
        "optional |= {'diffrax', 'lineax', 'flax', 'PIL'}  # slow, and not needed by all\n"
        "print(sorted(optional & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def private_parts_of_jax(source):
    """Imports from jax._src and attributes of a jax module that begin with an underscore."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        found += [n for n in names if re.match(r"(jax|jaxlib|jnp)\..*\b_(?!_)\w+", n)]
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_stands_on_public_names_of_jax(source):
    assert private_parts_of_jax(source.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import jax._src.core",
        "from jax._src import core",
        "from jax._src.core import Tracer",
        "import jax\ntracer = jax._src.core.Tracer",
        "import jaxlib._jax",
    ],
)
def test_a_private_part_of_jax_is_caught(source):
    assert private_parts_of_jax(source)


def loops(source):
    """The compiled loops in a module that could run over time."""
    words = re.findall(r"\b(?:scan|fori_loop|while_loop|associative_scan)\(", source)
    return [word for word in words if "lax." + word in source]


# Beside the solver: chunks of samples, Newton's method within one step, the time of a ratio and the
# weight of labels by bisection, and Sinkhorn's iteration.
OTHER_LOOPS = {
    "couplings/assigned.py",
    "couplings/sinkhorn.py",
    "densities/newton.py",
    "sampling/chunks.py",
    "schedules/schedule.py",
    "training/loop.py",
}


def test_nothing_but_solve_loops_over_time():
    looping = {
        str(source.relative_to(PACKAGE))
        for source in SOURCES
        if loops(source.read_text(encoding="utf-8"))
    }
    assert "solver/loop.py" in looping
    assert {name for name in looping if not name.startswith("solver/")} <= OTHER_LOOPS


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_can_be_read_in_one_sitting(source):
    assert len(source.read_text(encoding="utf-8").splitlines()) < 350
