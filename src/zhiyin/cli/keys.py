"""Commands that make, renew and take back API keys, and show the audit log."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zhiyin.cli.audited import noted
from zhiyin.cli.stores import store_beside
from zhiyin.cli.terminal import ERR, OUT
from zhiyin.domain.errors import RequestError
from zhiyin.serving.access.keys import GRACE_SECONDS, Allowance, ApiKeys, NewKey, state
from zhiyin.stores.events import DEFAULT_TENANT
from zhiyin.stores.records import StoredKey

if TYPE_CHECKING:
    from zhiyin.stores.events import AccessStore

keys = typer.Typer(
    help="Make, list, renew and take back the keys with which programs call the service.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Store = Annotated[
    str,
    typer.Option(
        envvar="ZHIYIN_STORE",
        help="The store the service uses, such as sqlite:///events.db or postgresql://….",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyId = Annotated[str, typer.Argument(help="What stands between zk_ and the secret.")]
_DAY, _HOUR = 86_400, 3_600
_LONGEST = 36_525 * _DAY
"""A century."""
_LAST_DATE = 253_402_300_799
"""The end of the year 9999, which is as far as dates go."""


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, such as 'shop backend'.")],
    store: Store,
    scope: Annotated[
        list[str],
        typer.Option(
            help="What it may do: ingest, recommend or admin. Several: --scope ingest --scope recommend."
        ),
    ],
    tenant: Annotated[str, typer.Option(help="Whose data it opens.")] = DEFAULT_TENANT,
    expires_days: Annotated[
        float | None, typer.Option(help="Days after which it is refused; left out, never.")
    ] = None,
    requests_per_second: Annotated[
        float | None, typer.Option(help="Requests a second it may make; left out, as the service says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    lifetime = None if expires_days is None else _seconds(expires_days, _DAY, "--expires-days")
    allowance = Allowance(tuple(scope), tenant, lifetime, requests_per_second)
    with _access(store, may_make=True) as access, noted(access, tenant, "key.create", name):
        new = ApiKeys(access).create(name, allowance)
    _show_new(new, as_json=as_json)


@keys.command("list")
def list_keys(
    store: Store,
    tenant: Annotated[str | None, typer.Option(help="Only the keys of one tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, oldest first; never the secrets, which nobody keeps."""
    with _access(store) as access:
        found = ApiKeys(access).listed(tenant)
    if as_json:
        print(json.dumps([_told(key) for key in found], ensure_ascii=False))
        return
    if not found:
        OUT.print("There are no keys. Make one:  zhiyin keys create NAME --scope SCOPE --store URL")
        return
    table = Table(
        "id", "name", "tenant", "scopes", "created", "state", "requests a second", box=None, pad_edge=False
    )
    for key in found:
        limit = "" if key.requests_per_second is None else f"{key.requests_per_second:g}"
        scopes = ", ".join(key.scopes)
        table.add_row(
            key.key_id, escape(key.name), key.tenant, scopes, _date(key.created), _state(key), limit
        )
    OUT.print(table)


@keys.command()
def rotate(
    key_id: KeyId,
    store: Store,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="How long the old key goes on working.")
    ] = GRACE_SECONDS / _HOUR,
    as_json: AsJson = False,
) -> None:
    """Make a new key in place of another, print it, this once, and let the old one end soon."""
    grace = _seconds(grace_hours, _HOUR, "--grace-hours")
    with _access(store) as access, noted(access, _tenant_of(access, key_id), "key.rotate", key_id):
        new = ApiKeys(access).rotate(key_id, grace_seconds=grace)
    _show_new(new, as_json=as_json)
    ERR.print(f"The key {key_id} goes on working for {grace_hours:g} hours at most.", highlight=False)


@keys.command()
def revoke(key_id: KeyId, store: Store, as_json: AsJson = False) -> None:
    """Take a key back; every process of the service refuses it within seconds."""
    with _access(store) as access, noted(access, _tenant_of(access, key_id), "key.revoke", key_id):
        key = ApiKeys(access).revoke(key_id)
    if as_json:
        print(json.dumps(_told(key), ensure_ascii=False))
    else:
        OUT.print(f"The key {key.key_id} ({escape(key.name)}) is revoked.", highlight=False)


def audit(
    store: Store,
    tenant: Annotated[str | None, typer.Option(help="Only what concerns one tenant.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many entries.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the audit log, newest first: keys, erasures, exports, bundles, experiments, refusals."""
    with _access(store) as access:
        entries = access.audit(tenant, limit=n)
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], ensure_ascii=False))
        return
    table = Table("when", "tenant", "who", "did", "to", "outcome", "request", box=None, pad_edge=False)
    for entry in entries:
        row = (entry.tenant, entry.actor, entry.action, entry.subject, entry.outcome, entry.request_id)
        table.add_row(_date(entry.timestamp), *(escape(cell) for cell in row))
    OUT.print(table)


@contextmanager
def _access(store: str, *, may_make: bool = False) -> Iterator[AccessStore]:
    with store_beside(store, may_make=may_make) as database:
        yield database.access


def _seconds(number: float, unit: int, option: str) -> int:
    """Return days or hours in seconds.

    Raises:
        RequestError: when it is no number, or so large that no date has it.
    """
    if not number * unit <= _LONGEST:
        raise RequestError(
            f"{option} {number:g} is too long.", possible=f"It is at most {_LONGEST / unit:,.0f}."
        )
    return int(number * unit)


def _tenant_of(access: AccessStore, key_id: str) -> str:
    key = access.key(key_id)
    return key.tenant if key else ""


def _show_new(new: NewKey, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**_told(new.stored), "key": new.text}, ensure_ascii=False))
        return
    print(new.text)
    ERR.print("Keep it now: only a hash is stored, and nobody can show it again.", style="yellow")


def _told(key: StoredKey) -> dict[str, Any]:
    """Return what may be shown of a key; not even its hash."""
    told = {name: value for name, value in asdict(key).items() if name != "digest"}
    return {**told, "state": state(key, time.time())}


def _state(key: StoredKey) -> str:
    is_now = state(key, time.time())
    if is_now == "valid":
        return "valid" if key.expires is None else f"valid until {_date(key.expires)}"
    return f"[dim]{is_now}[/dim]"


def _date(timestamp: int) -> str:
    return dt.datetime.fromtimestamp(min(timestamp, _LAST_DATE), dt.UTC).strftime("%Y-%m-%d %H:%M")
