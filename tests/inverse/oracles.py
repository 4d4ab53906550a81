"""Posteriors in closed form, and the methods' formulas with dense matrices: NumPy in float64.

Nothing here is shared with flowjax. The schedule is CondOT: alpha = t, sigma = 1 - t.
"""

import itertools

import numpy as np
from scipy import special, stats


def mixture_at(mixture, t, x):
    """E[x_1 | x_t], Cov[x_1 | x_t] and the shares of (weights, means, covariances)."""
    weights, means, covariances = mixture
    logs, expected, spreads = [], [], []
    for w, mean, c in zip(weights, means, covariances, strict=True):
        marginal = t**2 * c + (1 - t) ** 2 * np.eye(len(mean))
        gain = t * c @ np.linalg.inv(marginal)
        logs.append(np.log(w) + stats.multivariate_normal.logpdf(x, t * mean, marginal))
        expected.append(mean + gain @ (x - t * mean))
        spreads.append(c - t * gain @ c)
    shares = special.softmax(logs)
    data = shares @ expected
    apart = [np.outer(e - data, e - data) for e in expected]
    covariance = sum(s * (c + a) for s, c, a in zip(shares, spreads, apart, strict=True))
    return data, covariance, shares


def posterior(mixture, a, y, noise):
    """The mixture given y = a x + N(0, noise), as (weights, means, covariances), and log p(y)."""
    logs, means, covariances = [], [], []
    for w, mean, c in zip(*mixture, strict=True):
        spread = a @ c @ a.T + noise
        gain = c @ a.T @ np.linalg.inv(spread)
        logs.append(np.log(w) + stats.multivariate_normal.logpdf(y, a @ mean, spread))
        means.append(mean + gain @ (y - a @ mean))
        covariances.append(c - gain @ a @ c)
    return (special.softmax(logs), means, covariances), special.logsumexp(logs)


def moments(mixture):
    """Mean and covariance of a mixture."""
    weights, means, covariances = (np.asarray(part) for part in mixture)
    mean = weights @ means
    apart = means - mean
    return mean, np.einsum("k,kij->ij", weights, covariances + apart[:, :, None] * apart[:, None])


def gradient(method, mixture, t, x, a, y, noise, c=1.0):
    """Its approximation of the gradient of log p(y | x_t), with every matrix written out."""
    data, covariance, _ = mixture_at(mixture, t, x)
    s2 = (1 - t) ** 2
    jacobian = t / s2 * covariance
    if method == "dps":
        between = noise
    elif method == "pigdm":
        between = noise + s2 * c**2 / (s2 + t**2 * c**2) * a @ a.T
    else:
        between = noise + a @ covariance @ a.T
    return jacobian.T @ a.T @ np.linalg.solve(between, y - a @ data)


def exact_gradient(mixture, t, x, a, y, noise, h=1e-5):
    """The gradient of log p(y | x_t) by central differences of its closed form."""

    def log_likelihood(x):
        logs = []
        _, means, covariances = mixture
        _, _, shares = mixture_at(mixture, t, x)
        for share, mean, c in zip(shares, means, covariances, strict=True):
            gain = t * c @ np.linalg.inv(t**2 * c + (1 - t) ** 2 * np.eye(len(mean)))
            data, spread = mean + gain @ (x - t * mean), c - t * gain @ c
            density = stats.multivariate_normal.logpdf(y, a @ data, a @ spread @ a.T + noise)
            logs.append(np.log(share) + density)
        return special.logsumexp(logs)

    units = h * np.eye(len(x))
    return np.array([(log_likelihood(x + e) - log_likelihood(x - e)) / (2 * h) for e in units])


def chain(mean, std, ts):
    """Mean and variance of the ancestral chain of N(mean, std^2) in one dimension, at its end."""
    m, var = 0.0, 1.0
    for t0, t1 in itertools.pairwise(ts):
        v0 = (t0 * std) ** 2 + (1 - t0) ** 2
        decay = t0 * (1 - t1) / ((1 - t0) * t1)
        slope_d, slope_e = t0 * std**2 / v0, (1 - t0) / v0
        gain = t1 * slope_d + (1 - t1) * decay * slope_e
        # D = mean + slope_d (x - t0 mean), E = slope_e (x - t0 mean).
        m = t1 * mean + gain * (m - t0 * mean)
        var = gain**2 * var + ((1 - t1) ** 2) * (1 - decay**2)
    return m, var
