"""What the consumers of streams count themselves, read whenever somebody asks for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zhiyin.online.streams.consumer import StreamCounts
from zhiyin.serving.label_values import Tenants

_LABELS = ("stream", "tenant")


class StreamReadings(Collector):
    """Time series of streams; those of one name and tenant, such as of two servers, are added up.

    Args:
        tenants: Bounds the label.
    """

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._counts: dict[tuple[str, str], list[StreamCounts]] = {}

    def add(self, stream: str, tenant: str, counts: StreamCounts) -> Callable[[], float | None]:
        """Read a stream from now on.

        Returns:
            What reads how many messages of all streams of this name are not durable yet; None while nobody
            knows.
        """
        self._counts.setdefault((stream, tenant), []).append(counts)
        return lambda: _lag([one for key, ones in self._counts.items() if key[0] == stream for one in ones])

    def collect(self) -> Iterator[Metric]:
        """Read them."""
        text = "Messages of a stream: stored, dead (put aside as no events), lost (gone too early)."
        messages = CounterMetricFamily("zhiyin_stream_messages", text, labels=[*_LABELS, "outcome"])
        text = "Times that a stream, or the store behind it, did not do what it was asked."
        failures = CounterMetricFamily("zhiyin_stream_failures", text, labels=_LABELS)
        text = "1 while a stream tells how many messages wait in it, 0 while it does not answer."
        answers = GaugeMetricFamily("zhiyin_stream_answers", text, labels=_LABELS)
        for (stream, tenant), counts in list(self._counts.items()):
            labels = [stream, self._tenants.label(tenant)]
            messages.add_metric([*labels, "stored"], sum(one.consumed for one in counts))
            messages.add_metric([*labels, "dead"], sum(one.dead_letters for one in counts))
            messages.add_metric([*labels, "lost"], sum(one.lost for one in counts))
            failures.add_metric(labels, sum(one.failures for one in counts))
            answers.add_metric(labels, float(_lag(counts) is not None))
        yield from (messages, failures, answers)


def _lag(counts: Sequence[StreamCounts]) -> float | None:
    known = [one.lag for one in counts if one.lag is not None]
    return sum(known) if len(known) == len(counts) else None
