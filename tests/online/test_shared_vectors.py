"""Processes that look items up in one store of vectors instead of an index each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.domain.errors import StoreError
from zhiyin.online.asked import Answer, AskedSlate, Past, Wanted
from zhiyin.online.engine import EngineSettings, LiveEngine
from zhiyin.online.shared_vectors import KIND
from zhiyin.online.versions import bundle_to_serve, bundle_version
from zhiyin.pipeline.bundle import load_bundle, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.stores.events import Database
from zhiyin.stores.opening import open_database
from zhiyin.stores.vectors.opening import open_stored_index
from zhiyin.stores.vectors.pgvector import PgvectorIndex
from zhiyin.testing.tea_shop import tea_shop

Start = Callable[..., LiveEngine]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose texts are looked up in an index though there are few."""
    config = PipelineConfig.parse(
        {"sources": {"semantic": {"index_above": 1}, "popularity": {}}}, where="shop"
    )
    pipeline = Pipeline(config)
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    return save_bundle(pipeline, tmp_path_factory.mktemp("bundles") / "tea")


@pytest.fixture
def database(tmp_path: Path, bundle: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    publish(database, bundle)
    yield database
    database.close()


@pytest.fixture
def start(database: Database) -> Iterator[Start]:
    """Start an engine as a process of its own would be."""
    running = []

    def start(vectors: str | None = None) -> LiveEngine:
        store = database.store()
        engine = LiveEngine(bundle_to_serve(store, None), store, settings=EngineSettings(vectors=vectors))
        running.append(engine)
        return engine

    yield start
    for engine in running:
        engine.close()
        engine.close_lives()


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors were put into PostgreSQL, each time."""
    seen: list[int] = []
    fill = PgvectorIndex.fill

    def counted(index: PgvectorIndex, vectors: Any) -> bool:
        seen.append(len(vectors))
        return fill(index, vectors)

    monkeypatch.setattr(PgvectorIndex, "fill", counted)
    return seen


def publish(database: Database, folder: Path) -> str:
    version = bundle_version(folder)
    database.store().put_bundle(version, folder, position=0, facts={})
    database.store().activate_bundle(version).result()
    return version


def stored_name(database: Database, version: str) -> str:
    [installation] = [one.body for one in database.store().documents(KIND) if one.name == "installation"]
    assert installation is not None
    return f"{installation['id']}/{version}/semantic"


def slate(engine: LiveEngine, history: list[str]) -> list[str]:
    [made] = engine.answer([AskedSlate([Past(item) for item in history], Wanted(n=8), "r")])
    assert isinstance(made, Answer), made
    assert not engine.pipeline.stages.failures
    return [item.item_id for item in made.items]


def test_answers_are_those_of_an_index_in_the_process(
    start: Start, postgres_url: str, filled: list[int], database: Database
) -> None:
    alone, first, second = start(), start(postgres_url), start(postgres_url)
    items = alone.pipeline.catalogue_or_raise().items.ids.to_list()
    assert filled == [len(items)], "the second one found what the first had put there"
    for item in items[:5]:
        assert slate(first, [item]) == slate(second, [item]) == slate(alone, [item])
    [document] = [one for one in database.store().documents(KIND) if "/" in one.name]
    assert document.name == stored_name(database, first.bundle)


def test_items_that_come_are_found_in_the_process_alone(
    start: Start, postgres_url: str, database: Database
) -> None:
    engine = start(postgres_url)
    item = engine.pipeline.catalogue_or_raise().items.ids[0]
    engine.intake.put_item("new-tea", {"title": "Sencha green tea from Uji, spring harvest"}).result()
    found = engine.answer([AskedSlate([Past(item)], Wanted(n=30), "r")])[0]
    assert isinstance(found, Answer)
    assert "new-tea" in [shown.item_id for shown in found.items]
    index = open_stored_index(postgres_url, name=stored_name(database, engine.bundle), dimension=384)
    assert len(index) == engine.live.catalogue.n_items - 1
    index.close()


def test_vectors_of_bundles_that_are_gone_are_removed_and_no_others(
    start: Start, postgres_url: str, database: Database, bundle: Path, tmp_path: Path
) -> None:
    first = start(postgres_url)
    stranger = open_stored_index(postgres_url, name=f"other/{first.bundle}/semantic", dimension=384)
    stranger.fill(np.ones((3, 384), np.float32))
    again = save_bundle(load_bundle(bundle), tmp_path / "again")
    card = again / "bundle.toml"
    card.write_text(f"# again\n{card.read_text()}")
    version = publish(database, again)
    database.store().drop_bundle(first.bundle)
    second = start(postgres_url)
    filled = [one.name for one in database.store().documents(KIND) if "/" in one.name]
    assert filled == [stored_name(database, version)]
    gone = open_stored_index(postgres_url, name=stored_name(database, first.bundle), dimension=384)
    assert len(gone) == 0, "it was removed, and is made anew by asking"
    gone.close()
    assert second.bundle == version
    assert len(stranger) == 3
    stranger.close()


def test_a_store_that_is_away_stops_the_start_and_later_only_the_source(
    start: Start, own_postgres: Any
) -> None:
    url = own_postgres.get_uri()
    engine = start(url)
    item = engine.pipeline.catalogue_or_raise().items.ids[0]
    assert slate(engine, [item])
    own_postgres.cleanup()
    [made] = engine.answer([AskedSlate([Past(item)], Wanted(n=8), "r")])
    assert isinstance(made, Answer)
    assert len(made.items) == 8
    assert engine.pipeline.stages.failures["semantic"] >= 1
    with pytest.raises(StoreError, match="does not answer"):
        start(url)


def test_only_stores_outside_the_process_are_taken(start: Start) -> None:
    with pytest.raises(StoreError, match="not kept in 'usearch:'"):
        start("usearch:")


def test_items_come_in_though_the_store_is_away(
    start: Start, own_postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no links in the lists of neighbours then, and everything else."""
    monkeypatch.setattr("zhiyin.sources.listed._LISTS_PAY", 0)
    engine = start(own_postgres.get_uri())
    own_postgres.cleanup()
    engine.intake.put_item("new-tea", {"title": "Sencha green tea"}).result()
    catalogue = engine.pipeline.catalogue_or_raise()
    assert catalogue.items.index("new-tea") == len(catalogue) - 1


def test_what_was_activated_while_the_store_was_away_is_served_later(
    start: Start, own_postgres: Any, database: Database, bundle: Path, tmp_path: Path
) -> None:
    engine = start(own_postgres.get_uri())
    before = engine.bundle
    again = save_bundle(load_bundle(bundle), tmp_path / "again")
    (again / "bundle.toml").write_text(f"# again\n{(again / 'bundle.toml').read_text()}")
    version = bundle_version(again)
    database.store().put_bundle(version, again, position=0, facts={})
    bring = engine._vectors.bring  # type: ignore[union-attr]
    away = StoreError("It is away.")

    def refused(*_: object) -> None:
        raise away

    engine._vectors.bring = refused  # type: ignore[union-attr, method-assign]
    engine._swaps.follow(version)
    engine._swaps.in_turn(lambda: None).result()
    assert engine.bundle == before
    engine._swaps.try_again(60.0)
    engine._vectors.bring = bring  # type: ignore[union-attr, method-assign]
    engine._swaps.in_turn(lambda: None).result()
    assert engine.bundle == before, "it is not tried again so soon"
    engine._swaps.try_again(0.0)
    engine._swaps.in_turn(lambda: None).result()
    assert engine.bundle == version


def test_a_removal_that_is_refused_stops_nothing(
    start: Start, postgres_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(postgres_url)
    place = first._vectors._place  # type: ignore[union-attr]
    assert "@" not in place
    database.store().put_document(KIND, "x/gone/semantic", {"place": place}).result()

    def refused(*_: object, **__: object) -> None:
        raise StoreError("must be owner")

    monkeypatch.setattr("zhiyin.online.shared_vectors.drop_stored", refused)
    assert slate(start(postgres_url), [first.pipeline.catalogue_or_raise().items.ids[0]])
    assert "x/gone/semantic" in [one.name for one in database.store().documents(KIND)]


def test_a_pipeline_in_memory_keeps_its_own_index(
    bundle: Path, database: Database, postgres_url: str, filled: list[int]
) -> None:
    store = database.store()
    engine = LiveEngine(
        bundle_to_serve(store, load_bundle(bundle)), store, settings=EngineSettings(vectors=postgres_url)
    )
    engine.close()
    engine.close_lives()
    assert not filled
