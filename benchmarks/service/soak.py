"""Whether a service that has worked for long is still as small and as fast as at its beginning.

One service process gets everything at once: recommendations, events, items that come, change and go, users
that are erased, experiments that start and stop, bundles that are exchanged. Every ten seconds it is
measured. The second half of the run says whether its memory is flat.

The load is the same from the first minute to the last, and so modest that a machine which has other things to
do keeps up with it: whether memory is flat is asked, not how much the service can take.

With ``--learn-every`` the service itself trains, judges and exchanges the bundles, out of what it was sent.

Usage::  python benchmarks/service/soak.py BUNDLE --minutes 30 --rate 12 --out FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from zhiyin.evaluation.markup import Html, fill
from zhiyin.evaluation.plots import nice_ticks
from zhiyin.online.versions import bundle_version
from zhiyin.stores.opening import open_database

SERVE = """
import sys
from zhiyin.serving.running import serve
from zhiyin.serving.settings import ServingSettings, AccessSettings, LearningSettings
settings = ServingSettings(
    port=0, log_requests=False, access=AccessSettings(requests_per_second=0),
    learning=LearningSettings(every_minutes=float(sys.argv[2])),
)
serve(None, store_url=sys.argv[1], settings=settings, say=lambda text: print(text, flush=True))
"""
SHARES = {
    "recommend": 0.55, "events": 0.27, "similar": 0.05, "search": 0.03, "put_item": 0.04, "delete_item": 0.01,
    "put_user": 0.02, "erase": 0.01, "report": 0.01, "export": 0.01,
}  # fmt: skip
SAMPLE_SECONDS, SWAP_SECONDS, EXPERIMENT_SECONDS = 10.0, 60.0, 45.0
N_USERS, N_NEW_ITEMS, AT_ONCE, RUNNING_EXPERIMENTS = 5_000, 300, 64, 3
QUEUES = ("recommend", "writer")
PANEL_WIDTH, PANEL_HEIGHT, LEFT, GAP = 720, 90, 70, 34
MIB = 1024.0


class Traffic:
    """Sends requests at a steady rate, and notes how long each took and what came back."""

    def __init__(
        self, url: str, rate: float, users: list[str], items: list[str], versions: list[str], swaps: bool
    ) -> None:
        self.client = httpx.AsyncClient(base_url=url, timeout=30)
        self.latencies_ms: list[float] = []
        self.answers: Counter[str] = Counter()
        self.n_events = 0
        self._rate = rate
        self._users, self._items, self._versions = users, items, versions
        self._swaps = swaps
        self._rng = random.Random(0)
        self._experiments: list[str] = []
        self._n_experiments = 0
        self._free = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, until: float) -> None:
        """Send until a moment of the monotonic clock."""
        kinds, weights = list(SHARES), list(SHARES.values())
        next_at, swap_at, experiment_at, n_swaps = time.monotonic(), time.monotonic(), time.monotonic(), 0
        while (now := time.monotonic()) < until:
            if self._swaps and now >= swap_at:
                swap_at, n_swaps = now + SWAP_SECONDS, n_swaps + 1
                self._start("swap", "POST", f"/v1/bundles/{self._versions[n_swaps % 2]}/activate", None)
            if now >= experiment_at:
                experiment_at = now + EXPERIMENT_SECONDS
                self._start_experiment()
            await self._free.acquire()
            self._free.release()
            kind = self._rng.choices(kinds, weights)[0]
            self._start(kind, *getattr(self, f"_{kind}")())
            # What could not be sent in time is left out: made up for, it would be a burst.
            next_at = max(next_at + 1 / self._rate, time.monotonic())
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
        await asyncio.gather(*self._running)

    def _start(self, kind: str, method: str, path: str, body: Any) -> None:
        task = asyncio.create_task(self._send(kind, method, path, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _send(self, kind: str, method: str, path: str, body: Any) -> None:
        async with self._free:
            started = time.perf_counter()
            try:
                answer = await self.client.request(method, path, json=body)
                outcome = str(answer.status_code)
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            if kind == "recommend":
                self.latencies_ms.append((time.perf_counter() - started) * 1e3)
            self.answers[f"{kind} {outcome}"] += 1

    def _start_experiment(self) -> None:
        """Start one under a name that was never used, stop the oldest of three; half with another bundle."""
        if len(self._experiments) == RUNNING_EXPERIMENTS:
            self._start("stop", "DELETE", f"/v1/experiments/{self._experiments.pop(0)}", None)
        self._n_experiments += 1
        name = f"trial-{self._n_experiments}"
        self._experiments.append(name)
        # A loop that learns drops old versions, so there an arm differs by a setting.
        trial = {"bundle": self._rng.choice(self._versions)} if self._swaps else {"diversity": 0.3}
        arms = {"a": {"share": 0.5}, "b": {"share": 0.5, **trial}}
        kind = self._rng.choice(["ab", "interleaving"])
        body = {"kind": kind, "arms": arms, "control": "a", "share_of_users": 0.2}
        self._start("experiment", "PUT", f"/v1/experiments/{name}", body)

    def _user(self) -> str:
        return self._rng.choice(self._users)

    def _item(self) -> str:
        return self._rng.choice(self._items)

    def _recommend(self) -> tuple[str, str, Any]:
        wish: dict[str, Any] = {"user_id": self._user(), "n": 10}
        if self._rng.random() < 0.2:
            wish = {"history": [self._item() for _ in range(self._rng.randrange(5))], "n": 20}
        if self._rng.random() < 0.1:
            wish |= {"explain": True, "diversity": 0.3}
        if self._rng.random() < 0.1:
            wish |= {"filter": {"item_id": {"in": [self._item() for _ in range(50)]}}}
        return "POST", "/v1/recommend", wish

    def _events(self) -> tuple[str, str, Any]:
        n = self._rng.choice([1, 1, 1, 5])
        self.n_events += n
        events = [{"user_id": self._user(), "item_id": self._item(), "event": "purchase"} for _ in range(n)]
        return "POST", "/v1/events", {"events": events}

    def _similar(self) -> tuple[str, str, Any]:
        return "POST", "/v1/similar", {"item_id": self._item(), "n": 10}

    def _search(self) -> tuple[str, str, Any]:
        words = ("hair oil", "red lipstick", "shaving cream", "gift for her", "nail polish")
        return "POST", "/v1/search", {"text": self._rng.choice(words), "user_id": self._user()}

    def _put_item(self) -> tuple[str, str, Any]:
        title = f"soap number {self._rng.randrange(10_000)}"
        return "PUT", f"/v1/items/new-{self._rng.randrange(N_NEW_ITEMS)}", {"title": title}

    def _delete_item(self) -> tuple[str, str, Any]:
        return "DELETE", f"/v1/items/new-{self._rng.randrange(N_NEW_ITEMS)}", None

    def _put_user(self) -> tuple[str, str, Any]:
        return "PUT", f"/v1/users/{self._user()}", {"city": self._rng.choice(["Wien", "Graz"])}

    def _erase(self) -> tuple[str, str, Any]:
        return "DELETE", f"/v1/users/{self._user()}", None

    def _export(self) -> tuple[str, str, Any]:
        return "GET", f"/v1/users/{self._user()}", None

    def _report(self) -> tuple[str, str, Any]:
        names = self._experiments or ["trial-1"]
        return "GET", f"/v1/experiments/{self._rng.choice(names)}", None


def process_now(pid: int) -> dict[str, float]:
    """Resident memory in MiB, open files and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    rss = re.search(r"VmRSS:\s+(\d+)", status)
    threads = re.search(r"Threads:\s+(\d+)", status)
    assert rss is not None
    assert threads is not None
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {"rss_mib": int(rss[1]) / MIB, "open_files": files, "threads": int(threads[1])}


