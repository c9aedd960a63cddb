"""Items arrive, change and leave; requests never wait for it, and a failure leaves nothing behind."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from zhiyin.data.attributes import UnfitAttribute
from zhiyin.domain.errors import StoreError
from zhiyin.online.asked import Answer, AskedSearch, AskedSlate, Wanted
from zhiyin.online.catalogue import MOST_NEW_NAMES
from zhiyin.online.engine import EngineSettings, LiveEngine
from zhiyin.online.versions import Loaded
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import Database
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Impression, StoredItem

NEW = {"title": "Tea number 99", "categories": ["Drinks", "Tea"], "price": 99.0}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path}/s.db")
    yield database
    database.close()


@pytest.fixture
def engine(pipeline: Pipeline, database: Database) -> Iterator[LiveEngine]:
    engine = LiveEngine(Loaded(pipeline, "b1"), database.store())
    yield engine
    engine.close()
    engine.close_lives()


def slate(engine: LiveEngine, who: str, n: int = 40, **wanted: object) -> list[str]:
    (answer,) = engine.answer([AskedSlate(who, Wanted(n=n, **wanted), "r")])
    assert isinstance(answer, Answer)
    return [item.item_id for item in answer.items]


def test_a_change_is_made_on_a_twin_that_leaves_the_first_as_it_was(engine: LiveEngine) -> None:
    before = engine.pipeline
    queries = before.queries_for(["u1", "u2"])
    slate_before = before.recommend(queries, 30)
    table_before = before.catalogue_or_raise().table.clone()
    changes = [StoredItem("new", NEW), StoredItem("i1", {"price": 5.0}), StoredItem("i3", {}, deleted=True)]
    assert engine.live.catalogue.take_in(changes) == [None] * 3
    assert engine.pipeline is not before
    slate_again = before.recommend(queries, 30)
    np.testing.assert_array_equal(slate_again.item_index, slate_before.item_index)
    for name, column in slate_before.columns.items():
        np.testing.assert_array_equal(slate_again.column(name), column)
    assert before.catalogue_or_raise().table.equals(table_before)
    assert "new" in slate(engine, "u1")
    assert "i3" not in slate(engine, "u1", repeat=True)
    assert engine.live.catalogue.n_items == 30


def test_one_change_that_fails_does_not_keep_the_others_out(
    engine: LiveEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_items = Pipeline.add_items

    def fail_for_poison(self: Pipeline, table: pl.DataFrame) -> None:
        if "poison" in table["item_id"]:
            raise ValueError("this item is poison")
        add_items(self, table)

    monkeypatch.setattr(Pipeline, "add_items", fail_for_poison)
    problems = engine.live.catalogue.take_in(
        [StoredItem("a", NEW), StoredItem("poison", NEW), StoredItem("b", NEW)]
    )
    assert [type(problem) for problem in problems] == [type(None), ValueError, type(None)]
    assert {"a", "b"} < set(slate(engine, "u1"))
    with pytest.raises(ValueError, match="poison"):
        engine.intake.put_item("poison", NEW).result()
    engine.intake.put_item("c", NEW).result()
    assert "c" in slate(engine, "u1")


def test_an_item_that_cannot_be_taken_in_does_not_stop_a_start(
    pipeline: Pipeline, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = database.store()
    for item_id in ("a", "poison", "b"):
        store.put_item(item_id, NEW).result()
    add_items = Pipeline.add_items

    def fail_for_poison(self: Pipeline, table: pl.DataFrame) -> None:
        if "poison" in table["item_id"]:
            raise ValueError("this item is poison")
        add_items(self, table)

    monkeypatch.setattr(Pipeline, "add_items", fail_for_poison)
    engine = LiveEngine(Loaded(pipeline, "b1"), store)
    assert {"a", "b"} < set(slate(engine, "u1"))
    assert "'poison' could not be taken into the pipeline" in caplog.text
    engine.close()


def test_items_that_come_at_once_are_taken_in_together(
    engine: LiveEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    go = threading.Event()
    add_items = Pipeline.add_items

    def slow(self: Pipeline, table: pl.DataFrame) -> None:
        go.wait(5)
        sizes.append(table.height)
        add_items(self, table)

    monkeypatch.setattr(Pipeline, "add_items", slow)
    waiting = [engine.live.catalogue.put(StoredItem(f"n{number % 25}", NEW)) for number in range(50)]
    assert slate(engine, "u1")  # answers do not wait for the change
    go.set()
    for one in waiting:
        one.result(5)
    assert len(sizes) <= 2
    assert sum(sizes) <= 50
    assert {f"n{number}" for number in range(25)} < set(slate(engine, "u1", n=100))


def test_who_leaves_waits_for_nobody(engine: LiveEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an item is taken in slowly, others leave, leave and come back, or leave before they have come."""
    may_come, add_items = threading.Event(), Pipeline.add_items

    def slowly(self: Pipeline, *items: Any) -> None:
        assert may_come.wait(30)
        add_items(self, *items)

    monkeypatch.setattr(Pipeline, "add_items", slowly)
    catalogue = engine.live.catalogue
    futures = [catalogue.put(StoredItem("slow", NEW))]
    leaving = {"repeat": True, "n": 60}
    assert {"i3", "i4", "i5"} <= {*slate(engine, "u1", **leaving)}
    futures += [catalogue.put(StoredItem(item, {}, deleted=True)) for item in ("i3", "i4", "slow")]
    futures.append(catalogue.put(StoredItem("i4", {"price": 7.0})))
    shown = slate(engine, "u1", **leaving)
    assert "i3" not in shown
    assert "i5" in shown
    may_come.set()
    for future in futures:
        future.result(timeout=10)
    shown = slate(engine, "u1", **leaving)
    assert {"i4", "i5"} <= {*shown}
    assert not {"i3", "slow"} & {*shown}
    catalogue.put(StoredItem("i3", {"price": 8.0})).result(timeout=10)
    assert "i3" in slate(engine, "u1", **leaving)


