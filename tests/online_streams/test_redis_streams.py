"""Every message of a Redis stream is stored once, whoever is killed, away or emptied."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from zhiyin.online.streams.opening import open_stream
from zhiyin.online.streams.redis_streams import RedisStreamConsumer
from zhiyin.stores.opening import open_database

PROCESS = Path(__file__).with_name("consuming_process.py")
Eventually = Callable[..., None]
Shelf = Any


def body(number: int, **more: Any) -> dict[str, str]:
    return {"json": json.dumps({"user_id": f"u{number % 7}", "item_id": f"i{number}", **more})}


def send(client: Any, numbers: range, **more: Any) -> list[str]:
    with client.pipeline(transaction=False) as together:
        for number in numbers:
            together.xadd("events", body(number, **more))
        return list(together.execute())


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def begin(redis_url: str, shelf: Shelf) -> Iterator[Callable[..., RedisStreamConsumer]]:
    """Start consumers; they are stopped at the end."""
    begun: list[RedisStreamConsumer] = []

    def start(options: str = "", url: str = redis_url, accept: Any = shelf.accept) -> RedisStreamConsumer:
        consumer = open_stream(f"{url}?stream=events{options}", accept)
        assert isinstance(consumer, RedisStreamConsumer)
        consumer.start()
        begun.append(consumer)
        return consumer

    yield start
    for consumer in begun:
        consumer.stop(0.5)


def unacknowledged(client: Any) -> int:
    groups = client.xinfo_groups("events")
    return int(groups[0]["pending"])


def test_every_message_is_stored_once_and_acknowledged(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    ids = send(client, range(1_000))
    consumer = begin("&batch_size=100")
    eventually(lambda: consumer.counts.consumed == 1_000)
    send(client, range(1_000, 1_200))
    eventually(lambda: consumer.counts.consumed == 1_200)
    assert {event.item_id for event in shelf.stored.values()} == {f"i{n}" for n in range(1_200)}
    assert shelf.order[0] == f"stream:events/{ids[0]}"
    assert max(shelf.handed.values()) == 1
    assert unacknowledged(client) == 0
    assert consumer.counts.failures == 0
    eventually(lambda: consumer.counts.lag == 0)


def test_nothing_is_acknowledged_before_it_is_durable(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    shelf.held = []
    send(client, range(100))
    consumer = begin("&batch_size=10&in_flight=3")
    eventually(lambda: len(shelf.held) == 3)
    time.sleep(0.1)
    assert len(shelf.held) == 3  # no more than three batches under way
    assert unacknowledged(client) == 30
    assert consumer.counts.consumed == 0
    shelf.held[1].set_result(None)  # the second alone waits for the first
    time.sleep(0.05)
    assert consumer.counts.consumed == 0
    shelf.held[0].set_result(None)
    eventually(lambda: consumer.counts.consumed == 20)


def test_a_message_without_id_that_comes_again_is_the_same_event(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    send(client, range(50))
    begin("&group=first")
    eventually(lambda: len(shelf.stored) == 50)
    again = begin("&group=second")
    eventually(lambda: again.counts.consumed == 50)
    assert len(shelf.stored) == 50
    assert set(shelf.handed.values()) == {2}


def test_what_is_no_event_is_put_aside_with_the_reason(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    send(client, range(3))
    broken = client.xadd("events", {"json": b'{"user_id": "\xff\xfe'})
    client.xadd("events", {"json": '{"user_id": "u"}'})
    client.xadd("events", {"user_id": "u", "item_id": "i"})
    send(client, range(3, 6))
    consumer = begin()
    eventually(lambda: consumer.counts.consumed == 6)
    assert consumer.counts.dead_letters == 3
    assert len(shelf.stored) == 6
    with Redis(
        connection_pool=client.connection_pool.__class__(
            **{**client.connection_pool.connection_kwargs, "decode_responses": False}
        )
    ) as raw:
        letters = [fields for _, fields in raw.xrange("events:dead")]
    assert [letter[b"reason"].decode() for letter in letters] == [
        "The message is not JSON in UTF-8.",
        "'item_id' is missing.",
        "The message has no field 'json'.",
    ]
    assert letters[0][b"json"] == b'{"user_id": "\xff\xfe'
    assert letters[0][b"position"].decode() == f"events/{broken}"
    assert json.loads(letters[2][b"json"]) == {"user_id": "u", "item_id": "i"}
    assert unacknowledged(client) == 0


def test_an_event_that_is_refused_is_found_among_good_ones(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    ids = send(client, range(40))
    shelf.refused = {f"stream:events/{ids[17]}"}
    consumer = begin("&dead_letters=aside")
    eventually(lambda: consumer.counts.consumed == 39)
    assert consumer.counts.dead_letters == 1
    [(_, letter)] = client.xrange("aside")
    assert letter["reason"] == "This event is not for us."
    assert json.loads(letter["json"])["item_id"] == "i17"
    assert len(shelf.stored) == 39


def test_a_store_that_is_away_is_waited_for(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    shelf.is_away = True
    send(client, range(300))
    consumer = begin("&batch_size=50")
    eventually(lambda: consumer.counts.failures >= 2)
    assert unacknowledged(client) <= 4 * 50
    assert consumer.counts.last_error == "The store is away."
    shelf.is_away = False
    eventually(lambda: consumer.counts.consumed == 300)
    assert len(shelf.stored) == 300
    assert consumer.counts.dead_letters == 0


def test_redis_killed_and_back_with_its_stream(
    redis_server: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    with Redis.from_url(redis_server.url, decode_responses=True) as client:
        send(client, range(200))
        consumer = begin("&batch_size=20", url=redis_server.url)
        eventually(lambda: consumer.counts.consumed == 200)
        shelf.held = []
        send(client, range(200, 260))
        eventually(lambda: len(shelf.held) >= 3)
        client.save()
        redis_server.kill()
        for write in shelf.held:
            write.set_result(None)  # durable, but nobody could be told
        shelf.held = None
        eventually(lambda: consumer.counts.failures > 0)
        redis_server.start()
        eventually(lambda: consumer.counts.consumed >= 260)
        send(client, range(260, 300))
        eventually(lambda: consumer.counts.consumed >= 300)
        assert unacknowledged(client) == 0
    assert {event.item_id for event in shelf.stored.values()} >= {f"i{n}" for n in range(260, 300)}


def test_redis_emptied_goes_on(client: Any, begin: Any, shelf: Shelf, eventually: Eventually) -> None:
    send(client, range(50))
    consumer = begin("&begin=newest")  # from now on, but never skipping after a loss
    eventually(lambda: client.xinfo_groups("events") != [])
    send(client, range(50, 100))
    eventually(lambda: consumer.counts.consumed == 50)
    client.flushdb()
    send(client, range(100, 150))
    eventually(lambda: consumer.counts.consumed == 100)
    assert {event.item_id for event in shelf.stored.values()} == {f"i{n}" for n in range(50, 150)}


def test_who_comes_back_begins_with_what_was_pending(client: Any, begin: Any, eventually: Eventually) -> None:
    send(client, range(30))
    client.xgroup_create("events", "zhiyin", id="0")
    client.xreadgroup("zhiyin", "box", {"events": ">"}, count=20)
    client.xdel("events", client.xrange("events", count=1)[0][0])  # pending, and thrown away meanwhile
    consumer = begin("&consumer=box")
    eventually(lambda: consumer.counts.consumed == 29)
    assert consumer.counts.lost == 1
    assert unacknowledged(client) == 0
    consumer.stop()
    assert client.xinfo_consumers("events", "zhiyin") == []


def test_messages_of_the_dead_are_taken_over(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    send(client, range(70))
    client.xgroup_create("events", "zhiyin", id="0")
    client.xreadgroup("zhiyin", "dead", {"events": ">"}, count=40)
    client.xdel("events", client.xrange("events", count=1)[0][0])
    time.sleep(0.06)
    consumer = begin("&take_over_after_seconds=0.05&batch_size=8")
    eventually(lambda: consumer.counts.consumed == 69)
    assert consumer.counts.taken_over == 39
    assert consumer.counts.lost == 1
    eventually(lambda: unacknowledged(client) == 0)
    assert len(shelf.stored) == 69


def test_stopping_finishes_what_was_read_and_leaves_the_rest(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    shelf.held = []
    send(client, range(100))
    consumer = begin("&batch_size=10&in_flight=2")
    eventually(lambda: len(shelf.held) == 2)
    begun = time.monotonic()
    consumer._stopping.set()
    consumer._drain_until = time.monotonic() + 10
    for write in shelf.held:
        write.set_result(None)
    consumer.stop()
    assert time.monotonic() - begun < 5
    assert not consumer.is_running
    assert consumer.counts.consumed == 20
    assert unacknowledged(client) == 0
    shelf.held = None
    rest = begin()
    eventually(lambda: rest.counts.consumed == 80)


def test_lag_is_what_is_not_durable_yet(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    shelf.held = []
    send(client, range(100))
    consumer = begin("&batch_size=10&in_flight=2")
    eventually(lambda: consumer.counts.lag == 100)


def test_two_consumers_share_the_stream(
    client: Any, begin: Any, shelf: Shelf, eventually: Eventually
) -> None:
    one, other = begin("&consumer=one&batch_size=20"), begin("&consumer=other&batch_size=20")
    for start in range(0, 2_000, 100):
        send(client, range(start, start + 100))
    eventually(lambda: one.counts.consumed + other.counts.consumed == 2_000)
    assert min(one.counts.consumed, other.counts.consumed) > 0
    assert max(shelf.handed.values()) == 1


def is_held_with_messages(process: subprocess.Popen[bytes], client: Any) -> bool:
    """Hold a reader; let it go on where it has acknowledged all that it read, as it has now and then."""
    process.send_signal(signal.SIGSTOP)
    if unacknowledged(client) > 0:
        return True
    process.send_signal(signal.SIGCONT)
    return False


def test_a_killed_process_loses_nothing_and_doubles_nothing(
    client: Any, redis_url: str, begin: Any, tmp_path: Path, eventually: Eventually
) -> None:
    """Four thousand messages; the reader is killed in the middle, another one finishes."""
    database = f"sqlite:///{tmp_path}/events.db"
    send(client, range(4_000))
    stream = f"{redis_url}?stream=events&batch_size=5&take_over_after_seconds=0.3"
    with subprocess.Popen([sys.executable, PROCESS, stream, database]) as process:
        eventually(lambda: client.xinfo_groups("events") != [])
        eventually(lambda: client.xinfo_groups("events")[0]["last-delivered-id"] != "0-0")
        time.sleep(random.Random(1).uniform(0.05, 0.15))
        eventually(lambda: is_held_with_messages(process, client))
        process.kill()
    last = client.xinfo_groups("events")[0]["last-delivered-id"]
    assert 0 < unacknowledged(client) + len(client.xrange("events", f"({last}")) < 4_000
    assert unacknowledged(client) > 0  # read by the dead, and to be taken over
    opened = open_database(database)
    consumer = begin("&take_over_after_seconds=0.3", accept=opened.store().append_events)
    eventually(lambda: unacknowledged(client) == 0 and consumer.counts.lag == 0)
    stored = [event for user in range(7) for event in opened.store().events_of(f"u{user}")]
    assert sorted(int(event.item_id[1:]) for event in stored) == list(range(4_000))
    consumer.stop()
    opened.close()
