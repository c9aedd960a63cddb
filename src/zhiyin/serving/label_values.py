"""Label values of a metric that stay few and are looked up once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)
Values = str | tuple[str, ...]

OTHER = "other"
"""What a value counts as once there are as many as there may be."""
MAX_TENANTS = 50
"""Tenants with time series of their own; later ones count together."""


class Children(dict[Values, MetricT], Generic[MetricT]):
    """Children of a labelled metric by their label values, made when they are first asked for.

    The library looks a child up under a lock each time; a dictionary is four times as fast, and it can be
    bounded: what comes in over the wire must not make time series without end.

    Args:
        metric: Has one label, or several.
        most: Children that may be made; further ones share the child whose labels all read ``other``. None
            where the values are written in the code, and so are few.
    """

    def __init__(self, metric: MetricT, most: int | None = None) -> None:
        super().__init__()
        self._make: Callable[..., MetricT] = metric.labels
        self._most = most

    def __missing__(self, values: Values) -> MetricT:
        """Make the child of these values, in the order of the labels."""
        given = (values,) if isinstance(values, str) else values
        if self._most is not None and len(self) >= self._most:
            return self._make(*(OTHER,) * len(given))
        return self.setdefault(values, self._make(*given))


class Tenants:
    """Names of tenants as they may stand in a label: the first `MAX_TENANTS`, then ``other``."""

    def __init__(self, most: int = MAX_TENANTS) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def label(self, tenant: str) -> str:
        """Return what stands for a tenant."""
        known = self._known.get(tenant)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        return self._known.setdefault(tenant, tenant)
