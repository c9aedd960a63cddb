"""Pseudonyms: always the same, nobody's id, and equal to plain HMAC."""

from __future__ import annotations

import hashlib
import hmac
import re
import time

from hypothesis import given
from hypothesis import strategies as st

from zhiyin.serving.access.pseudonyms import Pseudonyms
from zhiyin.serving.access.secret import Secrets

SECRET = b"a long secret that only tests know, really long"
TEA = Pseudonyms(Secrets(SECRET), "tea", ("city", "email"))


@given(st.text(min_size=1))
def test_is_plain_hmac(user_id: str) -> None:
    key = Secrets(SECRET).key_for("pseudonym", "tea")
    expected = hmac.new(key, user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    assert TEA.of(user_id) == "p_" + expected[:32]


def test_of_today_and_of_tomorrow() -> None:
    # A golden value: with the same secret a stored history is found again by every later version.
    assert TEA.of("ann") == "p_" + GOLDEN
    assert re.fullmatch("p_[0-9a-f]{32}", TEA.of("安"))


GOLDEN = "99165c32736147c9ea87348c43b542f8"


@given(st.lists(st.text(), max_size=50))
def test_many_are_each(user_ids: list[str]) -> None:
    assert TEA.of_many(user_ids) == [TEA.of(user_id) for user_id in user_ids]


def test_a_hundred_thousand_are_distinct_and_quick() -> None:
    user_ids = [f"user-{place}" for place in range(100_000)]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        names = TEA.of_many(user_ids)
        seconds.append(time.perf_counter() - start)
    assert len(set(names)) == 100_000
    assert min(seconds) <= 0.3


def test_other_tenants_and_other_secrets_know_other_names() -> None:
    elsewhere = Pseudonyms(Secrets(SECRET), "coffee")
    later = Pseudonyms(Secrets(SECRET + b"!"), "tea")
    assert len({TEA.of("ann"), elsewhere.of("ann"), later.of("ann")}) == 3


def test_a_pseudonym_is_replaced_like_any_id() -> None:
    once = TEA.of("ann")
    assert TEA.of(once) != once


def test_masked_shows_neither_the_id_nor_the_pseudonym() -> None:
    assert "ann" not in TEA.masked("ann")
    assert len(TEA.masked("ann")) == 11
    assert TEA.of("ann").startswith(TEA.masked("ann").removesuffix("…"))


def test_personal_fields_and_no_others() -> None:
    plain = {"city": "Hangzhou", "email": None, "size": 3, "tags": ["a"]}
    hidden = TEA.attributes(plain)
    assert "Hangzhou" not in repr(hidden)
    assert (hidden["email"], hidden["size"], hidden["tags"]) == (None, 3, ["a"])
    assert hidden["city"] == TEA.attributes({"city": "Hangzhou"})["city"]
    # Each element of a list; another field, and another kind of value, is another name.
    assert TEA.attributes({"city": ["Hangzhou", None]})["city"] == [hidden["city"], None]
    assert TEA.attributes({"email": "Hangzhou"})["email"] != hidden["city"]
    told = [TEA.attributes({"city": value})["city"] for value in (1, "1", True, "True", 1.0)]
    assert len(set(told)) == 5
