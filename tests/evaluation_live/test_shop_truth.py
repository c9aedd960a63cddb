"""Two ways to recommend, living users of the simulated shop, a real store: the truth comes out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import Shop, simulate_shop
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import IndexArray
from zhiyin.evaluation.live.interleaving import team_draft
from zhiyin.evaluation.live.judging import judge
from zhiyin.evaluation.live.ledger import read_ledger
from zhiyin.evaluation.live.question import MeasuringSettings, Question
from zhiyin.evaluation.live.verdict import Decision, TrialReport
from zhiyin.online.trials.assignment import ArmRanges, Buckets
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event, Impression

N_PLACES, N_VISITS, START = 8, 3, 1_800_000_000
RULES = MeasuringSettings(planned_users=1_500, least_users=100)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return simulate_shop(ShopConfig(n_items=600, n_users=1_500, n_days=60))


@pytest.fixture(scope="module")
def slates(shop: Shop) -> dict[str, IndexArray]:
    """Arm → (U, N) slates: what is popular, and what a trained pipeline recommends."""
    split = leave_last_out(shop.dataset)
    found = {}
    for arm in ("popular", "fast"):
        pipeline = Pipeline(recipe(arm))
        pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
        pipeline.remember(shop.dataset)
        everybody = pipeline.queries_for(shop.dataset.users.ids.to_list())
        found[arm] = pipeline.recommend(everybody, N_PLACES).item_index
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    database = open_database(f"sqlite:///{tmp_path / 'events.db'}")
    yield database.store("default")
    database.close()


def live(shop: Shop, slates: dict[str, IndexArray], store: EventStore, *, mixed: bool = False) -> None:
    """Show every user their arm's slate a few times, and let them click."""
    user_ids, item_ids = shop.dataset.users.ids.to_list(), shop.dataset.catalogue.items.ids.to_list()
    buckets, ranges = Buckets("arm"), ArmRanges(dict.fromkeys(slates, 0.5))
    sides = np.array([ranges.place(buckets.of(user_id)) for user_id in user_ids])
    rng = np.random.default_rng(5)
    impressions, events = [], []
    for visit in range(N_VISITS):
        shown = np.stack([slates[ranges.arms[side]][user] for user, side in enumerate(sides)])
        arms = [ranges.arms[side] for side in sides]
        if mixed:
            drafts = [
                team_draft(*(slates[arm][user] for arm in slates), N_PLACES, rng)
                for user in range(len(sides))
            ]
            shown = np.stack([draft.item_index for draft in drafts])
            arms = [draft.arms(*slates) for draft in drafts]
        clicked = shop.respond(np.arange(len(sides), dtype=np.int32), shown, seed=visit)
        for user, user_id in enumerate(user_ids):
            at = START + visit * 3_600 + user
            items = tuple(item_ids[item] for item in shown[user].tolist())
            name = f"{visit}-{user}"
            impressions.append(
                Impression(name, user_id, at, "recommend", "b", items, (1.0,) * N_PLACES, "e", arms[user])
            )
            events += [
                Event(f"{name}-{place}", user_id, items[place], "click", at + 30)
                for place in np.flatnonzero(clicked[user]).tolist()
            ]
    store.append_impressions(impressions).result()
    store.append_events(events).result()


def true_ctr(shop: Shop, slate: IndexArray) -> float:
    """The chance of at least one click on a slate, over all users."""
    chance = shop.click_probability(np.arange(len(slate), dtype=np.int32), slate)
    return float((1 - np.prod(1 - chance, axis=1)).mean())


def asked(slates: dict[str, IndexArray], store: EventStore, *, mixed: bool = False) -> TrialReport:
    shares = dict.fromkeys(slates, 0.5)
    question = Question("e", shares, next(iter(slates)), "ctr", START, is_interleaving=mixed, measuring=RULES)
    return judge(read_ledger(store, question, START + 86_400), question)


def test_a_good_pipeline_beats_popularity_by_as_much_as_is_true(
    shop: Shop, slates: dict[str, IndexArray], store: EventStore
) -> None:
    live(shop, slates, store)
    report = asked(slates, store)
    found = report.comparisons[0]
    truth = {arm: true_ctr(shop, slate) for arm, slate in slates.items()}
    gain = truth["fast"] - truth["popular"]
    assert gain > 0.05
    assert found.difference.low <= gain <= found.difference.high
    assert all(look.difference.low <= gain <= look.difference.high for look in found.looks)
    assert abs(found.arm_value - truth["fast"]) < 0.04
    assert abs(found.control_value - truth["popular"]) < 0.04
    assert report.decision is Decision.SHIP
    assert report.n_moved == 0
    assert sum(arm.n_slates for arm in report.arms) == shop.dataset.n_users * N_VISITS


def test_the_same_pipeline_twice_is_not_told_apart(
    shop: Shop, slates: dict[str, IndexArray], store: EventStore
) -> None:
    twice = {"popular": slates["fast"], "fast": slates["fast"]}
    live(shop, twice, store)
    report = asked(twice, store)
    found = report.comparisons[0]
    assert all(look.difference.low <= 0 <= look.difference.high for look in found.looks)
    assert report.decision is Decision.GO_ON


def test_interleaving_prefers_the_same_one(
    shop: Shop, slates: dict[str, IndexArray], store: EventStore
) -> None:
    live(shop, slates, store, mixed=True)
    report = asked(slates, store, mixed=True)
    found = report.comparisons[0]
    assert found.difference.low > 0
    assert report.decision is Decision.SHIP
    certain = [look.n_users for look in found.looks if look.p_value < 0.05]
    assert certain[0] <= shop.dataset.n_users
