"""What the ranker of a pipeline learns on from, in a shop where red things are bought once they were seen."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import Continuing, Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of
from zhiyin.language.catalogue import Language
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_continuing import continued
from zhiyin.pipeline.recipes import recipe
from zhiyin.testing.listening import Listening

N_USERS, N_ITEMS, N_SEEN = 300, 20, 8
DAY = 86_400
RED = np.arange(N_ITEMS) % 2 == 0
VIEW, BUY = 0, 1
SETTINGS = {
    "ranker.network.dimension": 4,
    "ranker.network.hidden": 8,
    "ranker.network.training.max_epochs": 10,
    "ranker.network.training.learning_rate": 0.03,
    "ranker.network.training.tokens_per_batch": 64,
    "ranker.network.training.devices": "cpu",
}
BOUGHT = {"ranker.tasks.bought.column": "event", "ranker.tasks.bought.yes_words": '["purchase"]'}


def shop(*, red_until: int = N_SEEN) -> Dataset:
    """Users see eight things, one a day; a red one is bought an hour later, from some day on a blue one."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(N_USERS):
        for day, item in enumerate(random.permutation(N_ITEMS)[:N_SEEN]):
            rows.append((user, item, VIEW, day * DAY))
            if RED[item] == (day < red_until):
                rows.append((user, item, BUY, day * DAY + 3_600))
    user, item, kind, moment = (np.array(column) for column in zip(*rows, strict=True))
    histories = Histories(
        offsets_of(np.bincount(user, minlength=N_USERS)),
        item.astype(np.int32),
        kind.astype(np.int16),
        moment.astype(np.int64),
        np.full(len(user), np.nan, dtype=np.float32),
    )
    table = pl.DataFrame(
        {"item_id": [f"i{item}" for item in range(N_ITEMS)], "colour": np.where(RED, "red", "blue")}
    )
    users = Vocabulary([f"u{user}" for user in range(N_USERS)])
    return Dataset(
        "reds", Catalogue.from_table(table), users, histories, event_kinds=("view", "purchase"),
        event_weights=np.array([0.5, 1.0], dtype=np.float32),
    )  # fmt: skip


def trained(dataset: Dataset, **settings):
    pipeline = Pipeline(recipe("fast", SETTINGS | (settings or BOUGHT)))
    pipeline.fit(TrainingData(dataset, pipeline.language))
    return pipeline.ranker


def on(stage, dataset, is_new, **how):
    """Learn on, and return the stage with what was said."""
    heard = Listening()
    training = TrainingData(dataset, Language(), progress=heard)
    return continued(stage, training, Growth(is_new, Continuing(**how))), " ".join(heard.heard)


@pytest.fixture(scope="module")
def whole():
    return shop()


@pytest.fixture(scope="module")
def is_late(whole):
    """(T,) bool: the last three days."""
    return whole.histories.timestamp >= 5 * DAY


@pytest.fixture(scope="module")
def stage(whole, is_late):
    return trained(whole.with_events(~is_late))


def rows_of(stage):
    (found,) = stage.ranker.trained.facts["continued"]
    return found["n_rows"]


def test_new_rows_are_learned_with_as_many_old_ones(whole, is_late, stage):
    after, _ = on(stage, whole, is_late)
    # Views of three days are new; a fifth of the users is held back to stop and to judge by.
    n_new = round(0.8 * 3 * N_USERS)
    assert rows_of(after) == 2 * n_new
    assert len(after.unseen.validation) == len(after.unseen.test) == 3 * N_USERS // 10
    assert set(after.unseen.validation.user_index).isdisjoint(after.unseen.test.user_index)
    assert "continued" not in stage.ranker.trained.facts
    alone, _ = on(stage, whole, is_late, replay_share=0.0)
    assert rows_of(alone) == n_new


