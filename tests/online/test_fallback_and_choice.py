"""What is answered without time, which bundle is served, and a clock that never goes back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain.errors import BundleError, StoreError
from zhiyin.online.asked import AskedSlate, Past, Wanted
from zhiyin.online.clock import ArrivalClock
from zhiyin.online.live import Live
from zhiyin.online.versions import IN_MEMORY, bundle_to_serve, bundle_version
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.policy.filters import FilterError
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event, StoredItem


@pytest.fixture
def live(pipeline: Pipeline) -> Iterator[Live]:
    live = Live(pipeline, version="v")
    yield live
    live.close()


def asked(who: Any, **wanted: Any) -> AskedSlate:
    return AskedSlate(who, Wanted(**wanted), "r")


def event(user_id: str, item_id: str) -> Event:
    return Event(f"{user_id}-{item_id}", user_id, item_id, "view", 1_700_000_000)


def shown(live: Live, one: AskedSlate) -> list[str]:
    return [item.item_id for item in live.fallback.stand_in(one, "v").answer.items]


def test_the_popular_answer_keeps_every_rule(live: Live) -> None:
    everything = shown(live, asked("stranger", n=1_000))
    histories = live.pipeline.histories
    counts = [int((histories.item_index == live.histories.item_index(item)).sum()) for item in everything]
    assert counts == sorted(counts, reverse=True)
    assert len(everything) == len(live.pipeline.catalogue_or_raise())
    best, second, third = everything[:3]
    live.record([event("anna", best)])
    live.catalogue.put(StoredItem(second, {}, deleted=True)).result()
    assert shown(live, asked("anna", n=3))[0] == third
    assert shown(live, asked("anna", n=3, repeat=True))[:2] == [best, third]
    assert shown(live, asked([Past(third)], n=2))[0] == best
    only = {"item_id": {"in": [best, third, everything[9]]}}
    assert shown(live, asked("anna", n=9, filter=only)) == [third, everything[9]]
    with pytest.raises(FilterError):
        shown(live, asked("anna", filter={"prize": 3}))


def test_the_last_answer_comes_again_until_something_makes_it_wrong(live: Live) -> None:
    plain = asked("anna", n=5)
    live.record([event("anna", "i0")])

    def keep() -> list[str]:
        full = live.answering.recommend([plain])[0]()
        live.fallback.keep(plain, full, live.fallback.seen(plain))
        again = live.fallback.stand_in(plain, "v").answer
        assert again.degraded == "cached"
        assert again.items == full.answer.items
        return [item.item_id for item in full.answer.items]

    first = keep()
    assert shown(live, asked("anna", n=3)) == first[:3]
    assert live.fallback.stand_in(asked("anna", n=6), "v").answer.degraded == "popular"
    assert live.fallback.stand_in(asked("anna", n=5, repeat=True), "v").answer.degraded == "popular"
    live.record([event("anna", first[0])])
    fresh = live.fallback.stand_in(plain, "v").answer
    assert fresh.degraded == "popular"
    assert first[0] not in [item.item_id for item in fresh.items]
    second = keep()
    live.catalogue.put(StoredItem(second[1], {}, deleted=True)).result()
    assert second[1] not in shown(live, plain)
    keep()
    live.forget("anna")
    assert live.fallback.stand_in(plain, "v").answer.degraded == "popular"


def test_an_answer_is_not_kept_when_something_happened_while_it_was_computed(live: Live) -> None:
    plain = asked("anna", n=5)
    live.record([event("anna", "i0")])
    seen = live.fallback.seen(plain)
    computed = live.answering.recommend([plain])[0]()
    live.record([event("anna", computed.answer.items[0].item_id)])
    live.fallback.keep(plain, computed, seen)
    assert live.fallback.stand_in(plain, "v").answer.degraded == "popular"


@given(st.lists(st.floats(0, 2e9), min_size=1), st.integers(0, 2_000_000_000))
def test_the_clock_goes_back_only_by_what_was_wrong_and_is_right_when_it_can(
    moments: list[float], known: int
) -> None:
    ticks = iter(moments)
    clock = ArrivalClock(known, lambda: next(ticks))
    before = known
    for moment in moments:
        told = clock.now()
        assert told == (max(before, int(moment)) if before <= int(moment) + 86_400 else int(moment))
        before = told


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    yield database.store()
    database.close()


def two_folders(pipeline: Pipeline, folder: Path) -> tuple[Path, Path]:
    first = save_bundle(pipeline, folder / "first")
    second = save_bundle(pipeline, folder / "second")
    card = second / "bundle.toml"
    card.write_text(f"# Another one.\n{card.read_text()}")
    return first, second


def test_every_way_to_choose_a_bundle(pipeline: Pipeline, store: EventStore, tmp_path: Path) -> None:
    assert bundle_to_serve(store, pipeline).version == IN_MEMORY
    with pytest.raises(StoreError, match="holds no bundle"):
        bundle_to_serve(store, None)
    with pytest.raises(BundleError):
        bundle_to_serve(store, tmp_path / "nowhere")
    first, second = two_folders(pipeline, tmp_path)
    a, b = bundle_version(first), bundle_version(second)
    # A folder that is new to the store is taken over and becomes active.
    assert bundle_to_serve(store, first).version == a
    assert [(one.version, one.is_active) for one in store.bundles()] == [(a, True)]
    assert bundle_to_serve(store, second).version == b
    assert {one.version: one.is_active for one in store.bundles()} == {a: False, b: True}
    # One it has seen does not become active again: whatever is active by now is served.
    assert bundle_to_serve(store, first).version == b
    assert bundle_to_serve(store, second).version == b
    assert bundle_to_serve(store, None).version == b
    store.activate_bundle(a).result()
    assert bundle_to_serve(store, None).version == a
    assert bundle_to_serve(store, second).version == a
