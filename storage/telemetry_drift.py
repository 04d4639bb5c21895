"""How far the scores of late have moved from those that were expected: the population stability index.

    PSI = sum over bins of (recent share - expected share) * ln(recent share / expected share)

(N. Siddiqi, "Credit Risk Scorecards", 2006, who reads below 0.1 as no change, 0.1 to 0.25 as some, above as much; the sum
is the symmetric Kullback-Leibler divergence of the two histograms.) An empty bin would make it infinite, so half a score is
added to every bin. Without any drift its mean is near (bins - 1) * (1 / n_recent + 1 / n_expected) (B. Yurdakul,
"Statistical Properties of Population Stability Index", 2018): 0.02 for ten bins and a thousand scores on either side.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CARD_FIELD: Final = "score_histogram"
"""In a card's metrics: how many validation pictures scored in each of equally wide bins from 0 to 1."""

RECENT_SCORES: Final = 1000
_BINS: Final = 10
_LEAST_SCORES: Final = 200
_ADDED: Final = 0.5


@dataclass(frozen=True)
class Reference:
    """The scores that are expected, as a histogram.

    Attributes:
        edges: [K - 1] rising scores that part the bins; a score equal to an edge lies above it.
        counts: [K] scores in each bin.
        source: where they come from: "card", or "first" scores of the version itself.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    source: str

    @classmethod
    def of_scores(cls, scores: ArrayLike) -> "Reference":
        """Ten bins that hold a tenth of these scores each; fewer where many scores are equal.

        Args:
            scores: [N] calibrated scores, 0..1, N >= 1.
        """
        values = np.asarray(scores, dtype=np.float64)
        edges = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS))
        return cls(edges, _counts(values, edges), "first")

    @classmethod
    def of_card(cls, metrics: Mapping[str, Any]) -> "Reference | None":
        """From the metrics of a model card; None if they hold no histogram of at least two bins and some pictures."""
        counts = metrics.get(CARD_FIELD)
        if not isinstance(counts, Sequence) or len(counts) < 2:
            return None
        if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) < _LEAST_SCORES:
            return None
        return cls(np.linspace(0, 1, len(counts) + 1)[1:-1], np.array(counts, dtype=np.int64), "card")


def population_stability_index(reference: Reference, scores: ArrayLike) -> float:
    """PSI of scores against a reference; 0 where both have the same shares.

    Args:
        reference: what is expected.
        scores: [N] calibrated scores, 0..1, N >= 1.
    """
    expected, recent = _shares(reference.counts), _shares(_counts(np.asarray(scores, dtype=np.float64), reference.edges))
    return float(np.sum((recent - expected) * np.log(recent / expected)))


def _counts(scores: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    bins = np.searchsorted(edges, scores, side="right")
    return np.bincount(bins, minlength=len(edges) + 1).astype(np.int64)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray((counts + _ADDED) / (counts.sum() + _ADDED * len(counts)), dtype=np.float64)


class ScoreDrift(Collector):
    """The newest thousand scores of the live version, and their PSI when somebody scrapes."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._recent: deque[float] = deque(maxlen=RECENT_SCORES)
        self._first: list[float] = []
        self._reference: Reference | None = None

    def restart(self, card_metrics: Mapping[str, Any]) -> None:
        """Forget all scores: from now on they are another version's.

        Args:
            card_metrics: of that version; without a histogram in them its first thousand scores are the reference.
        """
        with self._gate:
            self._recent.clear()
            self._first = []
            self._reference = Reference.of_card(card_metrics)

    def add(self, score: float) -> None:
        """Note one picture's calibrated score."""
        with self._gate:
            if self._reference is None:
                self._first.append(score)
                if len(self._first) == RECENT_SCORES:
                    self._reference, self._first = Reference.of_scores(self._first), []
            else:
                self._recent.append(score)

    def index(self) -> tuple[str, float] | None:
        """Where the reference comes from, and the PSI; None while there are too few scores to tell."""
        with self._gate:
            reference, scores = self._reference, list(self._recent)
        if reference is None or len(scores) < _LEAST_SCORES:
            return None
        return reference.source, population_stability_index(reference, scores)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry, at each scrape."""
        family = GaugeMetricFamily(
            "tamperwatch_score_psi_ratio",
            "Population stability index of the newest scores against the reference; above 0.25 they have moved much",
            labels=["reference"],
        )
        found = self.index()
        if found is not None:
            family.add_metric([found[0]], found[1])
        yield family
