"""What a tenant's engine knows itself, read whenever somebody asks for the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zhiyin.serving.label_values import OTHER, Tenants


@dataclass(frozen=True, slots=True)
class TenantState:
    """One tenant at one moment.

    Attributes:
        bundle: Version that serves.
        n_items: Items that may be recommended.
        n_users: Users with a history.
        created: UTC seconds when the bundle was trained; None where nobody knows.
        trained_position: Log position its training data reach to.
        applied_position: Log position this process has taken in.
        newest_position: Newest log position this process has heard of.
        source_failures: Source or stage → times it failed, or was too slow, and was skipped.
        impressions_dropped: Shown slates that were not stored.
    """

    bundle: str
    n_items: int
    n_users: int
    created: float | None = None
    trained_position: int = 0
    applied_position: int = 0
    newest_position: int = 0
    source_failures: Mapping[str, int] = field(default_factory=dict)
    impressions_dropped: int = 0


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Slates of one arm of an experiment, each counted once.

    Attributes:
        experiment: Name; empty where none ran.
        arm: Its arm; empty where none ran.
        slates: Shown to users with an id.
        clicks: Of them, with an event on one of their items.
        conversions: Of them, with a purchase or the like of one of their items.
    """

    experiment: str
    arm: str
    slates: int
    clicks: int
    conversions: int


class EngineReadings(Collector):
    """Time series that are read from the engines and not counted a second time.

    Args:
        tenants: Bounds the label.
        clock: UTC seconds.
    """

    MAX_ARMS = 100
    """Arms of experiments with time series of their own; later ones count together."""

    def __init__(self, tenants: Tenants, clock: Callable[[], float] = time.time) -> None:
        self._tenants = tenants
        self._clock = clock
        self._readers: dict[str, Callable[[], TenantState]] = {}
        self._clicks: list[Callable[[], list[ArmCounts]]] = []

    def add(self, tenant: str, read: Callable[[], TenantState]) -> None:
        """Read a tenant from now on, in place of an earlier reading of it."""
        self._readers[tenant] = read

    def remove(self, tenant: str) -> None:
        """Read a tenant no more."""
        self._readers.pop(tenant, None)

    def add_clicks(self, read: Callable[[], list[ArmCounts]]) -> None:
        """Read what became of shown slates from now on; one call a tenant."""
        self._clicks.append(read)

    def collect(self) -> Iterator[Metric]:
        """Read everybody."""
        states: dict[str, list[TenantState]] = {}
        for tenant, read in list(self._readers.items()):
            states.setdefault(self._tenants.label(tenant), []).append(read())
        yield from self._sizes(states)
        yield from self._versions(states)
        yield from _failures(states)
        yield from self._click_counts()

    def _sizes(self, states: Mapping[str, list[TenantState]]) -> Iterator[Metric]:
        items = GaugeMetricFamily("zhiyin_items", "Items that may be recommended.", labels=["tenant"])
        users = GaugeMetricFamily("zhiyin_users", "Users with a history.", labels=["tenant"])
        for tenant, of_tenant in states.items():
            items.add_metric([tenant], sum(state.n_items for state in of_tenant))
            users.add_metric([tenant], sum(state.n_users for state in of_tenant))
        yield items
        yield users

    def _versions(self, states: Mapping[str, list[TenantState]]) -> Iterator[Metric]:
        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=["tenant", *labels])

        info = gauge("zhiyin_bundle_info", "1 for the version of the bundle that serves.", "version")
        age = gauge("zhiyin_bundle_age_seconds", "Time since the bundle was trained; the oldest.")
        position = gauge("zhiyin_bundle_position", "Log position the training of the bundle reaches to.")
        behind = gauge("zhiyin_bundle_lag_positions", "Log positions that are newer than the training.")
        lag = gauge("zhiyin_log_lag_positions", "Log positions this process knows of and has not taken in.")
        for tenant, of_tenant in states.items():
            if tenant != OTHER:  # versions of many tenants under one name would say nothing
                info.add_metric([tenant, of_tenant[0].bundle], 1)
                position.add_metric([tenant], of_tenant[0].trained_position)
            created = [state.created for state in of_tenant if state.created is not None]
            if created:
                age.add_metric([tenant], max(self._clock() - min(created), 0.0))
            behind.add_metric([tenant], max(s.newest_position - s.trained_position for s in of_tenant))
            lag.add_metric([tenant], max(s.newest_position - s.applied_position for s in of_tenant))
        yield from (info, age, position, behind, lag)

    def _click_counts(self) -> Iterator[Metric]:
        labels = ["experiment", "arm"]
        shown = CounterMetricFamily("zhiyin_slates_shown", "Slates shown to users with an id.", labels=labels)
        clicked = CounterMetricFamily("zhiyin_slates_clicked", "Of them, those with a click.", labels=labels)
        converted = CounterMetricFamily(
            "zhiyin_slates_converted", "Of them, those that led to a purchase or the like.", labels=labels
        )
        sums: dict[tuple[str, str], list[int]] = {}
        for counts in (counts for read in self._clicks for counts in read()):
            key = (counts.experiment, counts.arm)
            if key not in sums and len(sums) >= self.MAX_ARMS:
                key = (OTHER, OTHER)
            total = sums.setdefault(key, [0, 0, 0])
            for place, count in enumerate((counts.slates, counts.clicks, counts.conversions)):
                total[place] += count
        for (experiment, arm), total in sums.items():
            for family, count in zip((shown, clicked, converted), total, strict=True):
                family.add_metric([experiment, arm], count)
        yield from (shown, clicked, converted)


def _failures(states: Mapping[str, list[TenantState]]) -> Iterator[Metric]:
    everybody = [state for of_tenant in states.values() for state in of_tenant]
    dropped = sum(state.impressions_dropped for state in everybody)
    yield CounterMetricFamily("zhiyin_impressions_dropped", "Shown slates not stored.", value=dropped)
    sums: dict[str, int] = {}
    for state in everybody:
        for source, count in dict(state.source_failures).items():
            sums[source] = sums.get(source, 0) + count
    failures = CounterMetricFamily(
        "zhiyin_source_failures",
        "Times a source or stage failed, or was too slow, and was skipped.",
        labels=["source"],
    )
    for source, count in sums.items():
        failures.add_metric([source], count)
    yield failures