async def measured(traffic: Traffic, pid: int, until: float) -> list[dict[str, float]]:
    """Sample the process and its metrics until a moment of the monotonic clock."""
    samples: list[dict[str, float]] = []
    begun = time.monotonic()
    while time.monotonic() < until:
        await asyncio.sleep(SAMPLE_SECONDS)
        took, traffic.latencies_ms = traffic.latencies_ms, []
        sample = {"seconds": time.monotonic() - begun, **process_now(pid)}
        sample |= (
            {"p50_ms": float(np.percentile(took, 50)), "p99_ms": float(np.percentile(took, 99))}
            if took
            else {}
        )
        try:
            told = (await traffic.client.get("/metrics")).text
        except httpx.HTTPError:
            told = ""
        for queue in QUEUES:
            depth = re.search(rf'zhiyin_queue_depth{{queue="{queue}"}} ([\d.e+]+)', told)
            sample[f"queue_{queue}"] = float(depth[1]) if depth else float("nan")
        for name in ("items", "users"):
            size = re.search(rf"zhiyin_{name}{{[^}}]*}} ([\d.e+]+)", told)
            sample[name] = float(size[1]) if size else float("nan")
        steps = re.findall(r'zhiyin_learning_steps_total{[^}]*step="(\w+)"[^}]*} ([\d.e+]+)', told)
        sample |= {f"learning_{step}": float(times) for step, times in steps}
        sample |= {"n_events": traffic.n_events, "n_answers": float(sum(traffic.answers.values()))}
        samples.append(sample)
        if len(samples) % 6 == 0:
            print(json.dumps({name: round(value, 1) for name, value in sample.items()}), flush=True)
    return samples


