"""No process believes an old position: not after a restart, an old dump, an emptied server, a lost word."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhiyin.stores.redis.connection import Breaker, RedisConnection
from zhiyin.stores.redis.heads import SharedHeads


def connect(url: str) -> RedisConnection:
    return RedisConnection(url, breaker=Breaker(first_pause=0.02, longest_pause=0.02))


def no_database() -> int:
    raise AssertionError("the database need not be asked")


def test_a_process_hears_of_what_another_wrote(redis_url: str) -> None:
    writer, reader = SharedHeads(connect(redis_url)), SharedHeads(connect(redis_url), trust_seconds=60)
    assert reader.newest("a") is None
    assert reader.current("a", lambda: 7) == 7
    assert writer.raise_to("a", 9)
    assert reader.current("a", no_database) == 9
    assert writer.raise_to("a", 8)
    assert reader.newest("a") == 9
    assert reader.newest("b") is None


def test_services_and_tenants_do_not_meet(redis_url: str) -> None:
    one, other = SharedHeads(connect(redis_url), name="one"), SharedHeads(connect(redis_url), name="other")
    assert one.current("a", lambda: 5) == 5
    assert other.newest("a") is None
    assert one.newest("b") is None


def test_a_position_that_was_never_compared_is_not_believed(redis_url: str) -> None:
    heads = SharedHeads(connect(redis_url), trust_seconds=60)
    heads.raise_to("a", 99)  # a slow process; another one has made 100 durable before Redis was emptied
    assert heads.newest("a") is None
    assert heads.current("a", lambda: 100) == 100
    assert heads.newest("a") == 100


def test_what_is_told_during_a_comparison_counts(redis_url: str) -> None:
    heads = SharedHeads(connect(redis_url), trust_seconds=60)

    def database_is_slow() -> int:
        SharedHeads(connect(redis_url)).raise_to("a", 101)
        return 100

    assert heads.current("a", database_is_slow) == 100  # as true as the question was
    assert heads.newest("a") == 101


def test_a_comparison_that_began_before_redis_was_emptied_is_not_taken(redis_url: str) -> None:
    heads, others = SharedHeads(connect(redis_url), trust_seconds=60), SharedHeads(connect(redis_url))

    def emptied_meanwhile() -> int:
        others.raise_to("a", 101)
        connect(redis_url).ask(lambda client: client.flushdb())
        return 100

    heads.current("a", emptied_meanwhile)
    assert heads.newest("a") is None


def test_trust_ends(redis_url: str) -> None:
    heads = SharedHeads(connect(redis_url), trust_seconds=0.05)
    heads.current("a", lambda: 5)
    heads.raise_to("a", 6)
    heads.wait_until_forgotten()
    assert heads.newest("a") is None
    assert heads.current("a", lambda: 4) == 4  # the database was set back; Redis does not insist


@pytest.mark.parametrize("shut_down", [False, True])
def test_an_old_dump_hides_nothing(redis_server: Any, shut_down: bool, tmp_path: Path) -> None:
    """The server comes back with what it knew before the newest change."""
    heads = SharedHeads(connect(redis_server.url), trust_seconds=3600)
    heads.current("a", lambda: 5)
    assert heads.newest("a") == 5
    connect(redis_server.url).ask(lambda client: client.save())
    shutil.copy(redis_server.dump, tmp_path / "old.rdb")
    heads.raise_to("a", 6)
    if shut_down:
        connect(redis_server.url).ask(lambda client: client.save())
    redis_server.kill()
    shutil.copy(tmp_path / "old.rdb", redis_server.dump)
    assert heads.newest("a") is None
    assert heads.current("a", lambda: 6) == 6
    redis_server.start()
    assert connect(redis_server.url).ask(lambda client: client.hget("zhiyin:heads", "a")).endswith(" 1 5")
    time.sleep(0.03)
    assert heads.newest("a") is None
    assert heads.current("a", lambda: 6) == 6
    assert heads.newest("a") == 6


def test_a_redis_that_is_away_raises_nothing(redis_server: Any) -> None:
    heads = SharedHeads(connect(redis_server.url))
    redis_server.kill()
    assert heads.raise_to("a", 1) is True  # and the next one that starts there knows nothing
    assert heads.newest("a") is None
    assert heads.current("a", lambda: 3) == 3


def test_a_read_only_copy_knows_nothing(redis_url: str, redis_server: Any) -> None:
    """A copy carries the words of its primary, but may be behind it."""
    port = redis_url.rpartition("/")[0].rpartition(":")[2]
    heads = SharedHeads(connect(redis_url.rpartition("/")[0] + "/0"), name="copied", trust_seconds=60)
    heads.current("a", lambda: 5)
    copy = connect(redis_server.url)
    copy.ask(lambda client: client.replicaof("127.0.0.1", port))
    deadline = time.monotonic() + 10
    while not copy.ask(lambda client: client.hexists("copied:heads", "a")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert SharedHeads(copy, name="copied", trust_seconds=60).newest("a") is None
    copy.ask(lambda client: client.replicaof("NO", "ONE"))
    assert SharedHeads(copy, name="copied", trust_seconds=60).newest("a") is None


STEPS = st.lists(
    st.sampled_from(["write", "write, lost", "told late", "look", "ask", "answer", "empty"]), max_size=40
)


@given(steps=STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_acknowledged_is_ever_hidden(redis_url: str, steps: list[str]) -> None:
    """Whatever is emptied, told late or compared slowly, Redis never knows less than was acknowledged.

    A write whose word to Redis is lost is not acknowledged here: its client waits for the end of trust.
    """
    connection = connect(redis_url)
    connection.ask(lambda client: client.flushdb())
    heads = SharedHeads(connection, trust_seconds=3600)
    log = acknowledged = 0
    late: list[int] = []
    under_way: list[tuple[int, str]] = []
    for step in steps:
        if step == "write":
            log += 1
            heads.raise_to("a", log)
            acknowledged = log
        elif step == "write, lost":
            log += 1
            late.append(log)
        elif step == "told late" and late:
            position = late.pop()
            heads.raise_to("a", position)
            acknowledged = max(acknowledged, position)
        elif step == "look":
            known = heads.newest("a")
            assert known is None or acknowledged <= known <= log
        elif step == "ask":
            known, comparison = heads._found("a")
            if known is None and comparison is not None:
                under_way.append((log, comparison))
        elif step == "answer" and under_way:
            truth, comparison = under_way.pop(0)
            heads._compared([heads._key], ["a", truth, comparison])
        elif step == "empty":
            connection.ask(lambda client: client.flushdb())
            time.sleep(2e-6)


def test_many_threads_never_see_less_than_was_acknowledged(redis_url: str) -> None:
    connection = connect(redis_url)
    log = acknowledged = 0
    lock = threading.Lock()
    hidden: list[tuple[int, int]] = []
    ended = threading.Event()

    def write() -> None:
        nonlocal log, acknowledged
        heads = SharedHeads(connection, trust_seconds=0.02)
        for _ in range(300):
            with lock:
                log += 1
                mine = log
            heads.raise_to("a", mine)
            with lock:
                acknowledged = max(acknowledged, mine)

    def read() -> None:
        heads = SharedHeads(connection, trust_seconds=0.02)
        while not ended.is_set():
            before = acknowledged
            found = heads.current("a", lambda: log)
            if found < before:
                hidden.append((found, before))

    def empty() -> None:
        while not ended.wait(0.005):
            connection.ask(lambda client: client.flushdb())

    readers = [threading.Thread(target=work) for work in (read, read, empty)]
    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in [*readers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in readers:
        thread.join()
    assert not hidden
    assert log == 600
