"""A disk that is full: a limit on the size of files, and a file system with no room left."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from asking import Answered, ask, wait_until
from faulted import Orders, Served
from kills import Shop, finish, shoppers_of
from shoppers import Place
from verdict import Outcome, log_of

_ROOM_BYTES = 600_000
"""What the write-ahead log may grow to."""


def limit_files(n_bytes: int) -> None:
    """Let no file of this process grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def fill_by_limit(shop: Shop, orders: Orders, rounds: int) -> Outcome:
    """Start with a limit on files, write until it is reached, look; start without it, look again."""
    outcome = Outcome()
    for _ in range(rounds):
        size = Path(shop.store_url.removeprefix("sqlite:///")).stat().st_size
        starved = replace(orders, prepare=partial(limit_files, size + _ROOM_BYTES))
        _fill(shop, starved, outcome)
        outcome.rounds += 1
    return outcome


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a file system of 4 MB; yield False where this user may not."""
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    is_there = os.geteuid() == 0 and subprocess.run(line, capture_output=True, check=False).returncode == 0
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_a_disk(shop: Shop, orders: Orders, folder: Path) -> Outcome:
    """Fill the file system of the store; make it larger under the running service, which must go on."""
    outcome = Outcome()

    def make_room() -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)

    _fill(shop, orders, outcome, make_room=make_room)
    outcome.rounds += 1
    return outcome


def _fill(shop: Shop, orders: Orders, outcome: Outcome, make_room: Callable[[], None] | None = None) -> None:
    service, place = Served(orders), Place()
    number = outcome.rounds * 10
    shoppers = shoppers_of(shop, 2, [place], first=number)
    for shopper in shoppers:
        shopper.start()
    place.open(service.url)
    is_full = wait_until(lambda: any(shopper.notes.n_refused > 3 for shopper in shoppers), 60)
    if is_full is None:
        outcome.wrong.append("the disk did not become full")
    _look_while_full(shop, service, outcome)
    acknowledged = [set(shopper.notes.acknowledged) for shopper in shoppers]
    outcome.compare_log(log_of(shop.store_url), shoppers, acknowledged)
    if make_room is None:
        place.close()
        service.kill()
        service = Served(replace(orders, prepare=None))
        outcome.compare_memory(log_of(shop.store_url), service.histories())
        place.open(service.url)
    else:
        make_room()
    if wait_until(lambda: ask(service.url, "GET", "/readyz").status == 200, 15) is None:
        outcome.wrong.append(f"not ready with space: {ask(service.url, 'GET', '/readyz')}")
    finish(shop, outcome, shoppers, [service])


_MOST_WRITES = 30
"""Writes of 400 kB: what the service calls full has no room for so many."""
_NEVER_REFUSED = Answered(202, {}, None, 0.0)


def _look_while_full(shop: Shop, service: Served, outcome: Outcome) -> None:
    # A small write may find the last free place where a large one failed; the next ones do not.
    if wait_until(lambda: ask(service.url, "GET", "/readyz").status == 503, 5) is None:
        outcome.wrong.append("ready on a full disk")
    for tenant in shop.tenants:
        long = {str(number): "x" * 1_000 for number in range(20)}
        many = [{"user_id": "nobody", "item_id": "i1", "context": long}] * 20
        event = {"events": many}
        # The service says that it is not ready a little before the last page is taken.
        answers = (ask(service.url, "POST", "/v1/events", event, key=tenant.key) for _ in range(_MOST_WRITES))
        refused = next((answer for answer in answers if answer.status != 202), _NEVER_REFUSED)
        if refused.status != 503 or refused.retry_after is None or not _says_disk(refused):
            outcome.wrong.append(f"a write on a full disk: {refused}")
        slate = ask(service.url, "POST", "/v1/recommend", {"user_id": "u1"}, key=tenant.key)
        if slate.status != 200 or slate.body["bundle"] not in tenant.versions:
            outcome.wrong.append(f"a slate on a full disk: {slate}")


def _says_disk(answer: Answered) -> bool:
    return "disk" in f"{answer.body.get('detail')} {answer.body.get('remedy')}".lower()
