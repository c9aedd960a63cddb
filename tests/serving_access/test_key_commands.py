"""The commands around keys, on a real store, also while a service holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zhiyin.cli.main import app
from zhiyin.domain.errors import RequestError, StoreError
from zhiyin.serving.access.keys import KEY, Allowance, ApiKeys, matches
from zhiyin.stores.opening import open_database


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new folder/shop.db"


def zhiyin(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def told(*arguments: str) -> Any:
    return json.loads(zhiyin(*arguments, "--json"))


def test_the_life_of_a_key(url: str) -> None:
    at = ("--store", url)
    text = zhiyin("keys", "create", "shop backend", "--scope", "recommend", "--scope", "ingest", *at).strip()
    assert KEY.fullmatch(text)
    (listed,) = told("keys", "list", *at)
    assert (listed["name"], listed["scopes"], listed["state"]) == (
        "shop backend",
        ["ingest", "recommend"],
        "valid",
    )
    renewed = told("keys", "rotate", listed["key_id"], "--grace-hours", "2", *at)
    assert renewed["scopes"] == ["ingest", "recommend"]
    told("keys", "revoke", renewed["key_id"], *at)
    old, new = told("keys", "list", *at)
    assert (old["state"], new["state"]) == ("valid", "revoked")
    assert old["expires"] - renewed["created"] == 7_200
    database = open_database(url)
    stored = {key.key_id: key for key in database.access.keys(None)}
    database.close()
    assert matches(text, stored[old["key_id"]])
    assert matches(renewed["key"], stored[new["key_id"]])
    shown = zhiyin("keys", "list", *at) + zhiyin("audit", *at) + json.dumps(told("keys", "list", *at))
    for hidden in (text.rpartition("_")[2], stored[old["key_id"]].digest):
        assert hidden not in shown


@pytest.mark.parametrize("days", ["1e12", "inf", "nan"])
def test_no_key_lives_longer_than_dates_go(url: str, days: str) -> None:
    at = ("--store", url)
    made = ("keys", "create", "shop", "--scope", "ingest", *at)
    with pytest.raises(RequestError, match=r"--expires-days .* is too long"):
        zhiyin(*made, "--expires-days", days)
    zhiyin(*made, "--expires-days", "36525")
    (listed,) = told("keys", "list", *at)
    if days == "nan":
        return  # the command line itself refuses it where there is a least number
    with pytest.raises(RequestError, match=r"--grace-hours .* is too long"):
        zhiyin("keys", "rotate", listed["key_id"], "--grace-hours", days, *at)


def test_a_date_beyond_all_dates_does_not_hide_the_other_keys(url: str) -> None:
    database = open_database(url)
    ApiKeys(database.access).create("old", Allowance(("ingest",), lifetime_seconds=10**17))
    database.close()
    assert "9999-12-31" in zhiyin("keys", "list", "--store", url)


def test_everything_is_in_the_audit_log(url: str) -> None:
    made = told("keys", "create", "tea", "--scope", "admin", "--tenant", "tea", "--store", url)
    told("keys", "create", "other", "--scope", "admin", "--tenant", "coffee", "--store", url)
    told("keys", "revoke", made["key_id"], "--store", url)
    with pytest.raises(RequestError, match="There is no key nobody"):
        told("keys", "revoke", "nobody", "--store", url)
    entries = told("audit", "--store", url)
    noted = [(entry["action"], entry["outcome"], entry["tenant"]) for entry in reversed(entries)]
    assert noted == [
        ("key.create", "begun", "tea"),
        ("key.create", "done", "tea"),
        ("key.create", "begun", "coffee"),
        ("key.create", "done", "coffee"),
        ("key.revoke", "begun", "tea"),
        ("key.revoke", "done", "tea"),
        ("key.revoke", "begun", ""),
        ("key.revoke", "failed: RequestError", ""),
    ]
    assert {entry["actor"] for entry in entries} == {"cli"}
    assert len(told("audit", "--store", url, "--tenant", "tea")) == 4
    assert len(told("audit", "--store", url, "-n", "3")) == 3


def test_a_key_is_made_and_revoked_while_a_service_holds_the_file(url: str) -> None:
    service = open_database(url)
    try:
        made = told("keys", "create", "shop", "--scope", "ingest", "--store", url)
        kept = service.access.key(made["key_id"])
        assert kept is not None
        assert kept.revoked is None
        told("keys", "revoke", made["key_id"], "--store", url)
        kept = service.access.key(made["key_id"])
        assert kept is not None
        assert kept.revoked is not None
        service.check()
    finally:
        service.close()


def test_a_misspelt_store_is_not_made(url: str, tmp_path: Path) -> None:
    for command in (("keys", "list"), ("keys", "revoke", "x"), ("keys", "rotate", "x"), ("audit",)):
        with pytest.raises(StoreError, match="There is no store"):
            zhiyin(*command, "--store", url)
    assert not list(tmp_path.iterdir())


def test_impossible_wishes(url: str) -> None:
    with pytest.raises(RequestError, match="Did you mean 'admin'"):
        zhiyin("keys", "create", "x", "--scope", "admim", "--store", url)
    with pytest.raises(RequestError, match="lifetime"):
        zhiyin("keys", "create", "x", "--scope", "admin", "--expires-days", "-1", "--store", url)
    assert told("keys", "list", "--store", url) == []
    assert "zhiyin keys create" in zhiyin("keys", "list", "--store", url)
