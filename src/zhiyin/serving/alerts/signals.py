"""What rules can look at: numbers made of the service's own metrics over a window of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client import CollectorRegistry

Samples: TypeAlias = Mapping[str, list[tuple[Mapping[str, str], float]]]
"""Name of a sample → its labels and value, for all label values."""

MIN_CASES = 20
"""Requests, slates or events below which a share or a quantile says nothing."""


@dataclass(frozen=True)
class Reading:
    """All samples at one moment.

    Attributes:
        time: Seconds of a clock that never goes back.
        samples: What the registry held.
    """

    time: float
    samples: Samples


class Window:
    """The metrics at the two ends of a window.

    Args:
        old: Its beginning.
        new: Its end.
        where: Label → value a sample must have, where it has the label; others are not looked at.
    """

    def __init__(self, old: Reading, new: Reading, where: Mapping[str, str] | None = None) -> None:
        self.seconds = new.time - old.time
        self._old = old.samples
        self._new = new.samples
        self._where = dict(where or {})

    def gained(self, name: str, label: str = "", starting: str = "") -> float:
        """Return by how much counters grew, added up.

        Args:
            name: Of the sample, such as ``zhiyin_requests_total``.
            label: Only samples with this label…
            starting: …beginning with these letters.
        """
        before, after = (
            sum(value for labels, value in self._chosen(samples, name) if _begins(labels, label, starting))
            for samples in (self._old, self._new)
        )
        return max(after - before, 0.0)

    def rate(self, name: str, label: str = "", starting: str = "") -> float | None:
        """Return how much counters grew a second; see `gained`."""
        return self.gained(name, label, starting) / self.seconds if self.seconds > 0 else None

    def share(self, part: float, whole: float) -> float | None:
        """Return part / whole, None where the whole is less than `MIN_CASES`."""
        return part / whole if whole >= MIN_CASES else None

    def largest(self, name: str) -> float | None:
        """Return the largest gauge of a name now."""
        return max((value for _, value in self._chosen(self._new, name)), default=None)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Return gauges now by one label."""
        return {labels.get(label, ""): value for labels, value in self._chosen(self._new, name)}

    def quantile(self, name: str, q: float) -> float | None:
        """Return a quantile of what a histogram took in during the window.

        Linear within the bucket that holds it, as Prometheus' ``histogram_quantile``; above the last finite
        bound it is that bound. None where fewer than `MIN_CASES` came in.

        Args:
            name: Of the histogram, without ``_bucket``.
            q: 0 to 1.
        """
        before = self._buckets(self._old, name)
        counts = [(bound, count - before.get(bound, 0.0)) for bound, count in self._now(name)]
        if not counts or counts[-1][1] < MIN_CASES:
            return None
        wanted = q * counts[-1][1]
        low, below = 0.0, 0.0
        for bound, count in counts:
            if count >= wanted:
                if bound == float("inf"):
                    return low
                return low + (bound - low) * (wanted - below) / max(count - below, 1e-12)
            low, below = bound, count
        return low

    def _now(self, name: str) -> list[tuple[float, float]]:
        return sorted(self._buckets(self._new, name).items())

    def _buckets(self, samples: Samples, name: str) -> dict[float, float]:
        sums: dict[float, float] = {}
        for labels, value in self._chosen(samples, f"{name}_bucket"):
            bound = float(labels["le"])
            sums[bound] = sums.get(bound, 0.0) + value
        return sums

    def _chosen(self, samples: Samples, name: str) -> Iterable[tuple[Mapping[str, str], float]]:
        for labels, value in samples.get(name, ()):
            if all(labels.get(label, wanted) == wanted for label, wanted in self._where.items()):
                yield labels, value


@dataclass(frozen=True)
class Signal:
    """One number a rule can watch.

    Attributes:
        name: As a rule writes it; ends in its unit.
        meaning: What it is.
        samples: Names of the samples it is made of.
        read: Returns it for a window; None where nothing can be said.
    """

    name: str
    meaning: str
    samples: tuple[str, ...]
    read: Callable[[Window], float | None]


