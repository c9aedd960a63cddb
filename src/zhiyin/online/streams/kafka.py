"""Events out of a topic of Apache Kafka, Redpanda or whatever else speaks its protocol.

Offsets are committed after the events before them are durable, never by the clock. When the group shares its
partitions anew, what is under way is finished first; what cannot be finished in time is delivered again to
the new owner, and known by its event id.
"""

from __future__ import annotations

import logging
import time
from importlib.util import find_spec
from typing import Any

from zhiyin.domain.errors import ConfigError, MissingExtra, StoreError
from zhiyin.online.streams.consumer import WAIT_SECONDS, StreamConsumer
from zhiyin.online.streams.deliveries import Accept, Batch
from zhiyin.online.streams.messages import Message
from zhiyin.online.streams.settings import StreamSettings

_LOG = logging.getLogger(__name__)
_BRIEFLY = 0.01
_POLL_EVERY_SECONDS = 1.0
_REBALANCE_SECONDS = 5.0
_DEAD_LETTER_SECONDS = 5.0
_LAG_EVERY_SECONDS = 2.0
_ASKED_SECONDS = 1.0


class KafkaConsumer(StreamConsumer):
    """Reads a topic as one member of a consumer group; see `StreamConsumer`.

    Args:
        settings: Which topic, and how.
        accept: Where events go.

    Raises:
        MissingExtra: when the package confluent-kafka is not installed.
        ConfigError: when librdkafka does not know one of the options.
    """

    def __init__(self, settings: StreamSettings, accept: Accept) -> None:
        super().__init__(settings, accept)
        if find_spec("confluent_kafka") is None:
            raise MissingExtra("confluent-kafka", "kafka")
        import confluent_kafka  # noqa: PLC0415

        self._kafka = confluent_kafka
        codes = confluent_kafka.KafkaError
        self._sharing_anew = (
            codes.REBALANCE_IN_PROGRESS,
            codes.ILLEGAL_GENERATION,
            codes.UNKNOWN_MEMBER_ID,
            codes._NO_OFFSET,
        )
        shared = {"bootstrap.servers": settings.server, "client.id": settings.consumer, "logger": _LOG}
        try:
            self._consumer = confluent_kafka.Consumer(
                {
                    **shared,
                    "group.id": settings.group,
                    "error_cb": self._went_away,
                    "auto.offset.reset": "earliest" if settings.begin == "oldest" else "latest",
                    **settings.client_settings,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                }
            )
            self._producer = (
                confluent_kafka.Producer({**shared, **_for_producers(settings.client_settings)})
                if settings.dead_letters
                else None
            )
        except confluent_kafka.KafkaException as error:
            raise ConfigError(
                f"The Kafka client refuses the settings of stream '{settings.stream}': {_words(error)}",
                remedy="Options with a dot in the URL are those of librdkafka.",
            ) from None
        self._is_subscribed = False
        self._was_assigned = False
        self._is_away = False
        self._owned: set[int] = set()
        self._durable: dict[int, int] = {}  # partition → offset to be told: all before it is durable
        self._next: dict[int, int] = {}  # partition → offset that was told
        self._count_lag_at = 0.0
        self._polled_at = 0.0

    def _turn(self) -> None:
        if not self._is_subscribed:
            self._subscribe()
        # Polled before anything that may fail: a member that does not poll is thrown out of its group.
        self._read()
        self._settle_finished()
        self._commit()
        self._watch()

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            [self.settings.stream], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        self._is_subscribed = True

    def _read(self) -> None:
        if not self._deliveries.is_full:
            patience = _BRIEFLY if len(self._deliveries) else WAIT_SECONDS
            self._polled_at = time.monotonic()
            self._take(self._consumer.consume(self.settings.batch_size, timeout=patience))
            return
        if time.monotonic() - self._polled_at > _POLL_EVERY_SECONDS:
            self._stay_in_group()
        self._deliveries.wait(WAIT_SECONDS)

    def _stay_in_group(self) -> None:
        """Poll without reading; seldom, because pausing throws away what was fetched ahead."""
        self._polled_at = time.monotonic()
        self._consumer.pause(self._partitions())
        try:
            self._take(self._consumer.consume(1, timeout=0))
        finally:
            self._consumer.resume(self._partitions())

    def _take(self, found: list[Any]) -> None:
        messages = []
        for record in found:
            error = record.error()
            if error is None:
                messages.append(self._as_message(record))
            elif error.code() != self._kafka.KafkaError._PARTITION_EOF:
                self.counts.failures += 1
                self.counts.last_error = error.str()
                self._warn("%s", error.str())
        if messages:
            self._is_away = False
            self._deliveries.hand_over(messages)

    def _as_message(self, record: Any) -> Message:
        kind, milliseconds = record.timestamp()
        has_time = kind != self._kafka.TIMESTAMP_NOT_AVAILABLE and milliseconds >= 0
        # With its time, because the offsets of a topic that is made again begin at 0 again.
        return Message(
            f"{record.topic()}/{record.partition()}/{record.offset()}@{milliseconds}",
            record.value() or b"",
            milliseconds / 1000 if has_time else time.time(),
            (record.partition(), record.offset()),
        )

    def _settle(self, batch: Batch) -> None:
        if batch.dead and self._producer is not None:
            self._put_aside(batch, self._producer)
        for message in batch.messages:
            partition, offset = message.mark
            if partition in self._owned:
                self._durable[partition] = max(self._durable.get(partition, 0), offset + 1)
        self._commit()

    def _commit(self) -> None:
        """Tell the group up to where everything is durable."""
        if not self._durable:
            return
        offsets = [self._kafka.TopicPartition(self.settings.stream, *each) for each in self._durable.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as error:
            if error.args[0].code() in self._sharing_anew:
                return  # told again with the next ones, if the partitions stay here; else delivered again
            raise StoreError(f"Kafka did not take the offsets: {_words(error)}") from None
        self._next.update(self._durable)
        self._durable.clear()

    def _put_aside(self, batch: Batch, producer: Any) -> None:
        """Write the dead letters and wait until the servers have them."""
        failed: list[str] = []

        def told(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error.str())

        for letter in batch.dead:
            producer.produce(
                self.settings.dead_letters,
                value=letter.message.payload,
                headers={"reason": letter.reason, "position": letter.message.position},
                on_delivery=told,
            )
        n_left = producer.flush(_DEAD_LETTER_SECONDS)
        if n_left or failed:
            raise StoreError(
                f"The dead letters of stream '{self.settings.stream}' were not taken by topic"
                f" '{self.settings.dead_letters}': {failed[0] if failed else 'no answer'}.",
                remedy="See that the topic exists and may be written to.",
            )

    def _went_away(self, error: Any) -> None:
        """Hear of connections that broke; the client logs them and connects again by itself."""
        self.counts.last_error = error.str()
        # One connection of several that broke is made again, or another one is taken.
        self.counts.failures += error.code() != self._kafka.KafkaError._TRANSPORT
        if error.code() == self._kafka.KafkaError._ALL_BROKERS_DOWN:
            self._is_away = True
            self.counts.lag = None

    def _assigned(self, _: Any, partitions: list[Any]) -> None:
        self._was_assigned = True
        self._owned |= {each.partition for each in partitions}

    def _revoked(self, _: Any, partitions: list[Any]) -> None:
        """Finish what is under way while the partitions still belong to this member."""
        until = min(time.monotonic() + _REBALANCE_SECONDS, self._drain_until)
        while len(self._deliveries) and time.monotonic() < until:
            if not self._tried(self._settle_finished):
                break
            self._deliveries.wait(_BRIEFLY)
        self._lost(_, partitions)

    def _lost(self, _: Any, partitions: list[Any]) -> None:
        """Forget partitions that belong to another member now."""
        gone = {each.partition for each in partitions}
        self._owned -= gone
        for partition in gone:
            self._next.pop(partition, None)
            self._durable.pop(partition, None)

    def _partitions(self) -> list[Any]:
        return [self._kafka.TopicPartition(self.settings.stream, each) for each in self._owned]

    def _watch(self) -> None:
        """Count what the own partitions hold beyond what is durable, from what the last answers told."""
        if time.monotonic() < self._count_lag_at:
            return
        self._count_lag_at = time.monotonic() + _LAG_EVERY_SECONDS
        try:
            if self._is_away:
                # What the last answers told is old by now, and nothing tells that the servers are back.
                self._consumer.list_topics(self.settings.stream, timeout=_ASKED_SECONDS)
                self._is_away = False
            behind = [self._behind(each) for each in self._partitions()]
        except self._kafka.KafkaException as error:
            self.counts.failures += self._is_away
            self.counts.last_error = _words(error)
            behind = [None]
        known = [each for each in behind if each is not None]
        self.counts.lag = sum(known) if self._was_assigned and len(known) == len(behind) else None

    def _behind(self, partition: Any) -> int | None:
        found = self._consumer.get_watermark_offsets(partition, cached=True)
        if found is None or found[1] < 0:
            return None
        high: int = found[1]
        return max(0, high - self._next_of(partition, high))

    def _next_of(self, partition: Any, high: int) -> int:
        known = self._next.get(partition.partition)
        if known is None:
            # Nothing was committed yet in this assignment: where the group stands.
            found = self._consumer.committed([partition], timeout=WAIT_SECONDS)[0].offset
            begin = high if self.settings.begin == "newest" else 0
            known = self._next[partition.partition] = found if found >= 0 else begin
        return known

    def _recover(self) -> None:
        """Nothing to prepare: the client connects again by itself."""

    def _close(self) -> None:
        self._consumer.close()


def _for_producers(settings: dict[str, str]) -> dict[str, str]:
    """Keep what says how to reach the servers; the rest is about consuming."""
    shared = ("security.", "sasl.", "ssl.", "enable.ssl", "broker.", "socket.", "client.dns")
    return {name: value for name, value in settings.items() if name.startswith(shared)}


def _words(error: Exception) -> str:
    """Return what librdkafka says, without its code."""
    first = error.args[0] if error.args else error
    return first.str() if hasattr(first, "str") else str(first)
