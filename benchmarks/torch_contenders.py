"""The contenders on torch: optional, never required, with the same signatures as on JAX.

Each function gives, by contender, a function of NumPy-like inputs turned into tensors once, before
anything is timed. Without torch, or without one of the packages, its contenders are left out.
"""

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.problems import SIGMA, Problem


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch = _imported("torch")
torchdiffeq = torch and _imported("torchdiffeq")
torchsde = torch and _imported("torchsde")
flow_matching = torch and _imported("flow_matching.solver")
torchcfm = torch and _imported("torchcfm.conditional_flow_matching")
ot = _imported("ot")

PACKAGES = {
    name: module
    for name, module in (
        ("torch", torch),
        ("torchdiffeq", torchdiffeq),
        ("torchsde", torchsde),
        ("flow_matching", flow_matching),
        ("torchcfm", torchcfm),
    )
    if module is not None
}


def ode(problem: Problem) -> dict[str, Callable[[], Any]]:
    """Forward solves that nobody differentiates."""

    def forward(solve: Callable) -> Callable[[], Any]:
        x0, args = _tensors(problem, differentiable=False)

        def run() -> Any:
            with torch.inference_mode():
                return _finished(solve(problem, x0, args))

        return run

    return {name: forward(solve) for name, solve in _solves().items()}


def gradient(problem: Problem) -> dict[str, Callable[[], Any]]:
    """Gradients of the sum of squares of X, with respect to (x0, args)."""

    def backward(solve: Callable) -> Callable[[], Any]:
        x0, args = _tensors(problem, differentiable=True)
        leaves, structure = jax.tree.flatten((x0, args))

        def run() -> Any:
            loss = (solve(problem, x0, args) ** 2).sum()
            return jax.tree.unflatten(structure, _finished(torch.autograd.grad(loss, leaves)))

        return run

    return {name: backward(solve) for name, solve in _solves().items()}


def sde(problem: Problem) -> dict[str, Callable[[int], Any]]:
    """SDE solves; run i draws its noise from seed i, for all samples of a batch together."""
    if torchsde is None or problem.matrix is not None:
        return {}
    x0, theta = _tensors(problem, differentiable=False)
    start = x0.expand(problem.keys or 1, *x0.shape).reshape(-1, x0.shape[-1]).contiguous()
    equation = _Equation(_field(problem), theta)

    def run(i: int) -> Any:
        path = torchsde.BrownianInterval(
            *(0.0, 1.0, start.shape), device=start.device, entropy=i, dt=1 / problem.steps
        )
        with torch.inference_mode():
            xs = torchsde.sdeint(
                equation, start, [0.0, 1.0], bm=path, method="euler", dt=1 / problem.steps
            )
        batch = () if problem.keys is None else (problem.keys,)
        return _finished(xs[-1].reshape(*batch, *x0.shape))

    return {"torchsde": run}


def training(width: int, batch: int, steps: int, data: Any) -> dict[str, Callable[[], Any]]:
    """So many steps of a network of three hidden layers on torchcfm's conditional flow matching."""
    if torchcfm is None:
        return {}
    network = _network(width)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    matcher = torchcfm.ConditionalFlowMatcher(sigma=0.0)
    data = torch.from_numpy(np.array(data))

    def run() -> Any:
        losses = []
        for _ in range(steps):
            x1 = data[torch.randint(len(data), (batch,))]
            t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            loss = torch.mean((network(torch.cat([xt, t[:, None]], 1)) - ut) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return {"torchcfm": run}


def learning(coupling: str, start: Any, end: Any, tested: Any, steps: int) -> dict[str, Any]:
    """Paths of a flow that torchcfm has learnt on these batches, of its exact or no coupling."""
    if torchcfm is None or ot is None:
        return {}
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (that is what torchcfm draws from)
    network = _network(64)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    matchers = {
        "independent": torchcfm.ConditionalFlowMatcher,
        "exact": torchcfm.ExactOptimalTransportConditionalFlowMatcher,
    }
    matcher = matchers[coupling](sigma=0.0)
    for x0, x1 in zip(torch.tensor(start), torch.tensor(end), strict=True):
        t, xt, ut = matcher.sample_location_and_conditional_flow(x0, x1)
        loss = torch.mean((network(torch.cat([xt, t[:, None]], 1)) - ut) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = [torch.from_numpy(np.array(tested))]
    with torch.inference_mode():
        for i in range(steps):
            t = torch.full((len(tested), 1), i / steps)
            path.append(path[-1] + network(torch.cat([path[-1], t], 1)) / steps)
    return {f"torchcfm {coupling}": np.stack([x.numpy() for x in path], 1)}


def _network(width: int) -> Any:
    """torchcfm's network: three hidden layers, t as one more input."""
    sizes, layers = (3, width, width, width, 2), []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.SELU()]
    return torch.nn.Sequential(*layers[:-1])


def to_numpy(tree: Any) -> Any:
    """The same tree with NumPy arrays, of a contender on torch or on JAX."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf), tree
    )


class _Equation:
    """What torchsde takes for an SDE."""

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, field: Callable, theta: Any):
        self.f = lambda t, x: field(t, x, theta)
        self.g = lambda t, x: torch.full_like(x, SIGMA)


def _solves() -> dict[str, Callable]:
    solves = {}
    if torchdiffeq is not None:
        solves["torchdiffeq"] = _torchdiffeq
    if flow_matching is not None:
        solves["flow_matching"] = _flow_matching
    return solves


def _torchdiffeq(problem: Problem, x0: Any, args: Any) -> Any:
    field = _field(problem)
    return torchdiffeq.odeint(
        lambda t, x: field(t, x, args),
        x0,
        torch.tensor([0.0, 1.0], device=x0.device),
        method="euler",
        options={"step_size": 1 / problem.steps},
    )[-1]


def _flow_matching(problem: Problem, x0: Any, args: Any) -> Any:
    field = _field(problem)
    solver = flow_matching.ODESolver(lambda x, t: field(t, x, args))
    return solver.sample(x0, 1 / problem.steps, method="euler", enable_grad=torch.is_grad_enabled())


def _field(problem: Problem) -> Callable:
    return problem.make_field(torch.nn.functional.silu)


def _tensors(problem: Problem, differentiable: bool) -> tuple[Any, Any]:
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"

    def tensor(leaf: Any) -> Any:
        made = torch.from_numpy(np.array(leaf, np.float32)).to(device)
        return made.requires_grad_(differentiable)

    return jax.tree.map(tensor, (problem.x0, problem.args))


def _finished(result: Any) -> Any:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result
