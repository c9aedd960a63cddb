"""Unsafe settings: each is refused for its own reason, and all reasons are told at once."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.serving.access.safety import dangers, refuse_unsafe
from zhiyin.serving.settings import ServingSettings

GOOD_SECRET = "v9Kq2mXw7Lr4Tz8Pb1Nc6Hd3Gf5Js0Ya-Ue"
POSTGRES = "postgresql://zhiyin:Kq2mXw7Lr4@db.internal/zhiyin?sslmode=require"
SAFE: dict[str, Any] = {"production": True, "host": "0.0.0.0", "privacy": {"secret": GOOD_SECRET}}


def settings(**changed: Any) -> ServingSettings:
    parsed: ServingSettings = ServingSettings.parse(SAFE | changed, where="service")
    return parsed


def test_safe_settings_are_safe() -> None:
    refuse_unsafe(settings(), 1, POSTGRES, n_processes=4)
    refuse_unsafe(settings(), 1, "sqlite:///shop.db")
    shared = {"redis": "rediss://cache.internal:6379/0", "streams": ["redis://:pw@cache/0?stream=events"]}
    page = {"cors_origins": ["https://shop.example", "http://localhost:3000"], "docs": False}
    refuse_unsafe(settings(sharing=shared, access=page), 1, POSTGRES)
    assert dangers(ServingSettings(), 0, "sqlite:///shop.db") == []


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("There is no key", {"host": "127.0.0.1"}, {"n_keys": 0}),
    ("no secret", {"privacy": {}}, {}),
    ("31 characters", {"privacy": {"secret": GOOD_SECRET[:31]}}, {}),
    ("can be guessed", {"privacy": {"secret": "a" * 64}}, {}),
    ("can be guessed", {"privacy": {"secret": "abcdefghijkl" * 4}}, {}),
    ("can be guessed", {"privacy": {"secret": "change-me-" + GOOD_SECRET}}, {}),
    ("Every web page", {"access": {"cors_origins": ["*"]}}, {}),
    ("comes unencrypted", {"access": {"cors_origins": ["http://shop.example"]}}, {}),
    ("no origin", {"access": {"cors_origins": ["https://shop.example/"]}}, {}),
    ("no origin", {"access": {"cors_origins": ["shop.example"]}}, {}),
    ("shown to everybody", {"access": {"docs": True}}, {}),
    ("1000000000 bytes", {"max_body_bytes": 1_000_000_000}, {}),
    ("500 bytes", {"max_body_bytes": 500}, {}),
    ("ask without end", {"access": {"requests_per_second": 0}}, {}),
    ("one SQLite file", {}, {"store_url": "sqlite:///shop.db", "n_processes": 2}),
    ("The Redis at cache", {"sharing": {"redis": "redis://cache:6379/0"}}, {}),
    ("The Redis at cache", {"sharing": {"streams": ["redis://cache/0?stream=events"]}}, {}),
    ("not encrypted", {}, {"store_url": "postgresql://z:Kq2mXw@db/z?sslmode=disable"}),
    ("first that anybody tries", {}, {"store_url": "postgresql://postgres:postgres@db/z"}),
    ("not encrypted", {"sharing": {"vectors": "postgresql://z:Kq2mXw@vec/z?sslmode=disable"}}, {}),
    ("PostgreSQL at vec is the first", {"sharing": {"vectors": "postgresql://z:password@vec/z"}}, {}),
    ("The Milvus at vec", {"sharing": {"vectors": "milvus://vec:19530"}}, {}),
    ("Personal fields", {"privacy": {"secret": GOOD_SECRET, "personal_fields": ["city"]}}, {}),
]


@pytest.mark.parametrize(("reason", "changed", "around"), CASES)
def test_each_is_refused_for_its_reason_alone(
    reason: str, changed: dict[str, Any], around: dict[str, Any]
) -> None:
    given = {"n_keys": 1, "store_url": POSTGRES} | around
    found = dangers(settings(**changed), **given)
    assert [reason in danger.problem for danger in found] == [True], found
    assert found[0].remedy.endswith((".", "URL"))
    with pytest.raises(ConfigError, match="for 1 reason:"):
        refuse_unsafe(settings(**changed), **given)


def test_all_reasons_at_once_without_the_secret() -> None:
    bad = settings(
        privacy={"secret": "hunter2hunter2", "pseudonymise": True},
        access={"cors_origins": ["*"], "docs": True, "requests_per_second": 0},
        max_body_bytes=10**9,
        sharing={"redis": "redis://cache"},
    )
    with pytest.raises(ConfigError) as refused:
        refuse_unsafe(bad, 0, "sqlite:///shop.db", n_processes=3)
    text = str(refused.value)
    assert "for 9 reasons" in text
    assert "  9. " in text
    assert "hunter2" not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "shop.example"])
def test_beyond_this_machine_only_with_keys_also_outside_production(host: str) -> None:
    with pytest.raises(ConfigError, match="without any key"):
        refuse_unsafe(ServingSettings(host=host), 0, "sqlite:///shop.db")
    refuse_unsafe(ServingSettings(host=host), 1, "sqlite:///shop.db")
    for local in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        refuse_unsafe(ServingSettings(host=local), 0, "sqlite:///shop.db")


def test_pseudonyms_need_a_secret_also_outside_production() -> None:
    asked = ServingSettings.parse({"privacy": {"pseudonymise": True}}, where="service")
    with pytest.raises(ConfigError, match="no secret to make them with"):
        refuse_unsafe(asked, 1, "sqlite:///shop.db")


def test_secrets_as_the_remedy_makes_them_are_never_weak() -> None:
    for make in (lambda: secrets.token_urlsafe(48), lambda: secrets.token_hex(32)):
        for _ in range(300):
            assert not dangers(settings(privacy={"secret": make()}), 1, POSTGRES)
