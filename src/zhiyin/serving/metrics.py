"""What the service counts, for Prometheus; one registry an app, so that several can live in one process."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from zhiyin.online.engine import LiveEngine

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "zhiyin_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "zhiyin_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "zhiyin_stage_seconds",
            "Time of each stage of a recommendation.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.events_stored = Counter("zhiyin_events_stored", "Events stored.", registry=self.registry)
        self.events_duplicate = Counter(
            "zhiyin_events_duplicate", "Events sent again and not stored again.", registry=self.registry
        )

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count how long a stage took."""
        self.stage_seconds.labels(stage).observe(seconds)

    def watch(self, engine: LiveEngine) -> None:
        """Read what the engine knows itself whenever somebody asks."""
        bundle = Gauge("zhiyin_bundle_info", "Version of the bundle.", ["version"], registry=self.registry)
        bundle.labels(engine.bundle).set(1)
        for name, text, read in (
            ("zhiyin_items", "Items that may be recommended.", lambda: engine.catalogue.n_items),
            ("zhiyin_users", "Users with a history.", lambda: engine.histories.n_users),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)
        self.registry.register(_EngineCounts(engine))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _EngineCounts(Collector):
    """Counters that the engine keeps itself."""

    def __init__(self, engine: LiveEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read them."""
        dropped = self._engine.impressions.n_dropped
        yield CounterMetricFamily("zhiyin_impressions_dropped", "Shown slates not stored.", value=dropped)
        failures = CounterMetricFamily(
            "zhiyin_source_failures", "Times a source failed and was skipped.", labels=["source"]
        )
        for source, count in dict(self._engine.pipeline.failures).items():
            failures.add_metric([source], count)
        yield failures
