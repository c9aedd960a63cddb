"""From the acknowledgement of an event to the first answer that reflects it.

    python benchmarks/service/freshness.py --bundle BUNDLE [--probes 200] [--only shared]

A probe asks for a slate, sends a purchase of its first item, and, as soon as that is acknowledged, asks
again, in the setting ``shared`` another process than the one that took it. An answer reflects the event
when the item is gone from it: what somebody has is not shown to them. The measured time begins with the
acknowledgement and ends with the last byte of the first answer that reflects the event. Heavy load comes
from processes of its own: at each process of the service, eight clients with single events and four who want
slates.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ingest import some_events
from processes import folder_for_a_while, machine, new_database, postgresql, redis, service

HERE = Path(__file__).parent
N_PROCESSES = 3
GIVE_UP_SECONDS = 10.0
COLUMNS = (
    "setting | load | probes | first answer reflects it | p50 ms | p99 ms | longest ms | degraded answers"
)


@dataclass
class Found:
    """What probes found.

    Attributes:
        seconds: From the acknowledgement to the answer that reflects the event.
        n_at_once: Probes whose first answer reflected it.
        n_degraded: Answers that said they were not computed in full.
    """

    seconds: list[float] = field(default_factory=list)
    n_at_once: int = 0
    n_degraded: int = 0


class Caller:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def post(self, route: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a request; return status and answer."""
        self._connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def slate(self, user_id: str, found: Found) -> list[str] | None:
        """Return the items for a user, None when the service has no time for an answer."""
        status, answer = self.post("/v1/recommend", {"user_id": user_id, "n": 10})
        if status == 503:
            return None
        assert status == 200, answer
        found.n_degraded += "degraded" in answer
        return [place["item_id"] for place in answer["items"]]


def probe(sends: Caller, asks: Caller, user_id: str, found: Found) -> None:
    """Measure once."""
    slate = asks.slate(user_id, Found())
    if not slate:
        return
    status, answer = sends.post("/v1/events", {"user_id": user_id, "item_id": slate[0], "event": "purchase"})
    assert status == 202, answer
    acknowledged = time.perf_counter()
    for nth in itertools.count():
        after = asks.slate(user_id, found)
        seconds = time.perf_counter() - acknowledged
        if after is not None and slate[0] not in after:
            found.n_at_once += nth == 0
            found.seconds.append(seconds)
            return
        if seconds > GIVE_UP_SECONDS:
            raise SystemExit(f"The event was not reflected within {GIVE_UP_SECONDS:.0f} s.")


def probes(ports: Sequence[int], bundle: Path, n: int, pause: float) -> Found:
    """Measure n times, going round the processes."""
    found = Found()
    callers = [Caller(port) for port in ports]
    users = [event["user_id"] for event in some_events(bundle, n, seed=2)]
    for nth, user_id in enumerate(users):
        sends, asks = callers[nth % len(callers)], callers[(nth + 1) % len(callers)]
        probe(sends, asks, user_id, found)
        time.sleep(pause)
    return found


@contextmanager
def heavy_load(ports: Sequence[int], bundle: Path, folder: Path, seconds: float) -> Iterator[None]:
    """Send events to and ask for slates of all processes."""
    events = some_events(bundle, 2_000, seed=1)
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, events)), "utf-8")
    asked = [json.dumps({"user_id": event["user_id"], "n": 10}) for event in events]
    (folder / "asked.jsonl").write_text("\n".join(asked), "utf-8")
    running = [
        subprocess.Popen(
            [
                *(sys.executable, str(HERE / "load.py"), str(port), route, str(folder / bodies)),
                *("--clients", str(n_clients), "--seconds", str(seconds)),
            ],
            stdout=subprocess.DEVNULL,
        )
        for port in ports
        for route, bodies, n_clients in (
            ("/v1/events", "events.jsonl", 8),
            ("/v1/recommend", "asked.jsonl", 4),
        )
    ]
    time.sleep(1.0)
    try:
        yield
        if any(process.poll() is not None for process in running):
            raise SystemExit("The load ended before the probes: give fewer probes or more seconds of load.")
    finally:
        for process in running:
            process.terminate()
            process.wait()


@contextmanager
def processes(setting: str, bundle: Path, folder: Path) -> Iterator[list[int]]:
    """Start the service; yield the ports of its processes."""
    with ExitStack() as stack:
        if setting == "one":
            yield [stack.enter_context(service(str(bundle), f"sqlite:///{folder}/one.db", folder))]
            return
        store = new_database(stack.enter_context(postgresql()), "shared")
        heads = stack.enter_context(redis())
        yield [
            stack.enter_context(service(str(bundle), store, folder, redis=heads)) for _ in range(N_PROCESSES)
        ]


def row_of(setting: str, load: str, found: Found) -> str:
    """Return a row of the table."""
    p50, p99, longest = (float(value) * 1000 for value in np.percentile(found.seconds, (50, 99, 100)))
    said = {"one": "one process, SQLite", "shared": f"{N_PROCESSES} processes, PostgreSQL and Redis"}
    at_once = f"{found.n_at_once} of {len(found.seconds)}"
    times = f"{p50:.1f} | {p99:.1f} | {longest:.1f}"
    return f"| {said[setting]} | {load} | {len(found.seconds)} | {at_once} | {times} | {found.n_degraded} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--only", choices=["one", "shared"])
    given = parser.parse_args()
    print(f"Before: {machine()}", f"\n| {COLUMNS} |", "| --- | --- " + "| ---: " * 6 + "|", sep="\n")
    for setting in [given.only] if given.only else ["one", "shared"]:
        with folder_for_a_while() as folder, processes(setting, given.bundle, folder) as ports:
            print(row_of(setting, "light", probes(ports, given.bundle, given.probes, 0.01)), flush=True)
            with heavy_load(ports, given.bundle, folder, seconds=10 + given.probes):
                print(row_of(setting, "heavy", probes(ports, given.bundle, given.probes, 0.0)), flush=True)
    print(f"\nAfter: {machine()}")


if __name__ == "__main__":
    main()