def test_a_closed_engine_takes_nothing_more(pipeline: Pipeline, database: Database) -> None:
    engine = LiveEngine(Loaded(pipeline, "b1"), database.store())
    put = engine.intake.put_item("late", NEW)
    engine.close()
    database.close()
    engine.close_lives()
    assert put.result(1)[0].item_id == "late"
    with pytest.raises(StoreError, match="closed"):
        engine.intake.put_item("later", NEW)
    with pytest.raises(StoreError, match="stopping"):
        engine.live.catalogue.put(StoredItem("later", NEW))


def test_a_new_bundle_with_other_types_still_starts_on_an_old_store(
    pipeline: Pipeline, database: Database
) -> None:
    store = database.store()
    store.put_item("old", {**NEW, "price": "ninety-nine", "brand": 5}).result()
    engine = LiveEngine(Loaded(pipeline, "b2"), store)
    assert slate(engine, "u1", filter={"price": {"known": False}}) == ["old"]
    engine.close()


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(
    pipeline: Pipeline, database: Database
) -> None:
    store = database.store()
    engine = LiveEngine(Loaded(pipeline, "b1"), store, settings=EngineSettings(impression_capacity=3))
    for number in range(10):
        engine.impressions.add(Impression(str(number), None, 0, "search", "b1", (), ()))
    assert engine.impressions.n_dropped >= 1
    n_dropped = engine.impressions.n_dropped
    engine.close()
    assert store.counts().impressions == 10 - n_dropped


def test_stages_are_told_how_long_they_took(pipeline: Pipeline, database: Database) -> None:
    told: list[str] = []
    watched = EngineSettings(observe=lambda stage, _: told.append(stage))
    engine = LiveEngine(Loaded(pipeline, "b1"), database.store(), settings=watched)
    engine.answer([AskedSlate("u1", Wanted(explain=True), "r"), AskedSearch("tea", Wanted(), "r", "u1")])
    inner = ("propose", "score", "merge", "policy", "reason")
    outer = [stage for stage in told if not stage.startswith(inner)]
    assert outer == ["history", "filter", "rank", "explain", "filter", "search", "rank"]
    sources = [source.name for source in pipeline.sources]
    of_sources = [f"{what} {name}" for what in ("propose", "score") for name in sources]
    assert "reason item_graph" in told[: told.index("explain")]
    before_rank = told[: told.index("rank")]
    assert sorted(before_rank) == sorted(["history", "filter", *of_sources, "merge", "policy"])
    engine.close()


def test_items_bring_a_bounded_number_of_new_attributes(engine: LiveEngine) -> None:
    catalogue = engine.live.catalogue
    for number in range(0, MOST_NEW_NAMES, 5):
        names = {f"attr-{number + place}": "x" for place in range(5)}
        engine.intake.put_item(f"new-{number}", names).result(10)
    engine.intake.put_item("again", {"attr-0": "y", "attr-199": "z"}).result(10)
    engine.intake.put_item("again", {"title": "Tea", "brand": "Wuyi", "description": "…"}).result(10)
    engine.intake.put_item("again", {"attr-0": None}).result(10)
    with pytest.raises(UnfitAttribute, match="so far: 'empty'"):
        engine.intake.put_item("full", {"empty": None})  # a column too
    with pytest.raises(UnfitAttribute, match="so far: 'one-more', 'another'") as refused:
        engine.intake.put_item("full", {"attr-1": "x", "one-more": 1, "another": 2})
    assert refused.value.path == "one-more"
    assert "200 attributes beyond those" in refused.value.possible
    assert "0 more can come" in refused.value.possible
    assert "train a bundle" in refused.value.remedy
    assert "full" not in catalogue.current.items
    assert len([name for name in catalogue.current.table.columns if name.startswith("attr-")]) == 200


def test_attributes_that_are_on_their_way_count(engine: LiveEngine) -> None:
    """Requests that come together may not bring more than one after the other."""
    catalogue = engine.live.catalogue
    for number in range(MOST_NEW_NAMES):
        catalogue.fit({f"attr-{number}": 1.0})
    with pytest.raises(UnfitAttribute, match="too many new attributes"):
        catalogue.fit({"one-more": 1.0})
    catalogue.fit({"attr-7": 2.0})


def test_a_store_with_more_attributes_than_may_come_still_starts(
    pipeline: Pipeline, database: Database
) -> None:
    many = {f"attr-{number}": "x" for number in range(MOST_NEW_NAMES + 50)}
    database.store().put_item("old", many).result(10)
    engine = LiveEngine(Loaded(pipeline, "b1"), database.store())
    assert "attr-249" in engine.live.catalogue.current.table.columns
    engine.intake.put_item("old", {"attr-249": "y"}).result(10)
    with pytest.raises(UnfitAttribute, match="'one-more'"):
        engine.intake.put_item("old", {"one-more": 1})
    engine.close()
    engine.close_lives()
