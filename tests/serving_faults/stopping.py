"""SIGTERM, and clocks that are set back: with the command line as people start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from asking import ask
from kills import Shop, shoppers_of
from shoppers import Place
from verdict import Outcome, log_of

_SET_BACK = """
import os, time

_FILE = os.environ["CLOCK_OF_TESTS"]
_seconds, _nanoseconds = time.time, time.time_ns


def _ahead():
    with open(_FILE) as file:
        return float(file.read())


time.time = lambda: _seconds() + _ahead()
time.time_ns = lambda: _nanoseconds() + int(_ahead() * 1e9)
"""


class Started:
    """`zhiyin serve`, as people type it.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, shop: Shop, log: Path, environment: Mapping[str, str] | None = None) -> None:
        line = [sys.executable, "-m", "zhiyin.cli.main", "serve", "--store", shop.store_url, "--port", "0"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "ZHIYIN_ACCESS_REQUESTS_PER_SECOND": "0"}
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                line, env={**env, **(environment or {})}, stdout=subprocess.PIPE, stderr=errors
            )
        said = b""
        for line_said in self.process.stdout or ():
            said += line_said
            if b"http://" in line_said:
                break
        found = re.search(rb"http://([\d.]+:\d+)", said)
        assert found is not None, log.read_text()[-3000:]
        self.url = found.group(1).decode()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()  # type: ignore[union-attr]

    def end(self, how: signal.Signals) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(how)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()


def stop_under_load(shop: Shop, log: Path, rounds: int) -> Outcome:
    """Stop a service politely while clients ask and send; every request that was taken is answered."""
    outcome = Outcome()
    for number in range(rounds):
        service, place = Started(shop, log), Place()
        shoppers = shoppers_of(shop, 3, [place], first=number * 10)
        for shopper in shoppers:
            shopper.start()
        place.open(service.url)
        time.sleep(1.0)
        readiness: list[int] = []
        watch = threading.Thread(target=_watch_readiness, args=(service, readiness), daemon=True)
        watch.start()
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        code = service.process.wait(30)
        outcome.at_most("slowest_stop", time.monotonic() - began)
        place.close()
        watch.join(10)
        if code != 0:
            outcome.wrong.append(f"the exit code is {code}: {log.read_text()[-500:]}")
        if 503 not in readiness:
            outcome.wrong.append("/readyz never said that the service stops")
        outcome.count("at_the_door", sum(shopper.notes.n_at_the_door for shopper in shoppers))
        outcome.count("cut_off", sum(shopper.notes.n_cut_off for shopper in shoppers))
        again = Started(shop, log)
        place.open(again.url)
        for shopper in shoppers:
            shopper.leave()
        for shopper in shoppers:
            shopper.join(20)
        outcome.compare_log(log_of(shop.store_url), shoppers)
        outcome.hear(shoppers)
        again.end(signal.SIGKILL)
        outcome.rounds += 1
    if outcome.numbers["cut_off"]:
        outcome.wrong.append(f"{outcome.numbers['cut_off']:g} requests were taken and not answered")
    return outcome


def _watch_readiness(service: Started, seen: list[int]) -> None:
    while service.process.poll() is None:
        seen.append(ask(service.url, "GET", "/readyz", seconds=5).status)
        time.sleep(0.01)


def set_clock_back(shop: Shop, folder: Path, log: Path, rounds: int) -> Outcome:
    """Set the clock back under a running service and across restarts; events keep their order.

    A user sends events without timestamps; the export must list them, and the slate must follow them, in the
    order in which they were sent.
    """
    outcome = Outcome()
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(_SET_BACK)
    clock = folder / "ahead"
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "CLOCK_OF_TESTS": str(clock)}
    sent: dict[str, list[str]] = {}
    for number in range(rounds):
        _turn(clock, 0)
        service = Started(shop, log, environment)
        for place, ahead in enumerate((0, -3_600, -7_200)):
            _turn(clock, ahead)
            _send_some(shop, service.url, f"{number} {place}", sent, outcome)
            _look_at_order(shop, service.url, sent, outcome)
        service.end(signal.SIGKILL)
        _turn(clock, -10_000)
        service = Started(shop, log, environment)
        _send_some(shop, service.url, f"{number} after", sent, outcome)
        _look_at_order(shop, service.url, sent, outcome)
        service.end(signal.SIGKILL)
        outcome.rounds += 1
    return outcome


def _turn(clock: Path, seconds: int) -> None:
    """Set how far the clock is ahead, in one step: a service that reads half a file would have no clock."""
    next_time = clock.with_suffix(".next")
    next_time.write_text(str(seconds))
    next_time.replace(clock)


def _send_some(shop: Shop, address: str, label: str, sent: dict[str, list[str]], outcome: Outcome) -> None:
    for tenant in shop.tenants:
        for place in range(3):
            for user_id in ("u1", "stranger"):  # One whom the bundle remembers, one it does not.
                item = f"i{(7 * len(sent.get(f'{tenant.name} {user_id}', ()))) % 30}"
                event = {"user_id": user_id, "item_id": item, "event_id": f"{label} {place} {user_id}"}
                answer = ask(address, "POST", "/v1/events", event, key=tenant.key)
                if answer.status != 202:
                    outcome.wrong.append(f"an event after the clock was set back: {answer}")
                sent.setdefault(f"{tenant.name} {user_id}", []).append(item)
                outcome.acknowledged += 1


def _look_at_order(shop: Shop, address: str, sent: dict[str, list[str]], outcome: Outcome) -> None:
    for tenant in shop.tenants:
        for user_id in ("u1", "stranger"):
            told = ask(address, "GET", f"/v1/users/{user_id}", key=tenant.key)
            if told.status != 200:
                outcome.wrong.append(f"an export after the clock was set back: {told}")
                continue
            events = told.body["events"]
            items = [event["item_id"] for event in sorted(events, key=lambda event: event["timestamp"])]
            outcome.strange += items != sent[f"{tenant.name} {user_id}"]
            slate = ask(address, "POST", "/v1/recommend", {"user_id": user_id}, key=tenant.key)
            if slate.status != 200 or slate.body["bundle"] not in tenant.versions:
                outcome.wrong.append(f"a slate after the clock was set back: {slate}")