def slope_with_interval(
    hours: Sequence[float], values: Sequence[float], *, block: int = 12, n_draws: int = 2_000
) -> tuple[float, float, float]:
    """Least squares slope and its 95 % interval by a bootstrap of blocks, since neighbours are alike.

    Args:
        hours: (N,) times.
        values: (N,) measurements.
        block: Neighbouring residuals that are drawn together.
        n_draws: Draws.
    """
    x, y = np.asarray(hours, dtype=np.float64), np.asarray(values, dtype=np.float64)
    slope, start = np.polyfit(x, y, 1)
    fitted = start + slope * x
    residual = y - fitted
    block = min(block, max(1, len(x) // 3))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(x) - block + 1, size=(n_draws, -(-len(x) // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(n_draws, -1)[:, : len(x)]
    centred = x - x.mean()
    slopes = slope + (residual[places] * centred).sum(axis=1) / (centred**2).sum()
    low, high = np.percentile(slopes, [2.5, 97.5])
    return float(slope), float(low), float(high)


def panels(samples: list[dict[str, float]], names: Sequence[tuple[str, str]]) -> str:
    """Draw one line a measurement, one above the other, as an SVG file of its own."""
    minutes = [sample["seconds"] / 60 for sample in samples]
    height = len(names) * (PANEL_HEIGHT + GAP) + GAP
    parts = []
    for nth, (name, title) in enumerate(names):
        values = [sample.get(name, float("nan")) for sample in samples]
        known = [value for value in values if np.isfinite(value)] or [0.0]
        ticks = nice_ticks(min(known), max(known), 3)
        top = GAP + nth * (PANEL_HEIGHT + GAP)
        span = (ticks[-1] - ticks[0]) or 1.0

        def y(value: float, top: float = top, low: float = ticks[0], span: float = span) -> float:
            return top + PANEL_HEIGHT * (1 - (value - low) / span)

        grid = (
            '<path d="M$left $y H$right" stroke="#ddd"/><text x="$at" y="$y" text-anchor="end">$told</text>'
        )
        parts += [
            fill(grid, left=LEFT, right=PANEL_WIDTH, y=f"{y(tick):.1f}", at=LEFT - 6, told=f"{tick:,.5g}")
            for tick in ticks
        ]
        line = " L".join(
            f"{LEFT + minute / minutes[-1] * (PANEL_WIDTH - LEFT):.1f} {y(value):.1f}"
            for minute, value in zip(minutes, values, strict=True)
            if np.isfinite(value)
        )
        parts.append(
            fill(
                '<text x="$left" y="$y" font-weight="bold">$title</text>'
                '<path d="M$line" fill="none" stroke="#2a6f97" stroke-width="1.5"/>',
                left=LEFT,
                y=top - 8,
                title=title,
                line=line,
            )
        )
    return fill(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $width $height" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>$parts'
        '<text x="$width" y="$height" dy="-6" text-anchor="end">$minutes minutes</text></svg>',
        width=PANEL_WIDTH + 10, height=height, parts=Html("".join(parts)), minutes=round(minutes[-1]),
    )  # fmt: skip


def two_bundles(bundle: Path, store_url: str, work: Path) -> list[str]:
    """Put a bundle, and the same under another version, into a store; the first becomes active."""
    other = work / "other"
    shutil.copytree(bundle, other)
    card = other / "bundle.toml"
    card.write_text("# The same once more.\n" + card.read_text("utf-8"), "utf-8")
    database = open_database(store_url)
    store = database.store()
    versions = [bundle_version(folder) for folder in (bundle, other)]
    for folder, version in zip((bundle, other), versions, strict=True):
        store.put_bundle(version, folder, position=0, facts={})
    store.activate_bundle(versions[0]).result()
    database.close()
    return versions


def verdict(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Say how the second half of a run went."""
    half = samples[len(samples) // 2 :]
    hours = [sample["seconds"] / 3_600 for sample in half]
    told: dict[str, Any] = {}
    for name in ("rss_mib", "open_files", "threads"):
        slope, low, high = slope_with_interval(hours, [sample[name] for sample in half])
        told[f"{name}_per_hour"] = {"slope": slope, "low": low, "high": high}
    rss, usual = told["rss_mib_per_hour"], float(np.mean([sample["rss_mib"] for sample in half]))
    # An interval as wide as this says nothing either way; then the run was too short.
    told["memory"] = "rises" if rss["low"] > 0 else "flat" if rss["high"] < 0.1 * usual else "undecided"
    told["p99_ms"] = {
        part: float(np.median([sample["p99_ms"] for sample in some if "p99_ms" in sample]))
        for part, some in (("first_half", samples[: len(samples) // 2]), ("second_half", half))
    }
    grown = {name: half[-1][name] - half[0][name] for name in ("items", "users", "n_events")}
    return {**told, "what_really_grew_in_the_second_half": grown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument(
        "--rate", type=float, default=12.0, help="requests a second, so few that a busy machine keeps up"
    )
    parser.add_argument(
        "--learn-every", type=float, default=0.0, metavar="MINUTES",
        help="the service learns new bundles this often; 0: two bundles take turns each minute",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("soak"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="zhiyin-soak-"))
    store_url = f"sqlite:///{work}/store.db"
    versions = two_bundles(options.bundle, store_url, work)
    users = (
        pl.read_parquet(options.bundle / "users.parquet").to_series().head(N_USERS).cast(pl.String).to_list()
    )
    items = pl.read_parquet(options.bundle / "items.parquet")["item_id"].to_list()
    items += [f"new-{number}" for number in range(N_NEW_ITEMS)]
    with (options.out / "service.log").open("w") as log:
        service = subprocess.Popen(
            [sys.executable, "-c", SERVE, store_url, str(options.learn_every)],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            assert service.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", service.stdout.readline())
            assert found is not None, "the service did not start; its log says why"
            samples, answers = asyncio.run(_soaked(found[0], service.pid, options, users, items, versions))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=60)
            shutil.rmtree(work, ignore_errors=True)
    told = {
        "minutes": options.minutes,
        "rate": options.rate,
        "learn_every_minutes": options.learn_every,
        **verdict(samples),
        "answers": answers,
    }
    (options.out / "soak.json").write_text(json.dumps({**told, "samples": samples}, indent=1))
    names = [
        ("rss_mib", "Resident memory, MiB"), ("p99_ms", "Recommendation, 99th percentile, ms"),
        ("open_files", "Open files"), ("threads", "Threads"), ("queue_recommend", "Requests waiting"),
        ("queue_writer", "Writes waiting"), ("items", "Items"), ("n_events", "Events sent"),
    ]  # fmt: skip
    (options.out / "soak.svg").write_text(panels(samples, names))
    print(json.dumps(told, indent=1))


async def _soaked(
    url: str, pid: int, options: argparse.Namespace, users: list[str], items: list[str], versions: list[str]
) -> tuple[list[dict[str, float]], dict[str, int]]:
    traffic = Traffic(url, options.rate, users, items, versions, swaps=not options.learn_every)
    until = time.monotonic() + options.minutes * 60
    sending = asyncio.create_task(traffic.run(until))
    samples = await measured(traffic, pid, until)
    await sending
    await traffic.client.aclose()
    return samples, dict(sorted(traffic.answers.items()))


if __name__ == "__main__":
    main()
