"""Load on a running service, from a process of its own: requests per second, and how long each took.

    python benchmarks/service/load.py 8000 /v1/recommend bodies.jsonl --clients 1 8 32 --seconds 5

Each client keeps one connection and sends its next request when the answer to the last one is there. The
bytes of all requests are made before the first is sent, so that little of what is measured is spent here.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

HEAD_END = b"\r\n\r\n"


def request_bytes(route: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Return a POST request, ready to be sent."""
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Measured:
    """What came of a load.

    Attributes:
        n_clients: Connections.
        seconds: From the first request to the last answer.
        latencies: Seconds of each answered request.
        statuses: Status of an answer → how many had it.
    """

    n_clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1000

    def summary(self) -> dict[str, object]:
        """Return the numbers as JSON can hold them."""
        return {
            "clients": self.n_clients,
            "per_second": round(self.per_second, 1),
            "p50_ms": round(self.percentile_ms(50), 3),
            "p99_ms": round(self.percentile_ms(99), 3),
            "statuses": self.statuses,
        }


class Client(asyncio.Protocol):
    """One connection that is never idle until its time is up."""

    def __init__(self, requests: Iterator[bytes], measured: Measured, until: float) -> None:
        self._requests = requests
        self._measured = measured
        self._until = until
        self._waiting = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, by duck typing alone
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take in a part of an answer, and send the next request when it was the last part."""
        self._waiting += data
        head_end = self._waiting.find(HEAD_END)
        if head_end < 0:
            return
        head = self._waiting[:head_end].lower()
        place = head.find(b"content-length:")
        if place < 0:
            self.done.set_exception(ValueError("An answer without Content-Length."))
            return
        n_bytes = int(head[place + 15 :].split(b"\r\n", 1)[0])
        if len(self._waiting) < head_end + len(HEAD_END) + n_bytes:
            return
        self._waiting = self._waiting[head_end + len(HEAD_END) + n_bytes :]
        now = time.perf_counter()
        self._measured.latencies.append(now - self._sent)
        status = int(head[9:12])
        self._measured.statuses[status] = self._measured.statuses.get(status, 0) + 1
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that no more answers come."""
        if not self.done.done():
            if exc is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(exc)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


async def drive(port: int, requests: Sequence[bytes], n_clients: int, seconds: float) -> Measured:
    """Send requests from several clients at once for some seconds, the first again after the last."""
    measured = Measured(n_clients)
    start = time.perf_counter()
    endless = itertools.cycle(requests)
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(endless, measured, start + seconds), "127.0.0.1", port))[
            1
        ]
        for _ in range(n_clients)
    ]
    await asyncio.gather(*(client.done for client in clients))
    measured.seconds = time.perf_counter() - start
    return measured


def main() -> None:
    """Print a line for each number of clients."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("route")
    parser.add_argument("bodies", type=Path, help="file with one JSON document a line")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each number of clients")
    given = parser.parse_args()
    requests = [request_bytes(given.route, body) for body in given.bodies.read_bytes().splitlines() if body]
    if not given.json:
        print(f"{'clients':>8} {'requests/s':>11} {'p50 ms':>9} {'p99 ms':>9}  statuses")
    for n_clients in given.clients:
        measured = uvloop.run(drive(given.port, requests, n_clients, given.seconds))
        if given.json:
            print(json.dumps(measured.summary()), flush=True)
        else:
            p50, p99 = measured.percentile_ms(50), measured.percentile_ms(99)
            print(
                f"{n_clients:8} {measured.per_second:11.1f} {p50:9.2f} {p99:9.2f}  {measured.statuses}",
                flush=True,
            )


if __name__ == "__main__":
    main()
