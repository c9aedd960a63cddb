"""Durable events per second over HTTP, beside bare inserts with the same durability into the same tables.

    python benchmarks/service/ingest.py --bundle BUNDLE [--stores sqlite postgresql] [--rounds 3]

Both sides are measured in turns, round after round, each in a process of its own, so that what else the
machine does meets both alike; the table shows medians over the rounds. Bare single inserts are one commit
each from as many connections as there are clients; bare batches are `executemany` and one commit. Bare
connections to SQLite take turns by a lock, because waiting for the file's own lock would cost them more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from processes import folder_for_a_while, machine, new_database, postgresql, service

from zhiyin.stores.opening import open_database

HERE = Path(__file__).parent
NAMES = "tenant, position, event_id, user_id, item_id, event, timestamp, value, context"
N_BULK = 50_000
COLUMNS = (
    "store | events a request | clients | bare events/s | over HTTP | ratio | p50 ms | p99 ms | with log"
)


@dataclass(frozen=True)
class Way:
    """One way of sending.

    Attributes:
        n_events: In one request; 0 for a stream of lines.
        n_clients: At once.
    """

    n_events: int
    n_clients: int

    @property
    def name(self) -> str:
        """What stands in the table."""
        return str(self.n_events or f"stream of {N_BULK:,}")


WAYS = (Way(1, 1), Way(1, 8), Way(1, 32), Way(100, 1), Way(100, 4), Way(1_000, 1), Way(1_000, 4), Way(0, 1))


def some_events(bundle: Path, n: int, seed: int) -> list[dict[str, Any]]:
    """Events of known users on known items, in no order."""
    rng = np.random.default_rng(seed)
    items = pl.read_parquet(bundle / "items.parquet")["item_id"].to_numpy()
    users = pl.read_parquet(bundle / "users.parquet").to_series().to_numpy()
    moments = 1_700_000_000 + rng.integers(0, 10**6, n)
    return [
        {"user_id": user, "item_id": item, "event": "purchase", "timestamp": int(moment)}
        for user, item, moment in zip(rng.choice(users, n), rng.choice(items, n), moments, strict=True)
    ]


def write_bodies(bundle: Path, folder: Path) -> None:
    """Write what the clients will send."""
    events = some_events(bundle, N_BULK, seed=0)
    for n in {way.n_events for way in WAYS if way.n_events}:
        parts = [events[start : start + n] for start in range(0, min(len(events), max(2_000, 20 * n)), n)]
        bodies = [json.dumps(part[0] if n == 1 else {"events": part}) for part in parts]
        (folder / f"{n}.jsonl").write_text("\n".join(bodies), "utf-8")
    (folder / "stream.ndjson").write_text("\n".join(map(json.dumps, events)) + "\n", "utf-8")


def over_http(port: int, way: Way, folder: Path, seconds: float) -> dict[str, Any]:
    """Measure the service, from a process of its own."""
    if way.n_events == 0:
        return streamed(port, folder)
    command = [
        sys.executable,
        str(HERE / "load.py"),
        str(port),
        "/v1/events",
        str(folder / f"{way.n_events}.jsonl"),
    ]
    command += ["--clients", str(way.n_clients), "--seconds", str(seconds), "--json"]
    found = json.loads(subprocess.check_output(command))
    if set(found["statuses"]) != {"202"}:
        raise SystemExit(f"Not every event was accepted: {found['statuses']}")
    return {**found, "per_second": found["per_second"] * way.n_events}


def streamed(port: int, folder: Path) -> dict[str, Any]:
    """Send one stream of lines; there is no latency of a request."""
    body = (folder / "stream.ndjson").read_bytes()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/events/bulk", body, {"Content-Type": "application/x-ndjson"}
    )
    start = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        last = json.loads(answer.read().splitlines()[-1])
    seconds = time.perf_counter() - start
    if last["stored"] != N_BULK or not last.get("done"):
        raise SystemExit(f"Not every line was stored: {last}")
    return {"per_second": N_BULK / seconds, "p50_ms": float("nan"), "p99_ms": float("nan")}


def rows_without_end(folder: Path, writer: int, n_writers: int, n: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows of n events, again and again, each with an id of its own; most are made beforehand."""
    lines = (folder / "stream.ndjson").read_text("utf-8").splitlines()
    said = [tuple(json.loads(line).values()) for line in lines]
    prefix = f"{time.time_ns():016x}{os.urandom(4).hex()}{writer:02x}"

    def portion(number: int) -> list[tuple[Any, ...]]:
        first = (writer * 997 + number * n) % (len(said) - n)
        part = enumerate(said[first : first + n])
        return [("default", number, f"{prefix}{number:06x}{nth:04x}", *one, None, None) for nth, one in part]

    made = [portion(number) for number in range(max(4, _MADE_BEFORE // n_writers // n))]
    yield from made
    yield from map(portion, itertools.count(len(made)))


def bare_writer(url: str) -> Callable[[list[tuple[Any, ...]]], None]:
    """Open a connection; return what inserts rows and commits."""
    if url.startswith("sqlite"):
        file = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
            file.execute(f"PRAGMA {pragma}")
        statement = f"INSERT INTO events ({NAMES}) VALUES ({', '.join('?' * 9)})"

        def insert(rows: list[tuple[Any, ...]]) -> None:
            with _TURN:
                file.execute("BEGIN IMMEDIATE")
                file.executemany(statement, rows)
                file.execute("COMMIT")

        return insert
    import psycopg

    connection = psycopg.connect(url)
    placed = f"INSERT INTO events ({NAMES}) VALUES ({', '.join(['%s'] * 9)})"

    def insert_there(rows: list[tuple[Any, ...]]) -> None:
        cursor = connection.cursor()
        if len(rows) == 1:
            cursor.execute(placed, rows[0])
        else:
            cursor.executemany(placed, rows)
        connection.commit()

    return insert_there


_TURN = threading.Lock()
_MADE_BEFORE = 200_000
"""Rows of all writers."""


def bare(url: str, folder: Path, way: Way, seconds: float) -> float:
    """Return events per second of inserts without a service; runs in a process of its own."""
    n = way.n_events or 5_000
    counts = [0] * way.n_clients
    began = [0.0]

    def begin() -> None:
        began[0] = time.perf_counter()

    def write(writer: int) -> None:
        insert, rows = bare_writer(url), rows_without_end(folder, writer, way.n_clients, n)
        next(rows)
        ready.wait()
        while time.perf_counter() < began[0] + seconds:
            insert(next(rows))
            counts[writer] += n

    ready = threading.Barrier(way.n_clients, begin)
    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(way.n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began[0])


def bare_apart(url: str, folder: Path, way: Way, seconds: float) -> float:
    """Run `bare` in a process of its own."""
    command = [sys.executable, __file__, "--bare", url, str(folder), str(way.n_events), str(way.n_clients)]
    return float(subprocess.check_output([*command, str(seconds)]))


@contextmanager
def databases(store: str, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the URLs of three databases with our tables: one for bare inserts, two for the service."""
    names = ("bare", "quiet", "logging")
    if store == "sqlite":
        urls = tuple(f"sqlite:///{folder / name}.db" for name in names)
        open_database(urls[0]).close()
        yield urls  # type: ignore[misc]
        return
    with postgresql() as server:
        urls = tuple(new_database(server, name) for name in names)
        open_database(urls[0]).close()
        yield urls  # type: ignore[misc]


def measure(store: str, bundle: Path, n_rounds: int, seconds: float, ways: Sequence[Way]) -> None:
    """Print the rows of one store."""
    with folder_for_a_while() as folder, databases(store, folder) as (plain, quiet, logging):
        write_bodies(bundle, folder)
        with (
            service(str(bundle), quiet, folder) as port,
            service(str(bundle), logging, folder, log_requests=True) as logging_port,
        ):
            for way in ways:
                rounds = [
                    (
                        bare_apart(plain, folder, way, seconds),
                        over_http(port, way, folder, seconds),
                        over_http(logging_port, way, folder, seconds)["per_second"],
                    )
                    for _ in range(n_rounds)
                ]
                print(row_of(store, way, rounds), flush=True)


def row_of(store: str, way: Way, rounds: Sequence[tuple[float, dict[str, Any], float]]) -> str:
    """Return a row of the table: medians over the rounds; the ratio is the median of each round's ratio."""
    without = statistics.median(plain for plain, _, _ in rounds)
    ours = statistics.median(found["per_second"] for _, found, _ in rounds)
    ratio = statistics.median(found["per_second"] / plain for plain, found, _ in rounds)
    logged = statistics.median(logged for _, _, logged in rounds)
    p50, p99 = (statistics.median(found[name] for _, found, _ in rounds) for name in ("p50_ms", "p99_ms"))
    shown = "| |" if way.n_events == 0 else f"| {p50:.1f} | {p99:.1f} |"
    compared = f"{without:,.0f} | {ours:,.0f} | {ratio:.2f}"
    return f"| {store} | {way.name} | {way.n_clients} | {compared} {shown} {logged:,.0f} |"


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["--bare"]:
        url, folder, n_events, n_clients, seconds = sys.argv[2:]
        print(bare(url, Path(folder), Way(int(n_events), int(n_clients)), float(seconds)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--events", type=int, nargs="+", help="only these numbers of events a request; 0: a stream"
    )
    given = parser.parse_args()
    ways = [way for way in WAYS if given.events is None or way.n_events in given.events]
    print(
        f"Before: {machine()}",
        f"\n| {COLUMNS} |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        sep="\n",
    )
    for store in given.stores:
        measure(store, given.bundle, given.rounds, given.seconds, ways)
    print(f"\nAfter: {machine()}")


if __name__ == "__main__":
    main()
