"""What a ranker learns, in worlds whose labels follow a known rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.data.labelled import LabelledExamples, LabelledSplit, split_by_time
from zhiyin.data.random_parts import split_at_random
from zhiyin.domain import NO_TIMESTAMP, Histories
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import ConfigError, DataError, NotFitted, ShapeMismatch, TrainingError
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData
from zhiyin.testing.listening import Killed, Listening

NOISE = 0.3
QUICK = {
    "max_epochs": 20,
    "patience": 4,
    "epochs_without_validation": 10,
    "learning_rate": 0.01,
    "warmup_steps": 10,
    "tokens_per_batch": 512,
    "averaging": 0.9,
    "devices": "cpu",
}


def ranker(**settings) -> MultiTaskRanker:
    """A small one that trains in seconds."""
    small = {"dimension": 8, "hidden": 16, "text_dimension": 8, "dropout": 0.0, "shrinkage": 0.01}
    training = QUICK | settings.pop("training", {})
    return MultiTaskRanker(**(small | settings), training=training)


def rows_of(
    user, item, labels, *, value=None, kind=None, tasks=("rating",), context=None
) -> LabelledExamples:
    """Make one labelled row of each event, in the order given, users in rising order."""
    lengths = np.bincount(user, minlength=int(user.max()) + 1)
    n_events = len(item)
    events = Histories(
        offsets_of(lengths),
        item.astype(np.int32),
        np.zeros(n_events, dtype=np.int16) if kind is None else kind.astype(np.int16),
        np.full(n_events, NO_TIMESTAMP),
        np.full(n_events, np.nan, dtype=np.float32) if value is None else value.astype(np.float32),
    )
    labels = np.asarray(labels, dtype=np.float32).reshape(n_events, len(tasks))
    known = np.arange(n_events) - events.offsets[:-1][user]
    return LabelledExamples(
        tasks,
        labels,
        user.astype(np.int32),
        item.astype(np.int32),
        events.timestamp,
        pl.DataFrame(context or {"row": np.arange(n_events)}),
        events,
        known,
    )


def met(random, n_users: int, n_items: int, n_each: int) -> tuple[np.ndarray, np.ndarray]:
    """Each user meets so many different items, in a random order."""
    item = np.concatenate([random.permutation(n_items)[:n_each] for _ in range(n_users)])
    return np.repeat(np.arange(n_users), n_each), item


def rated(seed: int = 0, *, n_users: int = 160, n_items: int = 60, n_each: int = 30) -> LabelledExamples:
    """Ratings of a known model: biases and two factors of users and items, with noise."""
    random = np.random.default_rng(seed)
    user, item = met(random, n_users, n_items, n_each)
    of_user, of_item = random.normal(size=(n_users, 3)), random.normal(size=(n_items, 3))
    value = 3 + 0.5 * of_user[user, 0] + 0.5 * of_item[item, 0]
    value = value + 0.6 * (of_user[user, 1:] * of_item[item, 1:]).sum(axis=1)
    value += NOISE * random.normal(size=len(value))
    return rows_of(user, item, value, value=value)


def error(model: MultiTaskRanker, rows: LabelledExamples) -> float:
    """Root mean squared error of the first task."""
    return float(np.sqrt(np.mean((model.predict(rows)[:, 0] - rows.labels[:, 0]) ** 2)))


def auc(told: np.ndarray, truth: np.ndarray) -> float:
    """Chance that a row with yes is told higher than one with no."""
    yes, no = told[truth == 1], told[truth == 0]
    return float((yes[:, None] > no).mean() + 0.5 * (yes[:, None] == no).mean())


def of_users(rows: LabelledExamples, low: int, high: int) -> LabelledExamples:
    return rows.take(np.flatnonzero((rows.user_index >= low) & (rows.user_index < high)))


@pytest.fixture(scope="module")
def folds() -> LabelledSplit:
    return split_at_random(rated(), n_parts=5, tested=0, seed=1)


@pytest.fixture(scope="module")
def learned(folds) -> MultiTaskRanker:
    model = ranker()
    model.fit(RankerData(folds.train, folds.validation))
    return model


def test_errors_come_close_to_the_noise(learned, folds):
    spread = float(folds.test.labels.std())
    assert spread > 1.0
    assert error(learned, folds.test) < 1.6 * NOISE


def test_numbers_stay_between_the_ends_of_the_labels(learned, folds):
    told = learned.predict(folds.test)
    assert told.shape == (len(folds.test), 1)
    assert told.dtype == np.float32
    assert folds.train.labels.min() <= told.min()
    assert told.max() <= folds.train.labels.max()


def test_users_it_never_saw_are_read_from_what_they_did():
    rows = rated(2)
    old, new = of_users(rows, 0, 130), of_users(rows, 130, 160)
    model = ranker(identity_dropout=0.2, training={"epochs_without_validation": 25})
    model.fit(RankerData(old))
    late, early = new.take(np.flatnonzero(new.n_known >= 20)), new.take(np.flatnonzero(new.n_known == 0))
    assert error(model, late) < 0.6 * error(model, early)


def test_the_order_of_rows_says_nothing(learned, folds):
    told = learned.predict(folds.test)
    order = np.random.default_rng(0).permutation(len(told))
    np.testing.assert_allclose(learned.predict(folds.test.take(order)), told[order], atol=1e-5)
    one = folds.test.take(np.array([17]))
    np.testing.assert_allclose(learned.predict(one), told[17:18], atol=1e-5)


def test_no_row_reads_its_own_rating(learned, folds):
    train, events = folds.train, folds.train.events
    row = 100
    own = int(events.offsets[train.user_index[row]] + train.n_earlier[row])
    value = events.value.copy()
    value[own] = 1.0 if value[own] > 3 else 5.0
    other = replace(train, events=replace(events, value=value))
    before, after = learned.predict(train), learned.predict(other)
    np.testing.assert_allclose(after[row], before[row], atol=1e-5)
    of_same = np.flatnonzero(train.user_index == train.user_index[row])
    assert np.abs(after[of_same] - before[of_same]).max() > 0.01


def test_what_comes_later_changes_nothing():
    split = split_by_time(rated(3), validation=0.1, test=0.2)
    model = ranker()
    model.fit(RankerData(split.train, split.validation))
    told = model.predict(split.test)
    events = split.test.events
    first_of_test = 24
    later = np.arange(events.n_events) % 30 >= first_of_test
    shuffled = replace(events, value=np.where(later, 1.0, events.value).astype(np.float32))
    firsts = split.test.n_known == first_of_test
    changed = model.predict(replace(split.test, events=shuffled))
    np.testing.assert_allclose(changed[firsts], told[firsts], atol=1e-5)


def taste_in_texts(seed: int = 0) -> tuple[LabelledExamples, np.ndarray]:
    """Clicks follow what texts are about: each user likes three of six subjects, and nothing else matters."""
    random = np.random.default_rng(seed)
    n_users, n_items, n_subjects = 150, 90, 6
    subject = np.arange(n_items) % n_subjects
    vectors = np.eye(n_subjects, 16)[subject] + 0.1 * random.normal(size=(n_items, 16))
    likes = np.argsort(random.random((n_users, n_subjects)), axis=1) < n_subjects // 2
    user, item = met(random, n_users, n_items, 30)
    click = likes[user, subject[item]].astype(np.float32)
    rows = rows_of(user, item, click, value=click, tasks=("click",))
    return rows, vectors.astype(np.float32)


def test_items_it_never_saw_are_read_from_their_text():
    rows, vectors = taste_in_texts()
    is_new = rows.item_index >= 75
    old, new = rows.take(np.flatnonzero(~is_new)), rows.take(np.flatnonzero(is_new))
    events = rows.events.where(~is_new)
    n_known = np.cumsum(~is_new) - ~is_new - events.offsets[:-1][rows.user_index]
    old = replace(old, events=events, n_known=n_known[~is_new])
    new = replace(new, events=events, n_known=n_known[is_new])
    late = new.take(np.flatnonzero(new.n_known >= 15))
    with_text = ranker()
    with_text.fit(RankerData(old, vectors=vectors[:75]))
    unread = with_text.predict(late)
    with_text.add_items(vectors[75:])
    assert with_text.n_items == 90
    assert auc(with_text.predict(late)[:, 0], late.labels[:, 0]) > 0.9
    assert auc(unread[:, 0], late.labels[:, 0]) < 0.7
    without = ranker()
    without.fit(RankerData(old))
    assert auc(without.predict(late)[:, 0], late.labels[:, 0]) < 0.7


def test_texts_that_say_nothing_are_not_learned_by_heart():
    random = np.random.default_rng(0)
    n_users, n_items = 200, 100
    user, item = met(random, n_users, n_items, 12)
    of_user, of_item = random.normal(size=n_users), random.normal(size=n_items)
    chance = 1 / (1 + np.exp(-(of_user[user] + of_item[item])))
    click = (random.random(len(user)) < chance).astype(np.float32)
    split = split_by_time(
        rows_of(user, item, click, value=click, tasks=("click",)), validation=0.1, test=0.25
    )
    noise = random.normal(size=(n_items, 64)).astype(np.float32)
    model = ranker(text_dimension=64, shrinkage=0.05)
    model.fit(RankerData(split.train, vectors=noise))
    told, truth = model.predict(split.test)[:, 0], split.test.labels[:, 0]
    entropy_of_halves = np.log(2.0)
    assert -np.log(np.where(truth == 1, told, 1 - told)).mean() < entropy_of_halves
    assert auc(told, truth) > 0.66


def test_a_task_with_few_labels_learns_from_one_with_many():
    rows = rated(4)
    random = np.random.default_rng(5)
    rating = rows.labels[:, 0]
    liked = (rating + 0.2 * random.normal(size=len(rating)) > 3).astype(np.float32)
    split = split_at_random(rows, n_parts=5, tested=0, validation=0.0, seed=3)
    truth = {len(part): part for part in (split.train, split.test)}
    assert len(truth) == 2

    def labelled(part: LabelledExamples, tasks: tuple[str, ...], *, few: bool) -> LabelledExamples:
        place = part.context["row"].to_numpy()
        yes = np.where(few & (place % 25 != 0), np.nan, liked[place])
        columns = {"rating": rating[place], "liked": yes}
        return replace(part, tasks=tasks, labels=np.stack([columns[t] for t in tasks], 1).astype(np.float32))

    told = {}
    for tasks in (("liked",), ("rating", "liked")):
        # Events carry no values here, so that nothing but the other task can tell.
        silent = replace(split.train.events, value=np.full(split.train.events.n_events, np.nan, np.float32))
        train = replace(labelled(split.train, tasks, few=True), events=silent)
        test = replace(labelled(split.test, tasks, few=False), events=silent)
        model = ranker()
        model.fit(RankerData(train))
        told[tasks] = auc(model.predict(test)[:, -1], test.labels[:, -1])
    alone, together = told.values()
    assert together > alone + 0.03


def test_noisy_tasks_get_less_weight_when_it_is_learned():
    rows = rated(6)
    noise = np.random.default_rng(7).normal(size=len(rows)).astype(np.float32)
    both = replace(rows, tasks=("rating", "noise"), labels=np.stack([rows.labels[:, 0], noise], axis=1))
    split = split_at_random(both, n_parts=5, tested=0, seed=1)
    model = ranker(balance={"name": "uncertainty"})
    model.fit(RankerData(split.train, split.validation))
    weights = model.trained.facts["task_weights"]
    assert weights["rating"] > 1.5 * weights["noise"]
    assert error(model, split.test) < 1.8 * NOISE


@pytest.mark.parametrize(
    "settings",
    [
        {"balance": {"name": "root"}},
        {"balance": {"name": "scaled"}},
        {"n_experts": 3},
        {"balance": {"task_weights": {"rating": 2.0}}},
    ],
)
def test_every_balance_and_several_experts_learn_the_same_world(settings, folds):
    model = ranker(**settings)
    model.fit(RankerData(folds.train, folds.validation))
    assert error(model, folds.test) < 1.7 * NOISE


def test_the_context_is_read():
    random = np.random.default_rng(8)
    user, item = met(random, 80, 40, 25)
    place = np.array(["shop", "app", "post"])[random.integers(0, 3, len(user))]
    price = random.uniform(1, 100, len(user))
    label = ((place == "app") & (price > 50)).astype(np.float32)
    rows = rows_of(user, item, label, tasks=("click",), context={"place": place, "price": price})
    split = split_by_time(rows, validation=0.1, test=0.2)
    model = ranker(context=("place", "price"), training={"tokens_per_batch": 128})
    model.fit(RankerData(split.train, split.validation))
    assert auc(model.predict(split.test)[:, 0], split.test.labels[:, 0]) > 0.95
    blind = ranker()
    blind.fit(RankerData(split.train, split.validation))
    assert auc(blind.predict(split.test)[:, 0], split.test.labels[:, 0]) < 0.65


def test_kinds_of_events_mean_different_things():
    rows, vectors = taste_in_texts(9)
    kind = rows.labels[:, 0].astype(np.int64)
    silent = rows_of(rows.user_index, rows.item_index, rows.labels, kind=kind, tasks=("click",))
    old, new = of_users(silent, 0, 120), of_users(silent, 120, 150)
    model = ranker(identity_dropout=1.0, training={"epochs_without_validation": 25})
    model.fit(RankerData(old, vectors=vectors))
    late = new.take(np.flatnonzero(new.n_known >= 15))
    assert auc(model.predict(late)[:, 0], late.labels[:, 0]) > 0.85


def test_rows_of_users_who_never_did_anything_are_answered():
    rows, vectors = taste_in_texts(3)
    nobody = replace(
        rows, events=Histories.empty(len(rows.events)), n_known=np.zeros(len(rows), dtype=np.int64)
    )
    model = ranker(training={"epochs_without_validation": 12})
    model.fit(RankerData(nobody, vectors=vectors))
    told = model.predict(nobody)[:, 0]
    assert auc(told, rows.labels[:, 0]) > 0.7
    assert model.predict(nobody.take(np.arange(0))).shape == (0, 1)


def test_what_was_saved_answers_the_same(learned, folds):
    again = MultiTaskRanker()
    again.restore(learned.state())
    np.testing.assert_array_equal(again.predict(folds.test), learned.predict(folds.test))
    rows, vectors = taste_in_texts()
    model = ranker(context=("row",), training={"epochs_without_validation": 1})
    model.fit(RankerData(rows, vectors=vectors))
    copy = MultiTaskRanker()
    copy.restore(model.state())
    copy.add_items(vectors[:2])
    np.testing.assert_array_equal(copy.predict(rows), model.predict(rows))


def test_a_killed_training_ends_in_the_same_ranker(folds, tmp_path):
    def fit(**more) -> MultiTaskRanker:
        model = ranker(dropout=0.2, training={"max_epochs": 4})
        model.fit(RankerData(folds.train, folds.validation, seed=3, **more))
        return model

    whole = fit()
    with pytest.raises(Killed):
        fit(checkpoints=tmp_path, progress=Listening(killed_at=2))
    resumed = Listening()
    again = fit(checkpoints=tmp_path, progress=resumed)
    assert any("going on after epoch" in told for told in resumed.heard)
    np.testing.assert_array_equal(again.predict(folds.test), whole.predict(folds.test))
    curve = [epoch["train_loss"] for epoch in again.trained.facts["learning_curve"]["epochs"]]
    assert curve == [epoch["train_loss"] for epoch in whole.trained.facts["learning_curve"]["epochs"]]


def test_wrong_input_is_named(folds, learned):
    train = folds.train
    same = replace(train, labels=np.ones_like(train.labels))
    with pytest.raises(TrainingError, match=r"'rating' is always 1 "):
        ranker().fit(RankerData(same))
    with pytest.raises(TrainingError, match="never known"):
        ranker().fit(RankerData(replace(train, labels=np.full_like(train.labels, np.nan))))
    infinite = train.labels.copy()
    infinite[3] = np.inf
    with pytest.raises(TrainingError, match="infinite"):
        ranker().fit(RankerData(replace(train, labels=infinite)))
    with pytest.raises(TrainingError, match="no rows"):
        ranker().fit(RankerData(train.take(np.arange(0))))
    with pytest.raises(ConfigError, match="task 'click'"):
        ranker(balance={"task_weights": {"click": 1.0}}).fit(RankerData(train))
    with pytest.raises(DataError, match="no column 'hour'"):
        ranker(context=("hour",)).fit(RankerData(train))
    with pytest.raises(ShapeMismatch, match="one row for each item"):
        ranker().fit(RankerData(train, vectors=np.ones((3, 4), dtype=np.float32)))
    with pytest.raises(ShapeMismatch, match="tasks"):
        ranker().fit(RankerData(train, replace(folds.validation, tasks=("click",))))
    with pytest.raises(ShapeMismatch, match="foretells rating"):
        learned.predict(replace(folds.test, tasks=("click",)))
    with pytest.raises(NotFitted):
        ranker().predict(folds.test)
