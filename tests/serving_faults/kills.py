"""kill -9 of the service while events come in."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asking import ask
from faulted import Orders, Served
from shoppers import Place, Shopper, Tenant
from verdict import Outcome, gaps_of, log_of

from zhiyin.online.versions import bundle_version
from zhiyin.pipeline.bundle import read_card
from zhiyin.serving.access.keys import SCOPES, Allowance, ApiKeys
from zhiyin.stores.opening import open_database

LONGEST_LIFE_SECONDS = 0.35
"""A service is killed at a random moment within this time of saying that it listens."""


@dataclass(frozen=True)
class Shop:
    """A database with bundles and keys, before any service uses it.

    Attributes:
        store_url: The database.
        tenants: Whose data it holds.
    """

    store_url: str
    tenants: tuple[Tenant, ...]


def furnish(store_url: str, bundles: dict[str, Sequence[Path]]) -> Shop:
    """Publish bundles for each tenant, the first of them active, and make a key for each.

    Args:
        store_url: An empty database.
        bundles: Tenant → folders.
    """
    database = open_database(store_url)
    tenants = []
    for place, (name, folders) in enumerate(bundles.items()):
        store = database.store(name)
        for folder in folders:
            facts = read_card(folder).get("training", {})
            store.put_bundle(bundle_version(folder), folder, position=0, facts=facts)
        store.activate_bundle(bundle_version(folders[0])).result()
        key = ApiKeys(database.access).create(name, Allowance(SCOPES, tenant=name)).text
        versions = frozenset(bundle_version(folder) for folder in folders)
        tenants.append(Tenant(name, key, first_item=place, versions=versions))
    database.close()
    return Shop(store_url, tuple(tenants))


def shoppers_of(shop: Shop, n: int, places: Sequence[Place], *, first: int = 0) -> list[Shopper]:
    """Return n shoppers for each tenant, numbered from ``first``, one after the other at the places."""
    return [
        Shopper(tenant, first + number, places[number % len(places)])
        for tenant in shop.tenants
        for number in range(n)
    ]


def small_groups() -> None:
    """Let streams be stored in small groups, so that a kill falls between two of them."""
    from zhiyin.serving.routes import events

    events._LINES_AT_ONCE = 40


def kill_while_ingesting(shop: Shop, orders: Orders, rounds: int, *, seed: int = 0) -> Outcome:
    """Start the service, let events come in, kill it at a random moment; look; again.

    Args:
        shop: Where.
        orders: How the service is started.
        rounds: Kills.
        seed: Of the moments.
    """
    rng = random.Random(seed)
    outcome, place = Outcome(), Place()
    shoppers = shoppers_of(shop, 3, [place])
    orders = replace(orders, prepare=small_groups)
    for shopper in shoppers:
        shopper.start()
    for _ in range(rounds + 1):
        service = Served(orders)
        outcome.at_most("slowest_start", service.start_seconds)
        log = log_of(shop.store_url)
        outcome.compare_log(log, shoppers)
        outcome.compare_memory(log, service.histories())
        if outcome.rounds == rounds:
            break
        place.open(service.url)
        time.sleep(rng.uniform(0.0, LONGEST_LIFE_SECONDS))
        place.close()
        service.kill()
        outcome.rounds += 1
    place.open(service.url)
    finish(shop, outcome, shoppers, [service])
    return outcome


def finish(
    shop: Shop,
    outcome: Outcome,
    shoppers: Sequence[Shopper],
    services: Sequence[Served],
    *,
    is_gapless: bool = True,
) -> None:
    """Let everybody come to an end, and look at everything once more."""
    leave(shoppers, outcome)
    log = log_of(shop.store_url)
    outcome.compare_log(log, shoppers)
    outcome.strange += sum(
        len(log.get(s.tenant.name, {}).get(s.user_id, [])) != len(s.notes.sent) for s in shoppers
    )
    if is_gapless:
        outcome.wrong += gaps_of(shop.store_url)
    outcome.hear(shoppers)
    for service in services:
        for tenant in shop.tenants:  # What others wrote is read before an answer.
            ask(service.url, "POST", "/v1/recommend", {"user_id": "u1"}, key=tenant.key)
        outcome.compare_memory(log, service.histories())
        service.stop()


def leave(shoppers: Sequence[Shopper], outcome: Outcome) -> None:
    """Let shoppers go; what they hold must be acknowledged within seconds."""
    for shopper in shoppers:
        shopper.leave()
    deadline = time.monotonic() + 30
    for shopper in shoppers:
        shopper.join(max(0.1, deadline - time.monotonic()))
        if shopper.is_alive():
            outcome.wrong.append(f"{shopper.name} does not get its events acknowledged")
