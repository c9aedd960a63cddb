"""A slate that came too late is remembered and not stored as shown; the one in its place is."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from zhiyin.online.asked import Asked, AskedSearch, AskedSlate, Wanted
from zhiyin.online.engine import Computed, LiveEngine
from zhiyin.online.trials.trials import Assigned
from zhiyin.online.versions import Loaded
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Impression

PLAIN = AskedSlate("u1", Wanted(n=5), "r")


@pytest.fixture
def engine(pipeline: Pipeline, tmp_path: Path) -> Iterator[LiveEngine]:
    database = open_database(f"sqlite:///{tmp_path}/s.db")
    engine = LiveEngine(Loaded(pipeline, "b1"), database.store())
    yield engine
    engine.close()
    database.close()
    engine.close_lives()


def computed_by(engine: LiveEngine, asked: Asked) -> Computed:
    [computed] = engine.compute([asked])
    return computed


def at_once(engine: LiveEngine) -> str | None:
    return engine.answer_at_once(PLAIN).degraded


def test_a_late_slate_is_the_answer_of_the_next_time_and_was_shown_to_nobody(engine: LiveEngine) -> None:
    computed = computed_by(engine, PLAIN)
    assert at_once(engine) == "popular"
    engine.impressions.store_all()
    n_stored = engine.store.counts().impressions
    engine.keep(computed)
    engine.impressions.store_all()
    assert engine.store.counts().impressions == n_stored
    assert at_once(engine) == "cached"
    kept, settled = engine.answer_at_once(PLAIN), engine.settle(computed)
    assert not isinstance(settled, Exception)
    assert kept.items == settled.items


def stored_of(engine: LiveEngine, user_id: str) -> list[Impression]:
    engine.impressions.store_all()
    return engine.store.impressions_of(user_id)


def test_a_slate_that_stands_in_is_stored_as_shown_and_counts_in_no_click_rate(engine: LiveEngine) -> None:
    answer = engine.answer_at_once(replace(PLAIN, request_id="late"))
    [stored] = stored_of(engine, "u1")
    shown = tuple(item.item_id for item in answer.items)
    assert (stored.request_id, stored.item_ids, stored.route) == ("late", shown, "recommend")
    assert (stored.bundle, stored.experiment) == (answer.bundle, None)
    assert stored.propensities == (1.0,) * len(shown)
    assert engine.clicks.outcomes() == {}


def test_a_slate_that_was_computed_while_its_user_was_erased_is_not_kept(engine: LiveEngine) -> None:
    computed = computed_by(engine, PLAIN)
    engine.intake.delete_user("u1").result()
    engine.keep(computed)
    assert at_once(engine) == "popular"
    again = computed_by(engine, PLAIN)
    engine.keep(again)
    assert at_once(engine) == "cached", "what was computed later is"


def test_an_earlier_slate_is_not_stored_where_another_process_has_erased_the_user(
    engine: LiveEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.keep(computed_by(engine, PLAIN))
    minute_later = SimpleNamespace(time=lambda: time.time() + 60, monotonic=time.monotonic)
    monkeypatch.setattr("zhiyin.online.fallback.time", minute_later)
    engine.store.delete_user("u1").result()  # which this process has not heard of
    shown = engine.live.fallback.stand_in(replace(PLAIN, request_id="cached"), "b1")
    assert shown.answer.degraded == "cached"
    engine.impressions.add(shown.impression)
    assert stored_of(engine, "u1") == []


def test_a_slate_of_an_experiment_or_a_failure_or_a_search_is_not_kept(engine: LiveEngine) -> None:
    computed = computed_by(engine, PLAIN)
    in_arm = [replace(plan, assigned=Assigned("order", "new", None, {})) for plan in computed.plans]
    engine.keep(replace(computed, plans=in_arm))
    engine.keep(replace(computed, made=[ValueError("broken")]))
    engine.keep(computed_by(engine, AskedSearch("tea", Wanted(), "r", "u1")))
    assert at_once(engine) == "popular"
