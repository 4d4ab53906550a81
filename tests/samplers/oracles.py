"""The papers' algorithms as NumPy float64 loops, each in its paper's own variables.

A loop is given the levels alpha and sigma at all times, a denoiser `data(x, alpha, sigma)` and, if
it draws noise, standard normal numbers; none of them is shared with flowjax.
"""

import numpy as np
from scipy import optimize, special

import flowjax as fj

# 0.3 N(-2, 0.25) + 0.7 N(2, 0.25), and a Gaussian in the same form.
MIXTURE = (np.array([0.3, 0.7]), np.array([-2.0, 2.0]), np.array([0.5, 0.5]))
GAUSSIAN = (np.array([0.5, 0.5]), np.array([0.7, 0.7]), np.array([0.4, 0.4]))


def levels(schedule, ts):
    """Alpha and sigma at the times, in float64."""
    alpha, sigma = schedule(np.asarray(ts, np.float64))
    return np.asarray(alpha, np.float64), np.asarray(sigma, np.float64)


def field_of(target, schedule):
    return fj.GaussianMixture(*target).velocity(schedule)


def denoiser(target):
    """E[x_1 | alpha x_1 + sigma x_0 = x] for a mixture in one dimension."""
    weights, means, stds = target

    def data(x, alpha, sigma):
        x = np.asarray(x)[..., None]
        variances = (alpha * stds) ** 2 + sigma**2
        logs = np.log(weights) - np.log(variances) / 2 - (x - alpha * means) ** 2 / (2 * variances)
        shares = special.softmax(logs, axis=-1)
        gains = alpha * stds**2 / variances
        return np.sum(shares * (means + gains * (x - alpha * means)), axis=-1)

    return data


def exact_map(target, schedule, t0, t1):
    """The flow's map of points at t0 to points at t1: that which keeps the quantiles."""
    weights, means, stds = target

    def cdf(x, alpha, sigma):
        return np.sum(weights * special.ndtr((x - alpha * means) / np.hypot(alpha * stds, sigma)))

    start, end = ([float(value) for value in levels(schedule, t)] for t in (t0, t1))

    def one(x):
        level = cdf(x, *start)
        return optimize.brentq(lambda y: cdf(y, *end) - level, -500, 500, xtol=1e-14, rtol=1e-15)

    return np.vectorize(one)


def ddim(data, a, s, x, xi=None):
    """Song et al. 2020, equation 12 with sigma_t = 0; alpha-bar is alpha squared."""
    for i in range(len(a) - 1):
        bar0, bar1 = a[i] ** 2, a[i + 1] ** 2
        epsilon = (x - a[i] * data(x, a[i], s[i])) / s[i]
        predicted = (x - s[i] * epsilon) / np.sqrt(bar0)
        x = np.sqrt(bar1) * predicted + s[i + 1] * epsilon
    return x


def stochastic_ddim(data, a, s, x, xi, eta):
    """Song et al. 2020, equations 12 and 16, on the circle alpha^2 + sigma^2 = 1."""
    for i in range(len(a) - 1):
        bar0, bar1 = a[i] ** 2, a[i + 1] ** 2
        std = eta * np.sqrt((1 - bar1) / (1 - bar0)) * np.sqrt(1 - bar0 / bar1)
        predicted = data(x, a[i], s[i])
        epsilon = (x - a[i] * predicted) / s[i]
        x = a[i + 1] * predicted + np.sqrt(1 - bar1 - std**2) * epsilon + std * xi[i]
    return x


def ancestral(data, a, s, x, xi, eta=1.0):
    """The posterior of Ho et al. 2020, equation 7, off the variance-preserving circle too.

    The noising from t1 back to t0 is x_0 = r x_1 + N(0, v); r is their sqrt(alpha), v their beta.
    With eta below 1 the posterior's standard deviation is that times eta, and what is missing of
    the variance of x_1 given the data is made up for by the noise expected.
    """
    for i in range(len(a) - 1):
        r = a[i] / a[i + 1]
        v = s[i] ** 2 - (r * s[i + 1]) ** 2
        expected, variance = data(x, a[i], s[i]), v * s[i + 1] ** 2 / s[i] ** 2
        mean = (a[i + 1] * v * expected + r * s[i + 1] ** 2 * x) / s[i] ** 2
        missing = np.sqrt(s[i + 1] ** 2 - eta**2 * variance) - np.sqrt(s[i + 1] ** 2 - variance)
        mean = mean + missing * (x - a[i] * expected) / s[i]
        x = mean + eta * np.sqrt(variance) * xi[i]
    return x


def dpmpp_2m(data, a, s, x, xi=None, short=()):
    """Lu et al. 2022, Algorithm 2, of order 1 on the step to sigma = 0 and on those of `short`."""
    with np.errstate(divide="ignore"):
        lam = np.log(a / s)
    previous = None
    for i in range(len(a) - 1):
        h, now = lam[i + 1] - lam[i], data(x, a[i], s[i])
        estimate = now
        if i > 0 and s[i + 1] > 0 and i not in short:
            r = (lam[i] - lam[i - 1]) / h
            estimate = (1 + 1 / (2 * r)) * now - 1 / (2 * r) * previous
        x = s[i + 1] / s[i] * x - a[i + 1] * np.expm1(-h) * estimate
        previous = now
    return x


