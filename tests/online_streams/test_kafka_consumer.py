"""Every message of a topic is stored once, against the cluster that librdkafka brings for tests."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from shared_file import append, item_ids

from zhiyin.domain.errors import StoreError
from zhiyin.online.streams.kafka import KafkaConsumer
from zhiyin.online.streams.opening import open_stream

PROCESS = Path(__file__).with_name("consuming_process.py")
PARTITIONS = range(4)
"""The test cluster gives every topic four."""
QUICK = "session.timeout.ms=4000&heartbeat.interval.ms=200"


class Cluster:
    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0, "linger.ms": 5})
        brokers = self._producer.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def send(self, topic: str, numbers: range) -> None:
        for number in numbers:
            body = json.dumps({"user_id": f"u{number % 7}", "item_id": f"i{number}"})
            self._producer.produce(topic, key=str(number), value=body)
        assert self._producer.flush(10) == 0

    def send_raw(self, topic: str, value: bytes | None) -> None:
        self._producer.produce(topic, value=value)
        assert self._producer.flush(10) == 0

    def committed(self, topic: str, group: str = "zhiyin") -> int:
        asker = Consumer({"bootstrap.servers": self.address, "group.id": group, "log_level": 0})
        found = asker.committed([TopicPartition(topic, each) for each in PARTITIONS], timeout=10)
        asker.close()
        return sum(max(0, each.offset) for each in found)

    def values(self, topic: str, n: int) -> list[Any]:
        reader = Consumer({"bootstrap.servers": self.address, "group.id": "reader", "log_level": 0})
        reader.assign([TopicPartition(topic, each, 0) for each in PARTITIONS])
        found: list[Any] = []
        deadline = time.monotonic() + 10
        while len(found) < n and time.monotonic() < deadline:
            found += [each for each in reader.consume(n, timeout=0.2) if each.error() is None]
        reader.close()
        return found


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def begin(cluster: Cluster, shelf: Any) -> Iterator[Callable[..., KafkaConsumer]]:
    begun: list[KafkaConsumer] = []

    def start(topic: str, options: str = "", accept: Any = shelf.accept) -> KafkaConsumer:
        consumer = open_stream(f"kafka://{cluster.address}/{topic}?{QUICK}{options}", accept)
        assert isinstance(consumer, KafkaConsumer)
        consumer.start()
        begun.append(consumer)
        return consumer

    yield start
    stops = [threading.Thread(target=consumer.stop, args=(0.5,)) for consumer in begun]
    for stop in stops:
        stop.start()
    for stop in stops:
        stop.join()


def test_stored_once_put_aside_and_committed_only_when_durable(
    cluster: Cluster, begin: Any, shelf: Any, eventually: Any
) -> None:
    shelf.held = []
    cluster.send("clicks", range(500))
    cluster.send_raw("clicks", b"{")
    cluster.send_raw("clicks", None)
    consumer = begin("clicks", "&dead_letters=aside&batch_size=100&in_flight=2")
    eventually(lambda: len(shelf.held) == 2)
    eventually(lambda: consumer.counts.lag == 502)
    assert cluster.committed("clicks") == 0
    assert consumer.counts.consumed == 0

    shelf.is_away = True
    for write in shelf.held:
        write.set_exception(StoreError("The store is away."))
    shelf.held = None
    eventually(lambda: consumer.counts.failures > 1)
    assert cluster.committed("clicks") == 0
    shelf.is_away = False
    eventually(lambda: consumer.counts.consumed == 500)
    eventually(lambda: consumer.counts.dead_letters == 2)
    assert {event.item_id for event in shelf.stored.values()} == {f"i{n}" for n in range(500)}
    assert all(event_id.startswith("stream:clicks/") for event_id in shelf.stored)
    assert cluster.committed("clicks") == 502
    eventually(lambda: consumer.counts.lag == 0)
    letters = cluster.values("aside", 2)
    assert sorted(dict(letter.headers())["reason"].decode() for letter in letters) == [
        "The message is empty.",
        "The message is not JSON in UTF-8.",
    ]
    cluster.send("clicks", range(500, 600))
    eventually(lambda: consumer.counts.consumed == 600)
    consumer.stop()
    assert cluster.committed("clicks") == 602
    assert max(shelf.handed.values()) == 1


def test_joined_and_killed_in_the_middle_nothing_is_lost_or_doubled(
    cluster: Cluster, begin: Any, tmp_path: Path, eventually: Any
) -> None:
    """A second member joins while the first one works, then the first is killed."""
    path = str(tmp_path / "events.db")
    cluster.send("shared", range(3_000))
    stream = f"kafka://{cluster.address}/shared?{QUICK}&batch_size=10"
    with subprocess.Popen([sys.executable, PROCESS, stream, path]) as process:
        eventually(lambda: cluster.committed("shared") > 0)
        second = begin("shared", "&batch_size=10", accept=lambda events: append(path, events))
        sent = 3_000
        deadline = time.monotonic() + 20
        while not second.counts.consumed and time.monotonic() < deadline:
            cluster.send("shared", range(sent, sent + 50))
            sent += 50
            time.sleep(0.05)
        alone = second.counts.consumed
        process.kill()
    assert 0 < alone < sent
    eventually(lambda: cluster.committed("shared") == sent, 25)
    assert sorted(int(item_id[1:]) for item_id in item_ids(path)) == list(range(sent))


def test_servers_that_are_away_are_counted_and_nobody_claims_to_know_the_lag(
    shelf: Any, eventually: Any
) -> None:
    cluster = Cluster()
    cluster.send("clicks", range(20))
    consumer = open_stream(f"kafka://{cluster.address}/clicks?{QUICK}", shelf.accept)
    assert consumer.counts.lag is None
    consumer.start()
    eventually(lambda: consumer.counts.lag == 0)
    assert consumer.counts.failures == 0
    del cluster
    eventually(lambda: consumer.counts.lag is None)
    eventually(lambda: consumer.counts.failures >= 2)
    assert consumer.counts.last_error
    consumer.stop(0.5)
