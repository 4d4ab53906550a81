"""Expectations over the samples of a flow or diffusion model, with their standard errors."""

from collections.abc import Callable
from typing import Any

from jax.sharding import Sharding

from flowjax import _check
from flowjax.estimators.functionals import End, Functional, Path
from flowjax.estimators.moments import Averages, Estimate, check_num
from flowjax.sampling.chunks import drawn
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import needs_noise
from flowjax.solver.views import indices_of


def expectation(
    f: Callable[..., Any],
    key: Any,
    field_or_sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    observer: Any = None,
    antithetic: bool | Callable[[Any], Any] = False,
    control: tuple[Callable[..., Any], Any] | None = None,
    args: Any = None,
    args_axes: Any = None,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Estimate:
    r"""The expectation of a function of X_1, or of a fold of the path, and its standard error.

    $$E f(X_{t_n}) \approx \bar y = \frac1N \sum_{i=1}^N f(X^{(i)}_{t_n}), \qquad
    \mathrm{error} = \sqrt{\frac{1}{N (N - 1)} \sum_{i=1}^N \big(f(X^{(i)}_{t_n}) - \bar y\big)^2}$$

    $X^{(i)}$ is sample i of `sample` by the same key. One chunk of them is held at a time, also
    when the estimate is differentiated, so that batch_size bounds the memory whatever num is. The
    numbers are the same to rounding for any batch_size and any number of devices. The law is that
    of the solver on its grid: the error of the steps is not part of the standard error.

    Derivatives through the mean, in args, the field's arrays or what f holds, are unbiased where f
    is continuous and smooth but for a set of probability zero; `pathwise_gradient` gives them with
    standard errors.

    Two ways to make the error smaller:

    - Antithetic pairs take the mean of f over two paths, of which the other one has -dW. The
      standard error is then of the means of pairs. For a linear f under a linear drift and additive
      noise it is zero; for f monotone in the noise it is smaller; for an even f of a symmetric law
      both are equal, and nothing is gained for twice the cost. X_0 is the same in both unless a
      mirror of it is given.
    - Control variates, functions g of the path whose mean mu is known, take what g explains out
      of f: the variance is that of f times `1 - rho^2`, for rho the correlation of the two. The
      coefficient is fitted by regression on the same samples, which costs a bias of order 1 / num,
      far below the standard error. Several controls, the elements of g, are fitted jointly. mu is
      the mean under the solver, not in continuous time.

    Args:
        f: the function, ``f(x1)``, or ``f(x1, value)`` with an observer. It returns real floating
            arrays, any pytree of them; of something that is true or false, the probability is the
            expectation of ``.astype(float)``.
        key: as in `sample`.
        field_or_sde: as in `sample`.
        init: as in `sample`.
        ts: as in `sample`.
        num: how many paths, a static int of at least 2 (with antithetic pairs an even one of at
            least 4), and one more for each control.
        observer: what is computed along the path, `(init, update)` as in `fold`: such as
            `flowjax.observers.mean()`. f and g are given its value after x1.
        antithetic: True for pairs with -dW, or a function `x0 -> x0'` that does not change the law
            of X_0, such as `lambda x: -x`, for pairs that have a mirrored start too. Pair i has
            the start and the noise of sample i.
        control: `(g, mu)`, with g of the same arguments as f, and mu its expectation, of the
            structure and shapes of what g returns.
        args: as in `sample`.
        args_axes: as in `sample`. With antithetic pairs, entry i is that of pair i, of num / 2.
        step: as in `sample`.
        adjoint: as in `sample`.
        batch_size: at most how many samples, or antithetic pairs, are solved at once.
        sharding: as in `sample`. The estimate is on all the devices.
        progress: as in `sample`.

    Returns:
        An `Estimate(mean, standard_error, num)`.

    Raises:
        TypeError: f is not a function of so many arguments, or returns what is not real floating;
            observer, antithetic or control are none of the above; and as `sample`.
        ValueError: num is too small for a standard error, or odd for antithetic pairs; nothing
            would differ between the pair: antithetic is True where no noise is drawn; mu is unlike
            what g returns; and as `sample`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde, ts = fj.ornstein_uhlenbeck(theta=1.0, sigma=1.0), fj.uniform_grid(50)
        >>> square = lambda x: x**2
        >>> how = {"num": 10_000, "batch_size": 1000}
        >>> estimate = fj.estimators.expectation(
        ...     square, jax.random.key(0), sde, lambda key: jnp.array(1.0), ts, **how
        ... )
        >>> truth = jnp.exp(-2) + (1 - jnp.exp(-2)) / 2  # in continuous time
        >>> print(f"{estimate.standard_error:.4f}", bool(abs(estimate.mean - truth) < 0.03))
        0.0078 True

    References:
        Glasserman (2003), "Monte Carlo Methods in Financial Engineering", sections 4.1 and 4.2.
        Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", The American
        Statistician 37.
    """
    if observer is not None:
        observer = _as_observer(observer)
    takes, form = (1, "(x1)") if observer is None else (2, "(x1, value)")
    functional = _functional(f, control, End(observer), antithetic, takes, form)
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return _estimate(functional, key, field_or_sde, init, ts, num, *options)


def path_expectation(
    f: Callable[[Any], Any],
    key: Any,
    field_or_sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    every: int = 1,
    at: Any = None,
    antithetic: bool | Callable[[Any], Any] = False,
    control: tuple[Callable[..., Any], Any] | None = None,
    args: Any = None,
    args_axes: Any = None,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Estimate:
    r"""The expectation of a function of the whole path, and its standard error.

    $$E f(X_{t_0}, X_{t_k}, X_{t_{2k}}, \dots) \qquad (k = \text{every})$$

    as `expectation` estimates it, by the paths of `sample_paths`. Those of one chunk are held at a
    time. What can be computed along the path needs none: give `expectation` an observer.

    Args:
        f: ``f(path)``, of the path as `trajectory` returns it: leaves of (n // every + 1, *shape).
        key: as in `sample`.
        field_or_sde: as in `sample`.
        init: as in `sample`.
        ts: as in `sample`.
        num: as in `expectation`.
        every: as in `trajectory`.
        at: as in `trajectory`.
        antithetic: as in `expectation`.
        control: as in `expectation`, with g of the path too.
        args: as in `sample`.
        args_axes: as in `expectation`.
        step: as in `sample`.
        adjoint: as in `sample`.
        batch_size: as in `expectation`.
        sharding: as in `expectation`.
        progress: as in `sample`.

    Returns:
        An `Estimate(mean, standard_error, num)`.

    Raises:
        TypeError, ValueError: as `expectation` and `trajectory`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> walk = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0)
        >>> highest = lambda path: jnp.max(path)
        >>> estimate = fj.estimators.path_expectation(
        ...     highest,
        ...     jax.random.key(0),
        ...     walk,
        ...     lambda key: jnp.array(0.0),
        ...     fj.uniform_grid(50),
        ...     1000,
        ... )
        >>> bool(abs(estimate.mean - 0.72) < 5 * estimate.standard_error)  # sqrt(2 / pi) as h -> 0
        True

    References:
        Glasserman (2003), "Monte Carlo Methods in Financial Engineering", section 6.4.
    """
    kept = Path(_check.positive_int(every, "every"), indices_of(at, every, ts))
    functional = _functional(f, control, kept, antithetic, 1, "(path)")
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return _estimate(functional, key, field_or_sde, init, ts, num, *options)


def _functional(
    f: Any, control: Any, kept: Any, antithetic: Any, takes: int, form: str
) -> Functional:
    _check.function(f, "f", form, takes)
    if antithetic is not True and antithetic is not False:
        which = "x0 -> x0', or True for a start that both have"
        _check.function(antithetic, "antithetic", which, takes=1)
    if control is None:
        return Functional(f, None, kept, antithetic)
    if not isinstance(control, tuple) or len(control) != 2:
        raise TypeError(
            f"control must be a pair (g, mu) of a function {form} and its known expectation, got "
            f"{control!r}."
        )
    g, known = control
    _check.function(g, "g of control", form, takes)
    return Functional(f, (g, _check.state(known, "mu of control")), kept, antithetic)


def _as_observer(observer: Any) -> tuple[Any, Callable[..., Any]]:
    if not isinstance(observer, tuple) or len(observer) != 2:
        raise TypeError(
            f"observer must be a pair (init, update) as fold takes it, such as "
            f"fj.observers.mean(), got {observer!r}."
        )
    init, update = observer
    _check.function(update, "update of observer", "(value, t0, t1, x0, x1, dw) -> value", takes=6)
    return init, update


def _estimate(
    functional: Functional,
    key: Any,
    field_or_sde: Any,
    init: Any,
    ts: Any,
    num: int,
    args: Any,
    args_axes: Any,
    step: Any,
    *options: Any,
) -> Estimate:
    num, each = _check.positive_int(num, "num"), 1
    if functional.antithetic is not False:
        _check_pairs(functional.antithetic, num, field_or_sde, step)
        each = 2
    check_num(num, each)
    known = None if functional.control is None else functional.control[1]
    what = (functional, key, field_or_sde, init, ts, num // each, args, args_axes, step)
    mean, error = drawn(*what, *options, reduction=Averages(known, num, each))
    return Estimate(mean, error, num)


def _check_pairs(antithetic: Any, num: int, field_or_sde: Any, step: Any) -> None:
    """Refuses antithetic pairs of which nothing would differ, or that do not come out even."""
    is_sde = isinstance(field_or_sde, SDE)
    noisy = is_sde if step is None else needs_noise(step, is_sde)
    if antithetic is True and not noisy:
        raise ValueError(
            "antithetic=True pairs dW with -dW, but no noise is drawn here: for pairs of starts "
            "give a function x0 -> x0' that keeps their law."
        )
    if num % 2:
        raise ValueError(f"num must be even for antithetic pairs, got {num}.")