def test_what_is_held_back_is_not_learned_from(whole, is_late, stage, monkeypatch):
    seen = []
    real = type(stage.ranker).go_on

    def listened(ranker, data, known, continuing):
        seen.append((data.train, known))
        real(ranker, data, known, continuing)

    monkeypatch.setattr(type(stage.ranker), "go_on", listened)
    after, _ = on(stage, whole, is_late)
    held = {
        pair
        for part in (after.unseen.validation, after.unseen.test)
        for pair in zip(part.user_index, part.item_index, strict=True)
    }
    for rows in seen[0]:
        assert held.isdisjoint(zip(rows.user_index, rows.item_index, strict=True))
    assert len(seen[0][1]) + len(held) == N_SEEN * N_USERS


def test_a_late_purchase_makes_an_old_view_new(whole):
    """Of the last hundred users nothing is new but what they bought on the first day."""
    events = whole.histories
    is_new = (events.event_index == BUY) & (events.timestamp < DAY) & (events.row_of_event >= 100)
    stage = trained(whole.with_events(~is_new))
    after, _ = on(stage, whole, is_new, replay_share=0.0)
    assert rows_of(after) == is_new.sum()


def test_what_was_learned_follows_what_is_new(stage):
    """From the fifth day on blue things are bought instead."""
    turned = shop(red_until=5)
    is_late = turned.histories.timestamp >= 5 * DAY
    after, _ = on(stage, turned, is_late, epochs=10, learning_rate_share=1.0, replay_share=0.0)
    rows = after.unseen.test
    is_red = RED[rows.item_index]
    before, told = (one.ranker.predict(rows)[:, 0] for one in (stage, after))
    assert before[is_red].mean() > before[~is_red].mean()
    assert told[is_red].mean() < told[~is_red].mean()


def test_every_event_is_a_row_where_that_was_said(whole, is_late):
    stage = trained(whole.with_events(~is_late), **BOUGHT, **{"ranker.first_meetings": False})
    after, _ = on(stage, whole, is_late, replay_share=0.0)
    n_held = len(after.unseen.validation) + len(after.unseen.test)
    assert rows_of(after) + n_held == is_late.sum()


def test_a_few_rows_are_all_learned_and_none_is_judged_by(whole, is_late, stage):
    few = is_late & (whole.histories.row_of_event < 20)
    after, _ = on(stage, whole.with_events(few | ~is_late), few[few | ~is_late], replay_share=0.0)
    assert rows_of(after) == 3 * 20
    assert after.unseen is None


def test_nothing_new_changes_nothing(whole, is_late, stage):
    after, _ = on(stage, whole.with_events(~is_late), np.zeros((~is_late).sum(), dtype=bool))
    assert after is stage


@pytest.mark.parametrize("what", ["the column", "the context", "other answers"])
def test_where_the_log_says_something_else_it_stays_as_it_is(whole, is_late, what):
    extra = pl.Series("device", np.where(np.arange(whole.n_interactions) % 3 > 0, "phone", "desk"))
    rich = replace(whole, context={"device": extra})
    settings = {
        "the column": {"ranker.tasks.phone.column": "device", "ranker.tasks.phone.yes_words": '["phone"]'},
        "the context": BOUGHT | {"ranker.network.context": '["device"]'},
        "other answers": {"ranker.tasks.good.column": "value"},
    }[what]
    value = (whole.histories.item_index % 2).astype(np.float32)
    rich = replace(rich, histories=replace(rich.histories, value=value))
    stage = trained(rich.with_events(~is_late), **settings)
    log = replace(whole, histories=replace(whole.histories, value=value * 0.5))
    after, said = on(stage, log, is_late)
    assert after is stage
    assert "it stays as it is" in said


def test_attributes_of_users_are_those_it_knows(whole, is_late):
    """What a service stores of an event says nothing about users."""
    people = pl.DataFrame({"user_id": whole.users.ids, "country": ["no", "se"] * (N_USERS // 2)})
    settings = BOUGHT | {"ranker.network.context": '["country", "colour"]'}
    stage = trained(replace(whole.with_events(~is_late), user_table=people), **settings)
    after, _ = on(stage, whole, is_late)
    assert after is not stage
    assert set(after.unseen.test.context["country"]) == {"no", "se"}