def take_reading(registry: CollectorRegistry, time: float) -> Reading:
    """Read everything that any signal is made of."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {name: [] for name in _WANTED}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in found:
                found[sample.name].append((sample.labels, sample.value))
    return Reading(time, found)


def _quantile(name: str, meaning: str, histogram: str, q: float) -> Signal:
    return Signal(name, meaning, (f"{histogram}_bucket",), lambda window: window.quantile(histogram, q))


def _rate(name: str, meaning: str, counter: str) -> Signal:
    return Signal(name, meaning, (counter,), lambda window: window.rate(counter))


def _largest(name: str, meaning: str, gauge: str) -> Signal:
    return Signal(name, meaning, (gauge,), lambda window: window.largest(gauge))


def _share(name: str, meaning: str, part: str, whole: str) -> Signal:
    return Signal(
        name, meaning, (part, whole), lambda window: window.share(window.gained(part), window.gained(whole))
    )


def _error_rate(window: Window) -> float | None:
    name = "zhiyin_requests_total"
    return window.share(window.gained(name, "status", "5"), window.gained(name))


def _fullest_queue(window: Window) -> float | None:
    depths = window.by_label("zhiyin_queue_depth", "queue")
    bounds = window.by_label("zhiyin_queue_capacity", "queue")
    return max((depths[queue] / bounds[queue] for queue in depths if bounds.get(queue)), default=None)


def _begins(labels: Mapping[str, str], label: str, starting: str) -> bool:
    return not label or labels.get(label, "").startswith(starting)


_SLATES = "zhiyin_slates_shown_total"
_MESSAGES = "zhiyin_stream_messages_total"
_ALL = (
    _quantile("latency_p50_seconds", "Half of the requests take longer.", "zhiyin_request_seconds", 0.5),
    _quantile(
        "latency_p99_seconds", "One of a hundred requests takes longer.", "zhiyin_request_seconds", 0.99
    ),
    _rate("requests_per_second", "Requests answered.", "zhiyin_requests_total"),
    Signal("error_rate", "Share of requests answered with 5xx.", ("zhiyin_requests_total",), _error_rate),
    _rate("events_per_second", "Events stored.", "zhiyin_events_stored_total"),
    _share("click_rate", "Share of shown slates with a click.", "zhiyin_slates_clicked_total", _SLATES),
    _share(
        "conversion_rate",
        "Share of shown slates that led to a purchase or the like.",
        "zhiyin_slates_converted_total",
        _SLATES,
    ),
    _quantile(
        "freshness_p99_seconds",
        "One of a hundred events takes longer to be reflected.",
        "zhiyin_freshness_seconds",
        0.99,
    ),
    _largest(
        "log_lag_positions", "Log positions not taken in, of the worst tenant.", "zhiyin_log_lag_positions"
    ),
    _largest("queue_depth", "How many wait in the longest queue.", "zhiyin_queue_depth"),
    Signal(
        "queue_share",
        "How full the fullest bounded queue is, 0 to 1.",
        ("zhiyin_queue_depth", "zhiyin_queue_capacity"),
        _fullest_queue,
    ),
    _rate("shed_per_second", "Requests refused because of load.", "zhiyin_shed_total"),
    _rate("rate_limited_per_second", "Requests refused by the limit of a key.", "zhiyin_rate_limited_total"),
    _rate("fallbacks_per_second", "Answers that are less than the best.", "zhiyin_fallbacks_total"),
    _rate("store_errors_per_second", "Failures of a store.", "zhiyin_store_errors_total"),
    _rate(
        "stream_failures_per_second",
        "Times that a stream, or the store behind it, did not do what it was asked.",
        "zhiyin_stream_failures_total",
    ),
    Signal(
        "dead_letters_per_second",
        "Messages of streams put aside because they are no events.",
        (_MESSAGES,),
        lambda window: window.rate(_MESSAGES, "outcome", "dead"),
    ),
    _rate(
        "source_failures_per_second",
        "Sources and stages that failed, or were too slow, and were skipped.",
        "zhiyin_source_failures_total",
    ),
    _largest("bundle_age_seconds", "Age of the oldest bundle that serves.", "zhiyin_bundle_age_seconds"),
    _largest("bundle_lag_positions", "Log positions newer than the training.", "zhiyin_bundle_lag_positions"),
    _largest("drift_score", "Largest drift score; above 1 the data have drifted.", "zhiyin_drift_score"),
    _largest("memory_bytes", "Memory of the process.", "process_resident_memory_bytes"),
)
SIGNALS: Mapping[str, Signal] = {signal.name: signal for signal in _ALL}
"""Everything a rule can watch, by name."""
_WANTED = frozenset(name for signal in _ALL for name in signal.samples)
