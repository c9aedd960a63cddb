"""Bodies that come slowly, at great length, or while the service stops."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from zhiyin.domain.errors import StoreError
from zhiyin.serving import receiving
from zhiyin.serving.problems import Refused
from zhiyin.serving.receiving import CountedBytes, LineStream, Received
from zhiyin.serving.routes import events as routes

NDJSON = {"Content-Type": "application/x-ndjson"}


def counting() -> tuple[Received, list[int]]:
    shed: list[int] = []
    return Received(lambda: shed.append(1)), shed


async def parts_of(*parts: bytes | float) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, float):
            await asyncio.sleep(part)
        else:
            yield part


def groups(*parts: bytes | float, is_stopping: Callable[[], bool] = lambda: False) -> list[list[bytes]]:
    async def gather() -> list[list[bytes]]:
        received, _ = counting()
        with received.counted("key") as counted:
            found = [lines async for lines in LineStream(parts_of(*parts), counted, is_stopping).groups()]
        assert (received.n_bytes, received.of_caller) == (0, {})
        return found

    return asyncio.run(gather())


def test_lines_are_cut_wherever_parts_end() -> None:
    assert groups(b"a\nb", b"b\n", b"\nc") == [[b"a", b"bb", b"", b"c"]]
    assert groups(b"a\n") == [[b"a"]]
    assert groups() == groups(b"") == []


def test_many_and_long_lines_are_stored_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(lines) for lines in groups(b"x\n" * 12_001)] == [5_000, 5_000, 2_001]
    monkeypatch.setattr(receiving, "BYTES_AT_ONCE", 1_000)
    assert [len(lines) for lines in groups(b"y" * 399 + b"\n", (b"y" * 399 + b"\n") * 4)] == [3, 2]


def test_what_comes_slowly_waits_half_a_second_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "SECONDS_AT_ONCE", 0.1)
    found = groups(b"a\nb", 0.3, b"\nc\n")
    assert [lines for lines in found if lines] == [[b"a"], [b"b", b"c"]]
    assert [] in found, "who listens can say meanwhile how far it came"
    trickle = [step for n in range(12) for step in (b"%d\n" % n, 0.03)]
    found = groups(*trickle)
    assert len(found) > 1
    assert [line for lines in found for line in lines] == [b"%d" % n for n in range(12)]


def test_a_stream_ends_with_the_service_and_what_came_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "SECONDS_AT_ONCE", 0.05)
    found: list[list[bytes]] = []

    async def listen() -> None:
        received, _ = counting()
        with received.counted("key") as counted:
            stream = LineStream(parts_of(b"a\nb\n", 30.0), counted, lambda: bool(found))
            async for lines in stream.groups():
                keep(lines)

    keep = found.append
    with pytest.raises(Refused, match="The service is stopping"):
        asyncio.run(asyncio.wait_for(listen(), 10))
    assert found == [[b"a", b"b"]]


def test_a_group_that_waits_is_counted_and_ends_with_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "FREE_BYTES", 0)

    async def going_away() -> AsyncIterator[bytes]:
        yield b"x\n" * 5_000
        await asyncio.sleep(0.05)
        raise ConnectionResetError

    async def listen() -> None:
        received, _ = counting()
        with received.counted("key") as counted:
            stream = LineStream(going_away(), counted, lambda: False)
            async for lines in stream.groups():
                assert len(lines) == 5_000
                assert received.n_bytes == 10_000
                stream.refuse_to_go_on()
                await asyncio.sleep(0.2)
                with pytest.raises(ConnectionResetError, match="went away"):
                    stream.refuse_to_go_on()
                break

    asyncio.run(listen())


def test_callers_who_go_away_leave_no_memory_behind() -> None:
    """The garbage collector of a service looks seldom, so nothing may wait for it."""

    async def going_away() -> AsyncIterator[bytes]:
        yield b"x" * 900_000
        raise ConnectionResetError

    async def listen() -> None:
        received, _ = counting()
        with suppress(ConnectionResetError), received.counted("key") as counted:
            async for lines in LineStream(going_away(), counted, lambda: False).groups():
                assert lines

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(20):
            asyncio.run(listen())
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_line_without_end_is_refused() -> None:
    for parts in ((b"a\n", b"x" * 600_000, b"x" * 600_000), (b"a\n" + b"x" * 1_000_001 + b"\nb\n",)):
        with pytest.raises(Refused, match="Line 2 has more than 1000000 bytes"):
            groups(*parts)
    assert groups(b"a\n" + b"x" * 1_000_000 + b"\nb\n") == [[b"a", b"x" * 1_000_000, b"b"]]


def test_too_much_at_once_is_refused_and_little_never_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_BYTES", 100)
    monkeypatch.setattr(receiving, "FREE_BYTES", 10)
    received, shed = counting()
    one, other, third, small = (CountedBytes(received, caller) for caller in "aabc")
    one.add(40)
    other.add(20)
    with pytest.raises(Refused, match="Too many long bodies") as refused:
        other.add(30)
    assert (refused.value.kind, refused.value.headers["Retry-After"]) == ("overloaded", "1")
    third.add(60)
    small.add(10)
    with pytest.raises(Refused):
        small.add(11)
    assert (received.n_bytes, shed) == (90, [1, 1])
    one.drop(35)
    assert received.n_bytes == 60
    small.add(40)
    for counted in (one, other, third, small):
        counted.set(0)
    assert received.n_bytes == sum(received.of_caller.values()) == 0


def test_bodies_of_all_requests_together_are_bounded(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MOST_BYTES", 2_000)
    monkeypatch.setattr(receiving, "FREE_BYTES", 0)
    event = {"user_id": "u1", "item_id": "i1", "context": {"note": "x" * 900}}
    assert client.post("/v1/events", json=event).status_code == 202
    assert client.post("/v1/events", json=event).status_code == 202, "what was read counts no longer"
    refused = client.post("/v1/events", json={"events": [event, event]})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert client.app.state.received.n_bytes == 0
    assert 'zhiyin_shed_total{reason="bodies"} 1.0' in client.get("/metrics").text


def streamed(client: TestClient, lines: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    """Send a stream part by part, as no caller of the test client can; return the lines of progress."""

    async def send() -> httpx.Response:
        door = httpx.ASGITransport(client.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=door, base_url="http://localhost") as caller:
            return await caller.post("/v1/events/bulk", content=lines, headers=NDJSON)

    answer = asyncio.run(asyncio.wait_for(send(), 15))
    return [json.loads(text) for text in answer.text.splitlines()]


def test_a_slow_stream_is_stored_while_it_comes_and_told_of_the_end(client: TestClient) -> None:
    """What a caller of a stopping service is told: how far it got, and to send the rest elsewhere."""

    def line(number: int) -> bytes:
        return json.dumps({"user_id": "slow", "item_id": "i1", "event_id": f"w{number}"}).encode() + b"\n"

    async def lines() -> AsyncIterator[bytes]:
        yield line(0) + line(1)
        await asyncio.sleep(1.5)
        kept.append(len(client.app.state.service.engine("default").store.events_of("slow")))
        client.app.state.service.is_stopping = True
        await asyncio.sleep(20)
        yield line(2)

    kept: list[int] = []
    told = streamed(client, lines())
    assert kept == [2]
    assert told[-1]["problem"] == "The service is stopping."
    assert "up to line 2" in told[-1]["remedy"]
    assert (told[-1]["lines"], told[-1]["stored"], "done" in told[-1]) == (2, 2, False)
    client.app.state.service.is_stopping = False


def test_a_stream_that_is_refused_while_the_disk_fails_says_what_is_stored(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both go wrong at once: the disk is what matters, because of it lines are missing."""

    async def fails(*_: Any) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(routes, "_stored", fails)
    last = streamed(client, parts_of(b'{"user_id": "u1", "item_id": "i1"}\n' * 5_000, b"x" * 1_000_001))[-1]
    assert (last["problem"], last["lines"], last["stored"]) == ("The disk is full.", 0, 0)
    assert "up to line 0" in last["remedy"]
    assert "done" not in last
