"""Callers who send slowly, against a real server on a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import orjson
import pytest
import uvicorn

from zhiyin.serving.access.checking import KeyCheck
from zhiyin.serving.access.gate import Gate
from zhiyin.serving.access.keys import Allowance, ApiKeys
from zhiyin.serving.access.rates import RateLimits
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import AccessSettings, ServingSettings
from zhiyin.stores.redis.limits import LocalRateLimiter

SECONDS = 0.4


async def reads_its_body(scope: Any, receive: Any, send: Any) -> None:
    """Read the body as the framework does, and tell its length."""
    if scope["type"] != "http":
        return
    n_bytes, more = 0, True
    try:
        while more:
            message = await receive()
            n_bytes, more = n_bytes + len(message.get("body", b"")), message.get("more_body", False)
    except Refused as refused:
        await refused.response("r1")(scope, receive, send)
        return
    body = str(n_bytes).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["httptools", "h11"])
def server(request: pytest.FixtureRequest, keys: ApiKeys, store) -> Iterator[tuple[int, str]]:
    """Port of a server behind the gate, and a key."""
    settings = ServingSettings(access=AccessSettings(body_seconds=SECONDS))
    gate = Gate(
        reads_its_body,
        keys=KeyCheck(store, clock=lambda: 0.0),
        limits=RateLimits(LocalRateLimiter(), settings.access),
        settings=settings,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(gate, log_level="critical", lifespan="off", http=request.param)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listening],), daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield listening.getsockname()[1], keys.create("shop", Allowance(("ingest", "recommend"))).text
    running.should_exit = True
    thread.join(10)
    listening.close()


def opened(server: tuple[int, str], path: str, length: int) -> socket.socket:
    port, key = server
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nHost: shop\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes, bool]:
    """Return status, body, and whether the connection was closed after it."""
    reader = connection.makefile("rb")
    status = int(reader.readline().split()[1])
    length, closes = 0, False
    while (line := reader.readline().strip().lower()) != b"":
        name, _, value = line.partition(b":")
        length = int(value) if name == b"content-length" else length
        closes = closes or (name == b"connection" and value.strip() == b"close")
    body = reader.read(length)
    return status, body, closes and is_over(reader)


def is_over(reader: BinaryIO) -> bool:
    try:
        return reader.read(1) == b""
    except ConnectionResetError:  # what was sent meanwhile found nobody
        return True


def test_a_body_that_stops_is_refused_and_the_connection_closed(server: tuple[int, str]) -> None:
    with opened(server, "/v1/recommend", 1_000) as connection:
        connection.sendall(b"x" * 10)
        start = time.monotonic()
        status, body, was_closed = answer(connection)
    assert (status, was_closed) == (408, True)
    assert orjson.loads(body)["type"] == "urn:zhiyin:problem:request-timeout"
    assert SECONDS * 0.9 <= time.monotonic() - start < SECONDS + 5


def test_a_byte_now_and_then_helps_only_a_stream(server: tuple[int, str]) -> None:
    for path, expected in (("/v1/recommend", 408), ("/v1/events/bulk", 200)):
        with opened(server, path, 8) as connection, ThreadPoolExecutor(1) as beside:
            answered = beside.submit(answer, connection)
            with contextlib.suppress(OSError):  # whoever is refused finds the connection closed
                for _ in range(8):
                    connection.sendall(b"x")
                    time.sleep(SECONDS / 5)
            assert answered.result()[0] == expected


def test_a_body_that_arrives_is_whole(server: tuple[int, str]) -> None:
    with opened(server, "/v1/recommend", 300_000) as connection:
        for _ in range(3):
            connection.sendall(b"x" * 100_000)
        assert answer(connection) == (200, b"300000", False)
        # And the connection goes on, also after a pause longer than a body may take.
        time.sleep(SECONDS * 1.2)
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: s\r\nX-API-Key: {server[1]}\r\nContent-Length: 2\r\n\r\nab"
        )
        connection.sendall(head.encode())
        assert answer(connection)[:2] == (200, b"2")


def test_whoever_has_no_key_is_not_listened_to(server: tuple[int, str]) -> None:
    with opened((server[0], "zk_none"), "/v1/events/bulk", 10**9) as connection:
        status, body, was_closed = answer(connection)
    assert (status, was_closed) == (401, True)
    assert b"zk_none" not in body
