"""Every kind of fault by its name, each on a store of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import bundles
import damage
import faulted
import kills
import outages
import starving
import stopping
import swaps
from verdict import Outcome


@dataclass(eq=False)
class Workshop:
    """What faults are made with.

    Attributes:
        folder: Empty; whatever is needed is made here.
        servers: Module that runs real servers: tests/conftest.py.
        seed: Of random moments.
        leaving: Stops the servers.
    """

    folder: Path
    servers: ModuleType
    seed: int = 0
    leaving: ExitStack = field(default_factory=ExitStack)

    @property
    def sqlite(self) -> str:
        """URL of a new database."""
        return f"sqlite:///{self.folder}/store.db"

    def postgres(self) -> str:
        """Run a server, and return the URL of its database."""
        return str(self.leaving.enter_context(self.servers.running_postgres()).get_uri())

    def shop(self, store_url: str, *, n_versions: int = 1) -> kills.Shop:
        """Furnish a database for two tenants, which share bundles only where each has two."""
        first, second = bundles.two_bundles(self.folder / "bundles")
        both = {"default": [first, second][:n_versions], "second": [second, first][:n_versions]}
        return kills.furnish(store_url, both)

    def orders(self, store_url: str) -> faulted.Orders:
        """Return how to start a service; what it was unpacking when it was killed goes with the folder."""
        unpacking = self.folder / "unpacking"
        unpacking.mkdir(exist_ok=True)
        where = {"TMPDIR": str(unpacking)}
        return faulted.Orders(None, store_url, f"{self.folder}/service.log", environment=where)


def make(name: str, rounds: int, workshop: Workshop) -> Outcome:
    """Make some rounds of one fault."""
    faulted.preload()
    with workshop.leaving:
        return _FAULTS[name](rounds, workshop)


def _kill_sqlite(rounds: int, workshop: Workshop) -> Outcome:
    url = workshop.sqlite
    return kills.kill_while_ingesting(workshop.shop(url), workshop.orders(url), rounds, seed=workshop.seed)


def _kill_postgres(rounds: int, workshop: Workshop) -> Outcome:
    url = workshop.postgres()
    return kills.kill_while_ingesting(workshop.shop(url), workshop.orders(url), rounds, seed=workshop.seed)


def _kill_swapping(rounds: int, workshop: Workshop) -> Outcome:
    url = workshop.sqlite
    shop = workshop.shop(url, n_versions=2)
    return swaps.kill_while_swapping(shop, workshop.orders(url), rounds, seed=workshop.seed)


def _swap_under_load(rounds: int, workshop: Workshop) -> Outcome:
    url = workshop.sqlite
    return swaps.swap_under_load(workshop.shop(url, n_versions=2), workshop.orders(url), rounds)


def _postgres_killed(rounds: int, workshop: Workshop) -> Outcome:
    server = workshop.leaving.enter_context(workshop.servers.running_postgres())
    url = str(server.get_uri())
    shop, orders = workshop.shop(url), workshop.orders(url)
    return outages.kill_postgres(server, shop, orders, rounds, seed=workshop.seed)


def _postgres_hangs(_: int, workshop: Workshop) -> Outcome:
    server = workshop.leaving.enter_context(workshop.servers.running_postgres())
    url = str(server.get_uri())
    return outages.hang_postgres(
        server, workshop.servers.hanging_postgres, workshop.shop(url), workshop.orders(url)
    )


def _redis(rounds: int, workshop: Workshop) -> Outcome:
    url = workshop.postgres()
    folder = workshop.folder / "redis"
    folder.mkdir()
    server = workshop.servers.RedisServer(folder)
    workshop.leaving.callback(server.kill)
    shop, orders = workshop.shop(url), workshop.orders(url)
    return outages.trouble_redis(server, shop, orders, rounds, seed=workshop.seed)


def _disk_full(rounds: int, workshop: Workshop) -> Outcome:
    url = workshop.sqlite
    return starving.fill_by_limit(workshop.shop(url), workshop.orders(url), rounds)


def _damaged_bundle(rounds: int, workshop: Workshop) -> Outcome:
    url, outcome = workshop.sqlite, Outcome()
    shop = workshop.shop(url, n_versions=2)
    for number in range(rounds):
        outcome.add(damage.activate_damaged(shop, workshop.orders(url), workshop.seed + 7 * number))
    return outcome


def _clock_back(rounds: int, workshop: Workshop) -> Outcome:
    shop = workshop.shop(workshop.sqlite)
    return stopping.set_clock_back(shop, workshop.folder, workshop.folder / "service.log", rounds)


def _stopping(rounds: int, workshop: Workshop) -> Outcome:
    shop = workshop.shop(workshop.sqlite)
    return stopping.stop_under_load(shop, workshop.folder / "service.log", rounds)


_FAULTS: dict[str, Callable[[int, Workshop], Outcome]] = {
    "kill-sqlite": _kill_sqlite,
    "kill-postgres": _kill_postgres,
    "kill-swapping": _kill_swapping,
    "swap-under-load": _swap_under_load,
    "postgres-killed": _postgres_killed,
    "postgres-hangs": _postgres_hangs,
    "redis": _redis,
    "disk-full": _disk_full,
    "damaged-bundle": _damaged_bundle,
    "clock-back": _clock_back,
    "stopping": _stopping,
}
