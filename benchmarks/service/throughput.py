"""What a recommendation costs over HTTP, beside a route that returns a constant list of the same size.

    python benchmarks/service/throughput.py BUNDLE --clients 1 8 32 64 --seconds 5 --rounds 3

Two services run in processes of their own, one worker each: Zhiyin on the bundle, and a FastAPI app whose one
route returns ten constant items through the framework's usual path. The same load generator, in a third
process, asks first the one, then the other, again and again; each row is the round with the median ratio. The
requests are those of known users drawn at random. Afterwards the service tells from its own metrics where
the milliseconds went.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import polars as pl

HERE = Path(__file__).parent
CONSTANT = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
ITEMS = [{"item_id": f"B{n:09d}", "rank": n + 1, "score": 1.0 / (n + 1)} for n in range(10)]
@app.post("/v1/recommend")
async def constant():
    return {"items": ITEMS, "bundle": "5910b1c16023", "request_id": "3008ec0f57054858", "known_user": True}
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""
SERVE = """
import sys
from zhiyin.serving.running import serve
from zhiyin.serving.settings import AnswerSettings, ServingSettings
answers = AnswerSettings(n_threads=int(sys.argv[4]), max_waiting=1024)
serve(sys.argv[1], store_url=sys.argv[2],
      settings=ServingSettings(port=int(sys.argv[3]), log_requests=sys.argv[5] == "log", answers=answers))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log", action="store_true", help="one line of JSON for each request, into a file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies.jsonl"
        write_bodies(options.bundle, bodies)
        store = f"sqlite:///{folder}/store.db"
        log = "log" if options.log else "quiet"
        ours = start([SERVE, str(options.bundle), store, "9851", str(options.threads), log], 9851, folder)
        constant = start([CONSTANT, "9852"], 9852, folder)
        try:
            report(bodies, options)
        finally:
            for process in (ours, constant):
                process.send_signal(signal.SIGINT)
                process.wait(30)


def write_bodies(bundle: Path, file: Path, n: int = 50_000) -> None:
    """Write the bodies of requests of known users."""
    users = pl.read_parquet(bundle / "users.parquet")["user_id"].to_list()
    chance = random.Random(0)
    file.write_text("".join(f"{json.dumps({'user_id': chance.choice(users), 'n': 10})}\n" for _ in range(n)))


def start(arguments: list[str], port: int, folder: str) -> subprocess.Popen[bytes]:
    """Start a service and wait until it answers."""
    log = open(Path(folder) / f"{port}.log", "wb")  # noqa: SIM115 - lives as long as the process
    process = subprocess.Popen([sys.executable, "-c", *arguments], stdout=log, stderr=log)
    for _ in range(1_200):
        if process.poll() is not None:
            sys.exit((Path(folder) / f"{port}.log").read_text())
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5).read()
        except OSError:
            time.sleep(0.25)
        else:
            return process
    sys.exit("the service did not start")


def load(port: int, bodies: Path, clients: int, seconds: float) -> dict[str, float]:
    """Run the load generator in a process of its own."""
    command = [sys.executable, str(HERE / "load.py"), str(port), "/v1/recommend", str(bodies)]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(bodies: Path, options: argparse.Namespace) -> None:
    print(f"{options.bundle}, {options.threads} thread(s), load average {os.getloadavg()[0]:.1f}\n")
    print(
        "| clients | constant/s | p50 ms | p99 ms | ours/s | p50 ms | p99 ms | ratio | ratios of all rounds |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    load(9851, bodies, 8, 3)  # both are warm
    load(9852, bodies, 8, 1)
    before = stages()
    for clients in options.clients:
        rounds = []
        for _ in range(options.rounds):
            constant = load(9852, bodies, clients, options.seconds)
            ours = load(9851, bodies, clients, options.seconds)
            assert set(ours["statuses"]) == {"200"}, ours["statuses"]  # type: ignore[call-overload]
            rounds.append((ours["per_second"] / constant["per_second"], constant, ours))
        rounds.sort(key=lambda one: one[0])
        ratio, constant, ours = rounds[len(rounds) // 2]
        cells = [f"{one[k]:.0f}" if k == "per_second" else f"{one[k]:.2f}"
                 for one in (constant, ours) for k in ("per_second", "p50_ms", "p99_ms")]  # fmt: skip
        every = ", ".join(f"{one[0]:.2f}" for one in rounds)
        print(f"| {clients} | {' | '.join(cells)} | **{ratio:.2f}** | {every} |", flush=True)
    print("\nWhere the time goes, milliseconds a call of the stage (a batch shares one call of rank):\n")
    print("| stage | calls | ms |\n| --- | ---: | ---: |")
    for stage, (seconds, calls) in stages().items():
        seconds_before, calls_before = before.get(stage, (0.0, 0.0))
        if calls > calls_before:
            mean_ms = 1000 * (seconds - seconds_before) / (calls - calls_before)
            print(f"| {stage} | {calls - calls_before:.0f} | {mean_ms:.3f} |")


def stages() -> dict[str, tuple[float, float]]:
    """Read seconds and calls of every stage from the metrics of the service."""
    text = urllib.request.urlopen("http://127.0.0.1:9851/metrics").read().decode()
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        for name in ("zhiyin_stage_seconds", "zhiyin_request_seconds", "zhiyin_batch_size"):
            for part in ("sum", "count"):
                if line.startswith(f"{name}_{part}"):
                    label = line.partition('"')[2].partition('"')[0] or name.removeprefix("zhiyin_")
                    found.setdefault(label, {})[part] = float(line.rpartition(" ")[2])
    return {label: (parts["sum"], parts["count"]) for label, parts in found.items()}


if __name__ == "__main__":
    main()
