"""How sure a mean difference over the same pictures is: a paired bootstrap over clusters of related pictures."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 500  # 8 MB of weights for 2000 clusters
_NORMAL = NormalDist()


class Interval(NamedTuple):
    low: float
    high: float


def paired_interval(
    differences: ArrayLike, clusters: Sequence[str], confidence: float, resamples: int, seed: int
) -> Interval | None:
    """Two-sided interval of the mean difference.

    Whole clusters are drawn with replacement, since pictures of one scene or source go up and down together; the mean of a
    draw is over its pictures. The ends are percentiles of the draws' means, taken further out than 2.5 and 97.5 % by what
    Student's t is wider than the normal distribution for so many clusters: the "expanded percentile interval" (T. Hesterberg,
    "What Teachers Should Know about the Bootstrap", 2015), since the plain one is too short on small sets. Which clusters are
    drawn depends on seed and count alone, so raising any difference never lowers an end.

    Args:
        differences: [N] candidate minus live, one a picture.
        clusters: [N] key of each picture's cluster.
        confidence: 0..1, both ends together.
        resamples: number of draws.
        seed: the same seed gives the same interval, in whatever order the pictures come.

    Returns:
        The interval, or None for fewer than two clusters.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    if names.size < 2:
        return None
    # One order of addition whatever the order of the pictures, or the last bit would differ.
    values: NDArray[np.float64] = np.asarray(differences, dtype=np.float64)
    order = np.lexsort((values, index))
    sums = np.bincount(index[order], weights=values[order], minlength=names.size).astype(np.float64)
    counts = np.bincount(index, minlength=names.size).astype(np.float64)
    tail = expanded_tail(confidence, names.size)
    low, high = np.quantile(_means(sums, counts, resamples, seed), [tail, 1 - tail])
    return Interval(float(low), float(high))


def expanded_tail(confidence: float, n: int) -> float:
    """The share of draws beyond each end: Phi(-t sqrt(n / (n - 1))), t Student's quantile of n - 1 degrees of freedom."""
    return _NORMAL.cdf(-math.sqrt(n / (n - 1)) * _student(1 - (1 - confidence) / 2, n - 1))


def _student(probability: float, freedom: int) -> float:
    """Student's t quantile (Abramowitz and Stegun 26.7.5); within 2 % of the true one from 5 degrees of freedom on."""
    x = _NORMAL.inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return float(x + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def _means(sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean over the pictures of each draw of clusters, [resamples]."""
    rng, n = np.random.default_rng(seed), sums.size
    means = []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(_DRAWS_AT_ONCE, resamples - start))
        means.append((drawn @ sums) / (drawn @ counts))
    return np.concatenate(means)