def dpmpp_2m_sde(data, a, s, x, xi, short=()):
    """SDE-DPM-Solver++(2M) of Lu et al. 2022, in the midpoint form; orders as above."""
    with np.errstate(divide="ignore"):
        lam = np.log(a / s)
    previous = None
    for i in range(len(a) - 1):
        h, now = lam[i + 1] - lam[i], data(x, a[i], s[i])
        estimate = now
        if i > 0 and s[i + 1] > 0 and i not in short:
            r = (lam[i] - lam[i - 1]) / h
            estimate = now + (now - previous) / (2 * r)
        x = (
            s[i + 1] / s[i] * np.exp(-h) * x
            - a[i + 1] * np.expm1(-2 * h) * estimate
            + s[i + 1] * np.sqrt(-np.expm1(-2 * h)) * xi[i]
        )
        previous = now
    return x


def unipc(data, a, s, x, xi=None, short=()):
    """Zhao et al. 2023: UniP-2 and UniC-2 with B_2, data prediction, solved for rho as matrices.

    The predictor's orders are as above.
    """
    with np.errstate(divide="ignore"):
        lam = np.log(a / s)
    models, corrected = [], x
    for i in range(len(a) - 1):
        models.append(data(x, a[i], s[i]))
        if i > 0:
            corrected = _unic(a, s, lam, i - 1, corrected, models)
        h = lam[i + 1] - lam[i]
        x = s[i + 1] / s[i] * corrected - a[i + 1] * np.expm1(-h) * models[i]
        if i > 0 and s[i + 1] > 0 and i not in short:
            r = (lam[i - 1] - lam[i]) / h
            x = x - a[i + 1] * np.expm1(-h) * 0.5 * (models[i - 1] - models[i]) / r
    return x


def _unic(a, s, lam, i, corrected, models):
    """The corrected state at i + 1, from the corrected one at i and the models up to i + 1."""
    h, order = lam[i + 1] - lam[i], min(2, i + 1)
    base = s[i + 1] / s[i] * corrected - a[i + 1] * np.expm1(-h) * models[i]
    rs = [(lam[i - k] - lam[i]) / h for k in range(1, order)] + [1.0]
    differences = [(models[i - k] - models[i]) / rs[k - 1] for k in range(1, order)]
    differences.append(models[i + 1] - models[i])
    # phi_2(-h) and phi_3(-h) times -h and h^2, and b_k = k! phi_{k+1} h^k / B_2.
    phi2 = np.expm1(-h) / -h - 1
    phi3 = phi2 / -h - 0.5
    b = np.array([phi2, 2 * phi3]) / np.expm1(-h)
    matrix = np.array([[r**k for r in rs] for k in range(order)])
    rho = [0.5] if order == 1 else np.linalg.solve(matrix, b)
    correction = sum(weight * value for weight, value in zip(rho, differences, strict=True))
    return base - a[i + 1] * np.expm1(-h) * correction


def edm_heun(
    data, a, s, x, xi=None, churn=0.0, s_noise=1.0, s_tmin=0.0, s_tmax=np.inf, most=np.inf
):
    """Karras et al. 2022, Algorithms 1 and 2, in x / alpha and sigma / alpha.

    `most` is the highest level to which churn raises it.
    """
    sigma, x = s / a, x / a[0]
    for i in range(len(a) - 1):
        gamma = min(churn, np.sqrt(2) - 1) if s_tmin <= sigma[i] <= s_tmax else 0.0
        sigma_hat = min((1 + gamma) * sigma[i], max(most, sigma[i]))
        if gamma > 0:
            x = x + np.sqrt(sigma_hat**2 - sigma[i] ** 2) * s_noise * xi[i]
        d = (x - data(x, 1.0, sigma_hat)) / sigma_hat
        x_next = x + (sigma[i + 1] - sigma_hat) * d
        if sigma[i + 1] > 0:
            d_next = (x_next - data(x_next, 1.0, sigma[i + 1])) / sigma[i + 1]
            x_next = x + (sigma[i + 1] - sigma_hat) * (d + d_next) / 2
        x = x_next
    return a[-1] * x


def exponential_euler(data, a, s, x, xi, kappa):
    """One Ornstein-Uhlenbeck step of e = (x - alpha D) / sigma in the time tau = kappa h each."""
    for i in range(len(a) - 1):
        now = data(x, a[i], s[i])
        e = (x - a[i] * now) / s[i]
        # e^{-tau} = (e^{-h})^kappa, which has no logarithm of sigma = 0.
        decay = (a[i] * s[i + 1] / (s[i] * a[i + 1])) ** kappa[i]
        x = a[i + 1] * now + s[i + 1] * (decay * e + np.sqrt(1 - decay**2) * xi[i])
    return x
