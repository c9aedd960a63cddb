"""Bundles that are exchanged while clients ask and send, with kills and without."""

from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import dataclass, field, replace

from asking import ask
from faulted import Orders, Served
from kills import Shop, finish, leave, shoppers_of, small_groups
from shoppers import Place, Tenant
from verdict import Outcome, active_of, log_of

from zhiyin.online.versions import load_version
from zhiyin.stores.opening import open_database

LONGEST_LIFE_SECONDS = 0.4
"""A service is killed at a random moment within this time of saying that it listens."""


@dataclass(eq=False)
class Swapper(threading.Thread):
    """Makes one version after the other the active one of a tenant, until it is told to leave.

    Attributes:
        tenant: With two versions.
        place: Where the service is.
        activated: The version that was acknowledged last.
        unsure: Versions that were asked for since and not acknowledged.
        n_swaps: Acknowledged ones.
    """

    tenant: Tenant
    place: Place
    activated: str = ""
    unsure: set[str] = field(default_factory=set)
    n_swaps: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.leaving = threading.Event()

    def run(self) -> None:
        """Swap."""
        for version in itertools.cycle(sorted(self.tenant.versions)):
            if not self.place.wait(0.5) and not self.leaving.is_set():
                continue
            if self.leaving.is_set():
                return
            self.unsure.add(version)
            path = f"/v1/bundles/{version}/activate"
            answer = ask(self.place.address, "POST", path, key=self.tenant.key)
            self.slowest_seconds = max(self.slowest_seconds, answer.seconds)
            if answer.status == 200:
                self.activated, self.unsure = version, set()
                self.n_swaps += 1
            elif answer.status:
                self.wrong.append(f"swap: {answer.status} {answer.body}")


def kill_while_swapping(shop: Shop, orders: Orders, rounds: int, *, seed: int = 0) -> Outcome:
    """Kill the service at random moments while bundles are exchanged and events come in."""
    rng = random.Random(seed)
    outcome, place = Outcome(), Place()
    shoppers = shoppers_of(shop, 2, [place])
    swappers = [Swapper(tenant, place) for tenant in shop.tenants]
    for thread in (*shoppers, *swappers):
        thread.start()
    orders = replace(orders, prepare=small_groups)
    for _ in range(rounds + 1):
        service = Served(orders)
        outcome.at_most("slowest_start", service.start_seconds)
        log = log_of(shop.store_url)
        outcome.compare_log(log, shoppers)
        outcome.compare_memory(log, service.histories())
        outcome.wrong += _unlike_the_store(shop, service.url)
        for swapper in swappers:
            active = active_of(shop.store_url, swapper.tenant.name)
            if swapper.activated and active not in {swapper.activated, *swapper.unsure}:
                outcome.wrong.append(f"{active} is active, acknowledged was {swapper.activated}")
        if outcome.rounds == rounds:
            break
        place.open(service.url)
        time.sleep(rng.uniform(0.0, LONGEST_LIFE_SECONDS))
        place.close()
        service.kill()
        time.sleep(0.01)
        outcome.rounds += 1
    _hear_swappers(outcome, swappers)
    place.open(service.url)
    finish(shop, outcome, shoppers, [service], is_gapless=False)
    outcome.wrong += _damaged(shop)
    return outcome


def swap_under_load(shop: Shop, orders: Orders, rounds: int) -> Outcome:
    """Exchange bundles again and again: no request may be refused, dropped or answered by another bundle."""
    outcome, place = Outcome(), Place()
    service = Served(orders)
    shoppers = shoppers_of(shop, 3, [place])
    for shopper in shoppers:
        shopper.asks = 0.7
        shopper.start()
    swappers = [Swapper(tenant, place) for tenant in shop.tenants]
    place.open(service.url)
    for swapper in swappers:
        swapper.start()
    deadline = time.monotonic() + 30 + rounds
    while sum(swapper.n_swaps for swapper in swappers) < rounds and time.monotonic() < deadline:
        time.sleep(0.02)
    _hear_swappers(outcome, swappers)
    outcome.rounds = sum(swapper.n_swaps for swapper in swappers)
    leave(shoppers, outcome)
    outcome.wrong += _unlike_the_store(shop, service.url)
    finish(shop, outcome, shoppers, [service], is_gapless=False)
    for name in ("refused", "broken", "stale"):
        if outcome.numbers[name]:
            outcome.wrong.append(f"{outcome.numbers[name]:g} requests were {name}")
    return outcome


def _hear_swappers(outcome: Outcome, swappers: list[Swapper]) -> None:
    for swapper in swappers:
        swapper.leaving.set()
    for swapper in swappers:
        swapper.join(30)
        outcome.wrong += swapper.wrong[:5]
        outcome.count("swaps", swapper.n_swaps)
        outcome.at_most("slowest_swap", swapper.slowest_seconds)


def _unlike_the_store(shop: Shop, address: str) -> list[str]:
    """Return where the service serves something else than the version that the store says is active."""
    found = []
    for tenant in shop.tenants:
        told = ask(address, "GET", "/v1/bundles", key=tenant.key).body
        active = active_of(shop.store_url, tenant.name)
        if told["serving"] != active or active not in tenant.versions:
            found.append(f"tenant {tenant.name}: {told['serving']} serves, {active} is active")
        slate = ask(address, "POST", "/v1/recommend", {"user_id": "u1"}, key=tenant.key).body
        if slate.get("bundle") != active:
            found.append(f"tenant {tenant.name}: {slate} while {active} is active")
    return found


def _damaged(shop: Shop) -> list[str]:
    """Return the versions in the store that cannot be loaded, or should not be there."""
    found = []
    database = open_database(shop.store_url)
    for tenant in shop.tenants:
        store = database.store(tenant.name)
        versions = {bundle.version for bundle in store.bundles()}
        if versions != tenant.versions:
            found.append(f"the store holds {versions} of {tenant.name}")
        for version in versions:
            try:
                load_version(store, version)
            except Exception as error:
                found.append(f"bundle {version}: {error}")
    database.close()
    return found
