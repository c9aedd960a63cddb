"""What the ranker of a pipeline learns on from, in a shop where red things are bought once they were seen."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import Continuing, Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import TrainingError
from zhiyin.language.catalogue import Language
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_continuing import continued
from zhiyin.pipeline.ranker_files import read_ranker_stage, write_ranker_stage
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


def pairs(rows):
    return set(zip(rows.user_index.tolist(), rows.item_index.tolist(), strict=True))


def owed(stage):
    return {(user, item) for user, item in stage.owed.tolist()}


def test_new_rows_and_owed_ones_are_learned_with_as_many_old_ones(whole, is_late, stage):
    """Training held a fifth of the first five days back; now three days are new."""
    assert owed(stage) == pairs(stage.unseen.validation) | pairs(stage.unseen.test)
    after, _ = on(stage, whole, is_late)
    unseen = after.unseen
    n_new = 3 * N_USERS + len(stage.owed)
    held = pairs(unseen.validation) | pairs(unseen.test)
    assert 0.18 * n_new < len(held) < 0.25 * n_new
    assert min(len(unseen.validation), len(unseen.test)) >= 50
    assert rows_of(after) == 2 * (n_new - len(held))
    assert set(unseen.validation.user_index).isdisjoint(unseen.test.user_index)
    assert owed(after) == held
    assert "continued" not in stage.ranker.trained.facts
    alone, _ = on(stage, whole, is_late, replay_share=0.0)
    assert rows_of(alone) == n_new - len(held)


def test_what_was_held_back_is_learned_in_the_next_round(whole, is_late, stage, monkeypatch):
    seen = watched(stage, monkeypatch)
    after, _ = on(stage, whole, is_late)
    much = after.owing(*stage.owed.T)  # more than 250
    last, _ = on(much, whole, np.zeros(len(is_late), dtype=bool), replay_share=0.0)
    assert len(seen) == 2
    learned = pairs(seen[1][0])
    assert learned
    assert learned | owed(last) == owed(much)


def watched(stage, monkeypatch):
    """Return a list that fills with rows learned from, and rows counted, of every training."""
    seen, real = [], type(stage.ranker).go_on

    def listened(ranker, data, known, continuing):
        seen.append((data.train, known))
        real(ranker, data, known, continuing)

    monkeypatch.setattr(type(stage.ranker), "go_on", listened)
    return seen


def test_what_is_held_back_is_not_learned_from(whole, is_late, stage, monkeypatch):
    seen = watched(stage, monkeypatch)
    after, _ = on(stage, whole, is_late)
    held = pairs(after.unseen.validation) | pairs(after.unseen.test)
    for rows in seen[0]:
        assert held.isdisjoint(pairs(rows))


def test_late_events_of_people_held_back_are_read_by_nothing_that_is_learned(whole, monkeypatch):
    """What is new happened on the second day; rows of later days knew it."""
    moment = whole.histories.timestamp
    is_new = (moment >= DAY) & (moment < 2 * DAY)
    start = trained(whole.with_events(~is_new))
    seen = watched(start, monkeypatch)
    after, _ = on(start, whole, is_new)
    first = np.full(N_USERS, 1_000)
    for part in (after.unseen.validation, after.unseen.test):
        np.minimum.at(first, part.user_index, part.n_known)
    assert (first < 1_000).sum() > 20
    for rows in seen[0]:
        assert (rows.n_known <= first[rows.user_index]).all()


def test_a_late_purchase_makes_an_old_view_new(whole):
    """Of most users nothing is new but what they bought on the first two days."""
    events = whole.histories
    is_new = (events.event_index == BUY) & (events.timestamp < 2 * DAY) & (events.row_of_event >= 20)
    stage = trained(whole.with_events(~is_new))
    after, _ = on(stage, whole, is_new, replay_share=0.0)
    new = set(zip(events.row_of_event[is_new].tolist(), events.item_index[is_new].tolist(), strict=True))
    held = len(after.unseen.validation) + len(after.unseen.test)
    assert rows_of(after) + held == len(new | owed(stage))


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
    events = whole.histories
    of_events = zip(events.row_of_event.tolist(), events.item_index.tolist(), strict=True)
    is_owed = np.array([pair in owed(stage) for pair in of_events])
    assert rows_of(after) + n_held == (is_late | is_owed).sum()


def test_a_few_rows_wait_for_more(whole, is_late, stage):
    few = is_late & (whole.histories.row_of_event < 20)
    small = replace(stage, owed=stage.owed[:0])
    after, said = on(small, whole.with_events(few | ~is_late), few[few | ~is_late])
    assert after.ranker is stage.ranker
    assert "60 new rows wait for more" in said
    assert len(after.owed) == 3 * 20
    # With what comes next there are enough.
    later, _ = on(after, whole, is_late & ~few)
    assert rows_of(later) // 2 + len(later.owed) == 3 * N_USERS


def test_nothing_new_changes_nothing(whole, is_late, stage):
    settled = replace(stage, owed=stage.owed[:0])
    after, said = on(settled, whole.with_events(~is_late), np.zeros((~is_late).sum(), dtype=bool))
    assert after.ranker is stage.ranker
    assert not len(after.owed)
    assert not said


@pytest.mark.parametrize("what", ["the column", "the context"])
def test_where_the_log_does_not_hold_it_it_stays_as_it_is(whole, is_late, what):
    extra = pl.Series("device", np.where(np.arange(whole.n_interactions) % 3 > 0, "phone", "desk"))
    settings = {
        "the column": {"ranker.tasks.phone.column": "device", "ranker.tasks.phone.yes_words": '["phone"]'},
        "the context": BOUGHT | {"ranker.network.context": '["device"]'},
    }[what]
    stage = trained(replace(whole, context={"device": extra}).with_events(~is_late), **settings)
    after, said = on(stage, whole, is_late)
    assert after is stage
    assert "it stays as it is" in said
    assert "device" in said


def rated(whole, value):
    return replace(whole, histories=replace(whole.histories, value=value.astype(np.float32)))


def test_answers_of_another_kind_are_left_out(whole, is_late):
    odd = (whole.histories.item_index % 2).astype(np.float32)
    stage = trained(rated(whole, odd).with_events(~is_late), **{"ranker.tasks.good.column": "value"})
    strange = odd.copy()
    late = np.flatnonzero(is_late)
    strange[late[::5]] = 0.5
    after, _ = on(stage, rated(whole, strange), is_late)
    assert set(np.unique(after.unseen.test.labels)) == {0.0, 1.0}


@pytest.mark.parametrize("price", [1e6, 1e30])
def test_one_wrong_value_spoils_nothing(whole, is_late, price):
    """One event of one user says a million stars; nobody else who met the item is told otherwise."""
    random = np.random.default_rng(0)
    stars = np.where(RED[whole.histories.item_index], 4, 1) + random.integers(0, 2, whole.n_interactions)
    stage = trained(rated(whole, stars).with_events(~is_late), **{"ranker.tasks.stars.column": "value"})
    wrong = stars.astype(np.float64)
    wrong[np.flatnonzero(is_late)[7]] = price
    plain, spoilt = (on(stage, rated(whole, value), is_late)[0] for value in (stars, wrong))
    rows = plain.unseen.test
    expected, told = (one.ranker.predict(rows)[:, 0] for one in (plain, spoilt))
    assert told.max() <= 5
    assert np.abs(told - expected).mean() < 0.15


def test_a_training_that_fails_leaves_it_as_it_is(whole, is_late, stage, monkeypatch):
    def fail(*_):
        raise TrainingError("The loss is not a number.")

    monkeypatch.setattr(type(stage.ranker), "go_on", fail)
    after, said = on(stage, whole, is_late)
    assert after.ranker is stage.ranker
    assert "stays as it is: The loss is not a number" in said
    assert len(after.owed) == 3 * N_USERS + len(stage.owed)


def test_what_is_owed_is_kept_in_a_bundle_and_forgotten_with_a_person(stage, tmp_path, whole):
    write_ranker_stage(stage, tmp_path / "ranker")
    again = read_ranker_stage(tmp_path / "ranker", stage.config, whole.catalogue)
    assert owed(again) == owed(stage)
    gone = int(stage.owed[0, 0])
    who = np.delete(np.arange(N_USERS, dtype=np.int32)[::-1], N_USERS - 1 - gone)
    moved = again.with_users(who)
    expected = {(int(np.flatnonzero(who == user)[0]), item) for user, item in owed(stage) if user != gone}
    assert owed(moved) == expected


def test_attributes_of_users_are_those_it_knows(whole, is_late):
    """What a service stores of an event says nothing about users."""
    people = pl.DataFrame({"user_id": whole.users.ids, "country": ["no", "se"] * (N_USERS // 2)})
    settings = BOUGHT | {"ranker.network.context": '["country", "colour"]'}
    stage = trained(replace(whole.with_events(~is_late), user_table=people), **settings)
    after, _ = on(stage, whole, is_late)
    assert after is not stage
    assert set(after.unseen.test.context["country"]) == {"no", "se"}
