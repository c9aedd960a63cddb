"""What the service counts, for Prometheus; one registry an app, so that several can live in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from zhiyin import __version__
from zhiyin.serving.label_values import Children, Tenants
from zhiyin.serving.stream_readings import StreamReadings
from zhiyin.serving.tenant_state import EngineReadings, TenantState

REQUEST_SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the latency buckets, seconds."""
STAGE_SECONDS = (0.0001, 0.00025, *REQUEST_SECONDS)
FRESHNESS_SECONDS = (*REQUEST_SECONDS, 30.0, 60.0, 300.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_KINDS = 40
"""Words for event kinds with time series of their own; later ones count together."""

_OUTCOMES = {1: "ok", 2: "ok", 3: "ok", 4: "refused", 5: "failed"}


class Metrics:
    """Counters and histograms of one service.

    Every method that a request calls costs a microsecond or two and may be called from any thread.

    Attributes:
        registry: Holds everything; nothing is global.
        tenants: Names of tenants as they may stand in a label.
        stages: Stage → histogram of seconds, for a caller who measures by itself.
        in_progress: Requests that are being answered at this moment, kept by the middleware.
        streams: Reads the consumers of streams.
        listener: Told of each stage too, in the thread where it ended; None where nobody listens.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tenants = Tenants()
        self.in_progress = 0
        self.listener: Callable[[str, float], None] | None = None
        self._count_requests()
        self._count_work()
        self._count_events()
        self._count_troubles()
        self._count_alerts()
        self._queues = _QueueDepths()
        self._engines = EngineReadings(self.tenants)
        self.streams = StreamReadings(self.tenants)
        self.registry.register(self._queues)
        self.registry.register(self._engines)
        self.registry.register(self.streams)
        ProcessCollector(registry=self.registry)
        self._gauge("zhiyin_build_info", "1 for the version of Zhiyin.", "version").labels(__version__).set(1)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request.

        Args:
            route: Template of the path, so that no id becomes a label.
            method: One of the methods of HTTP, or OTHER.
            status: 100 to 599.
            seconds: From the first byte of the request to the last of its answer.
        """
        self._requests[route, method, str(status)].inc()
        self._request_seconds[route].observe(seconds)

    def count_tenant(self, tenant: str, status: int) -> None:
        """Count one answered request of a tenant as ``ok``, ``refused`` (4xx) or ``failed`` (5xx)."""
        label = self.tenants.label(tenant)
        self._tenant_requests[label, _OUTCOMES.get(status // 100, "failed")].inc()

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count how long a stage took: gate, queue, history, filter, rank, explain, serialise, commit, …."""
        self.stages[stage].observe(seconds)
        if self.listener is not None:
            self.listener(stage, seconds)

    def observe_batch(self, n_requests: int) -> None:
        """Count how many requests were computed together."""
        self.batch_size.observe(n_requests)

    def observe_freshness(self, tenant: str, seconds: float) -> None:
        """Count the time from the acceptance of an event until answers of this process reflect it."""
        self._freshness[self.tenants.label(tenant)].observe(seconds)

    def count_events(self, tenant: str, kinds: Iterable[tuple[str, int]], n_duplicates: int = 0) -> None:
        """Count accepted events.

        Args:
            tenant: Whose.
            kinds: Event kind and how many were stored.
            n_duplicates: Sent again and not stored again.
        """
        n_stored = 0
        for kind, count in kinds:
            self._kinds[kind].inc(count)
            n_stored += count
        self.events_stored.inc(n_stored)
        self._tenant_events[self.tenants.label(tenant)].inc(n_stored)
        if n_duplicates:
            self.events_duplicate.inc(n_duplicates)

    def count_cache(self, cache: str, *, hit: bool, n: int = 1) -> None:
        """Count looks into a cache."""
        self._cache[cache, "hit" if hit else "miss"].inc(n)

    def count_fallback(self, reason: str) -> None:
        """Count an answer that is less than the best one: ``time``, ``stale``, …."""
        self._fallbacks[reason].inc()

    def count_shed(self, reason: str) -> None:
        """Count a request refused because of load: ``queue``, ``time``, ``memory``, …."""
        self._shed[reason].inc()

    def count_limited(self, tenant: str) -> None:
        """Count a request refused because its key asked too often."""
        self._limited[self.tenants.label(tenant)].inc()

    def count_store_error(self, store: str) -> None:
        """Count a failure of ``database``, ``redis`` or another store."""
        self._store_errors[store].inc()

    def count_swap(self, tenant: str, *, succeeded: bool) -> None:
        """Count an exchange of the bundle in use, or an attempt."""
        self._swaps[self.tenants.label(tenant), "done" if succeeded else "failed"].inc()

    def count_learning(self, tenant: str, step: str) -> None:
        """Count a step of a learning loop that runs in this process."""
        self._learning[self.tenants.label(tenant), step].inc()

    def set_drift(self, tenant: str, measure: str, score: float) -> None:
        """Keep the newest level of a drift measure: 0 steady, 1 moving, 2 an alert."""
        self._drift[self.tenants.label(tenant), measure].set(score)

    def set_alert(self, alert: str, *, firing: bool) -> None:
        """Keep whether an alert of this process fires."""
        self._alerts[alert].set(float(firing))

    def count_delivery(self, outcome: str) -> None:
        """Count a message to the webhook: ``delivered``, ``failed`` or ``dropped``."""
        self._deliveries[outcome].inc()

    def watch_queue(
        self, queue: str, depth: Callable[[], float | None], capacity: float | None = None
    ) -> None:
        """Read how many wait in a queue (``recommend``, ``writer``, ``impressions``, ``stream NAME``, …).

        Args:
            queue: Its name.
            depth: Returns how many wait; None while nobody knows, and then nothing is told.
            capacity: How many may wait, where there is a bound.
        """
        self._queues.add(queue, depth, capacity)

    def watch_tenant(self, tenant: str, read: Callable[[], TenantState]) -> None:
        """Read a tenant's engine at each scrape; a second call for the tenant replaces the first."""
        self._engines.add(tenant, read)

    def forget_tenant(self, tenant: str) -> None:
        """Read a tenant no more."""
        self._engines.remove(tenant)

    @property
    def engines(self) -> EngineReadings:
        """What is read from the engines; `EngineReadings.add_clicks` takes the live click counts."""
        return self._engines

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count_requests(self) -> None:
        requests = self._counter("zhiyin_requests", "Requests answered.", "route", "method", "status")
        self._requests = Children(requests)
        seconds = "Time from the first byte of a request to the last of its answer."
        self._request_seconds = Children(
            self._histogram("zhiyin_request_seconds", seconds, REQUEST_SECONDS, "route")
        )
        of_tenant = self._counter(
            "zhiyin_tenant_requests", "Requests of a tenant: ok, refused or failed.", "tenant", "outcome"
        )
        self._tenant_requests = Children(of_tenant)
        running = self._gauge("zhiyin_requests_in_progress", "Requests being answered.")
        running.set_function(lambda: self.in_progress)

    def _count_work(self) -> None:
        text = "Time of each stage of a request."
        self.stages = Children(self._histogram("zhiyin_stage_seconds", text, STAGE_SECONDS, "stage"))
        self.batch_size = self._histogram("zhiyin_batch_size", "Requests computed together.", BATCH_SIZES)
        cache = self._counter("zhiyin_cache_requests", "Looks into a cache: hit or miss.", "cache", "result")
        self._cache = Children(cache)
        text = "Answers that are less than the best: out of time, or stale while the log cannot be read."
        self._fallbacks = Children(self._counter("zhiyin_fallbacks", text, "reason"))

    def _count_events(self) -> None:
        self.events_stored = self._counter("zhiyin_events_stored", "Events stored.")
        self.events_duplicate = self._counter(
            "zhiyin_events_duplicate", "Events sent again and not stored again."
        )
        text = "Events stored, by event kind."
        self._kinds = Children(self._counter("zhiyin_events_by_kind", text, "kind"), MAX_KINDS)
        text = "Events stored, by tenant."
        self._tenant_events = Children(self._counter("zhiyin_tenant_events", text, "tenant"))
        text = "Time from the acceptance of an event until answers of this process reflect it."
        self._freshness = Children(
            self._histogram("zhiyin_freshness_seconds", text, FRESHNESS_SECONDS, "tenant")
        )

    def _count_troubles(self) -> None:
        self._shed = Children(self._counter("zhiyin_shed", "Requests refused because of load.", "reason"))
        text = "Requests refused because their key asked too often."
        self._limited = Children(self._counter("zhiyin_rate_limited", text, "tenant"))
        text = "Failures of a store."
        self._store_errors = Children(self._counter("zhiyin_store_errors", text, "store"))
        text = "Exchanges of the bundle in use: done or failed."
        self._swaps = Children(self._counter("zhiyin_bundle_swaps", text, "tenant", "outcome"))
        text = "Steps of the learning loops in this process; those that failed are called error."
        self._learning = Children(self._counter("zhiyin_learning_steps", text, "tenant", "step"))
        text = "Newest level of what drifts: 0 steady, 1 moving, 2 an alert."
        self._drift = Children(self._gauge("zhiyin_drift_score", text, "tenant", "measure"))

    def _count_alerts(self) -> None:
        text = "1 while an alert of this process fires."
        self._alerts = Children(self._gauge("zhiyin_alert_firing", text, "alert"))
        text = "Messages to the webhook: delivered, failed or dropped."
        self._deliveries = Children(self._counter("zhiyin_webhook_messages", text, "outcome"))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=bounds, registry=self.registry)


class _QueueDepths(Collector):
    """How many wait in each queue, and how many may."""

    def __init__(self) -> None:
        self._queues: dict[str, tuple[Callable[[], float | None], float | None]] = {}

    def add(self, queue: str, depth: Callable[[], float | None], capacity: float | None) -> None:
        """Read a queue from now on."""
        self._queues[queue] = (depth, capacity)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read them."""
        depths = GaugeMetricFamily("zhiyin_queue_depth", "How many wait in a queue.", labels=["queue"])
        bounds = GaugeMetricFamily("zhiyin_queue_capacity", "How many may wait.", labels=["queue"])
        for queue, (depth, capacity) in list(self._queues.items()):
            waiting = depth()
            if waiting is not None:
                depths.add_metric([queue], waiting)
            if capacity is not None:
                bounds.add_metric([queue], capacity)
        yield from (depths, bounds)
