"""Bundles with flipped bytes, in the store and in folders."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from asking import ask
from faulted import Orders, Served
from kills import Shop
from verdict import Outcome, active_of


def damage_in_store(store_url: str, tenant: str, version: str, place: int) -> None:
    """Flip one byte of one file of a stored bundle."""
    with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute(
            "SELECT rowid, content FROM bundle_parts WHERE tenant = ? AND version LIKE ? ORDER BY path",
            (tenant, f"{version}%"),
        ).fetchall()
        row, content = rows[place % len(rows)]
        flipped = bytearray(content)
        flipped[place % len(flipped)] ^= 0xFF
        connection.execute("UPDATE bundle_parts SET content = ? WHERE rowid = ?", (bytes(flipped), row))
        connection.commit()


def damage_in_folder(folder: Path, place: int) -> None:
    """Flip one byte of one file of a bundle."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[place % len(files)]
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 0xFF
    file.write_bytes(bytes(content))


def activate_damaged(shop: Shop, orders: Orders, place: int) -> Outcome:
    """Damage the version that does not serve, try to activate it, start again."""
    outcome = Outcome(rounds=1)
    tenant = shop.tenants[0]
    good = active_of(shop.store_url, tenant.name)
    bad = next(iter(tenant.versions - {good}))
    damage_in_store(shop.store_url, tenant.name, bad, place)
    service = Served(orders)
    answer = ask(service.url, "POST", f"/v1/bundles/{bad}/activate", key=tenant.key)
    if answer.status < 400 or "sha256" not in str(answer.body):
        outcome.wrong.append(f"the activation of a damaged bundle: {answer}")
    _look(shop, service, good, outcome, "after the activation failed")
    if active_of(shop.store_url, tenant.name) != good:
        outcome.wrong.append("the store says that a damaged bundle is active")
    service.kill()
    service = Served(orders)
    _look(shop, service, good, outcome, "after a restart")
    service.kill()
    damage_in_store(shop.store_url, tenant.name, bad, place)  # Mended: the byte is flipped back.
    damage_in_store(shop.store_url, tenant.name, good, place)
    service = Served(orders)
    _look(shop, service, bad, outcome, "with the active bundle damaged")
    if f"bundle {good} cannot be served" not in service.log_text():
        outcome.wrong.append("the log does not say that the active bundle is damaged")
    service.kill()
    damage_in_store(shop.store_url, tenant.name, good, place)
    return outcome


def _look(shop: Shop, service: Served, version: str, outcome: Outcome, when: str) -> None:
    event = {"user_id": "u1", "item_id": "i2"}
    sent = ask(service.url, "POST", "/v1/events", event, key=shop.tenants[0].key)
    slate = ask(service.url, "POST", "/v1/recommend", {"user_id": "u1"}, key=shop.tenants[0].key)
    if sent.status != 202 or slate.status != 200 or slate.body["bundle"] != version:
        outcome.wrong.append(f"{when}: {sent} {slate}")
