"""A Redis that is away costs little time, and no message holds a password."""

import socket
import time
from typing import Any

import pytest
from redis import Redis

from zhiyin.domain.errors import StoreError
from zhiyin.stores.redis.connection import Breaker, RedisConnection, RedisUnavailable, url_without_password


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_answers(redis_url: str) -> None:
    connection = RedisConnection(redis_url)
    connection.check()
    assert connection.ask(lambda client: client.set("a", "知")) is True
    assert connection.ask(lambda client: client.get("a")) == "知"
    assert connection.is_available
    connection.close()


def test_nobody_there_is_told_at_once_and_asked_again_after_a_pause() -> None:
    clock = Clock()
    connection = RedisConnection("redis://127.0.0.1:1/0", breaker=Breaker(clock=clock))
    asked: list[float] = []

    def question(client: Redis) -> Any:
        asked.append(clock.now)
        return client.ping()

    for tenth in range(200):
        clock.now = 100.0 + tenth / 10
        with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1:1"):
            connection.ask(question)
    assert not connection.is_available
    # A second, then two, then four, then five.
    assert asked == pytest.approx([100.0, 101.0, 103.0, 107.0, 112.0, 117.0])


def test_failures_of_callers_under_way_together_are_one_failure() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(5):
        breaker.failed()
    clock.now += 1.0
    assert breaker.lets_through()
    assert not breaker.lets_through()  # one tries, the others wait
    breaker.worked()
    assert breaker.lets_through()


def test_a_server_that_says_nothing_costs_the_time_limit_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = RedisConnection(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", answer_seconds=0.1)
        begin = time.monotonic()
        with pytest.raises(RedisUnavailable):
            connection.check()
        first = time.monotonic() - begin
        begin = time.monotonic()
        for _ in range(100):
            with pytest.raises(RedisUnavailable):
                connection.check()
        rest = time.monotonic() - begin
    assert first < 1.0
    assert rest < 0.1


def test_it_comes_back_with_the_server(redis_server: Any) -> None:
    connection = RedisConnection(redis_server.url, breaker=Breaker(first_pause=0.05, longest_pause=0.05))
    connection.check()
    redis_server.kill()
    with pytest.raises(RedisUnavailable):
        connection.check()
    redis_server.start()
    time.sleep(0.06)
    connection.check()
    assert connection.is_available


def test_what_the_server_refuses_is_said_and_nothing_is_paused(redis_url: str) -> None:
    connection = RedisConnection(redis_url)
    connection.ask(lambda client: client.set("a", "1"))
    with pytest.raises(StoreError, match="WRONGTYPE"):
        connection.ask(lambda client: client.hget("a", "b"))
    assert connection.is_available


@pytest.mark.parametrize(
    "url",
    [
        "http://user:tea-secret@host:6379/0",
        "redis://",
        "redis://user:tea-secret@:6379",
        "redis://user:tea-secret@host:port/0",
        "redis://user:tea-secret@127.0.0.1:1/0",
        "redis://user:tea-secret@127.0.0.1:1/0?socket_timeout=soon",
        "redis://:tea-secret@127.0.0.1:1/0?password=tea-secret",
        "unix://user:tea-secret@/nowhere?db=0&password=tea-secret",
        "rediss://user:tea-secret@127.0.0.1:1/0",
    ],
)
def test_no_message_holds_the_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        RedisConnection(url).check()
    assert "tea-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.possible or caught.value.remedy


def test_a_wrong_password_is_named_as_the_reason_but_not_shown(redis_server: Any) -> None:
    RedisConnection(redis_server.url).ask(lambda client: client.config_set("requirepass", "green"))
    with pytest.raises(RedisUnavailable, match="invalid username-password") as caught:
        RedisConnection(redis_server.url.replace("//", "//:tea-secret@")).check()
    assert "tea-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p@cache/3", "redis://cache:6379/3"),
        ("rediss://[::1]:7000", "rediss://[::1]:7000"),
        ("unix:///run/redis.sock?db=2&password=p", "unix:///run/redis.sock"),
    ],
)
def test_shown_url(url: str, shown: str) -> None:
    assert url_without_password(url) == shown
