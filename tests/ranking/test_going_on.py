"""A ranker that goes on from its weights, in worlds whose ratings follow a known model."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import Continuing
from zhiyin.data.labelled import LabelledExamples, LabelledSplit
from zhiyin.domain import NO_TIMESTAMP, Histories
from zhiyin.domain.errors import ShapeMismatch, TrainingError
from zhiyin.ranking.groups import ALONE
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData

N_USERS, N_ITEMS, FIRST_NEW = 160, 40, 100
PATIENT = Continuing(epochs=12, learning_rate_share=1.0)


def ranker(*, max_epochs: int = 20, **settings) -> MultiTaskRanker:
    training = {"max_epochs": max_epochs, "learning_rate": 0.02, "warmup_steps": 10, "tokens_per_batch": 256}
    training |= {"averaging": 0.9, "devices": "cpu"}
    return MultiTaskRanker(dimension=4, hidden=8, dropout=0.0, shrinkage=0.01, training=training, **settings)


def of_users(rows: LabelledExamples, low: int, high: int) -> LabelledExamples:
    return rows.take(np.flatnonzero((rows.user_index >= low) & (rows.user_index < high)))


def error(model: MultiTaskRanker, rows: LabelledExamples) -> float:
    return float(np.sqrt(np.mean((told(model, rows) - rows.labels[:, 0]) ** 2)))


@pytest.fixture(scope="module")
def folds() -> LabelledSplit:
    """Some are easily pleased and some things are generally liked; nothing else is known of anybody."""
    random = np.random.default_rng(3)
    user, item = np.divmod(random.permutation(N_USERS * N_ITEMS), N_ITEMS)
    stars = 3 + random.normal(size=N_USERS)[user] + random.normal(size=N_ITEMS)[item]
    n = len(user)
    rows = LabelledExamples(
        ("rating",),
        (stars + 0.3 * random.normal(size=n)).astype(np.float32)[:, None],
        user.astype(np.int32),
        item.astype(np.int32),
        np.full(n, NO_TIMESTAMP),
        pl.DataFrame({"row": np.arange(n)}),
        Histories.empty(N_USERS),
        np.zeros(n, dtype=np.int64),
    )
    parts = np.split(np.arange(n), [n // 2, n * 3 // 5])
    return LabelledSplit(*(rows.take(part) for part in parts))


@pytest.fixture(scope="module")
def learned(folds) -> MultiTaskRanker:
    """It has seen rows of the first hundred users."""
    model = ranker()
    old = of_users(folds.train, 0, FIRST_NEW)
    model.fit(RankerData(old, of_users(folds.validation, 0, FIRST_NEW)))
    return model


def again(model: MultiTaskRanker) -> MultiTaskRanker:
    twin = copy(model)
    twin.trained = model.trained
    return twin


def told(model: MultiTaskRanker, rows: LabelledExamples) -> np.ndarray:
    return model.predict(rows)[:, 0]


def test_new_users_are_learned_and_old_ones_not_forgotten(learned, folds):
    new, old = (of_users(folds.test, *ends) for ends in ((FIRST_NEW, N_USERS), (0, FIRST_NEW)))
    before = error(learned, new), error(learned, old)
    model = again(learned)
    model.go_on(RankerData(folds.train, folds.validation), folds.train, PATIENT)
    assert error(model, new) < 0.8 * before[0]
    assert error(model, old) < 1.1 * before[1]
    assert model.trained.parts[0].network.shape.n_users == N_USERS
    assert error(learned, new) == before[0]


def test_before_the_first_step_nothing_is_answered_otherwise(learned, folds):
    model = again(learned)
    known = of_users(folds.train, 0, FIRST_NEW)
    still = Continuing(epochs=1, learning_rate_share=1e-9)
    model.go_on(RankerData(folds.train), known, still)
    np.testing.assert_allclose(told(model, folds.test), told(learned, folds.test), atol=1e-4)


def test_what_does_harm_is_not_kept(learned, folds):
    model = again(learned)
    wild = Continuing(epochs=1, learning_rate_share=300.0)
    old = of_users(folds.train, 0, FIRST_NEW)
    model.go_on(RankerData(old, of_users(folds.validation, 0, FIRST_NEW)), old, wild)
    (found,) = model.trained.facts["continued"]
    assert not found["has_changed"]
    assert found["explained"] < found["explained_before"]
    np.testing.assert_allclose(told(model, folds.test), told(learned, folds.test), atol=1e-4)


def test_rows_of_erased_users_are_handed_out_again(learned, folds):
    model = again(learned)
    who = np.arange(N_USERS, dtype=np.int32)
    who[:30] = -1
    model.take_users(who)
    assert model.trained.parts[0].network.shape.n_users == FIRST_NEW
    model.go_on(RankerData(of_users(folds.train, FIRST_NEW, FIRST_NEW + 20)), folds.train, PATIENT)
    network, own = model.trained.parts[0].network, model.trained.reader.own_user
    assert network.shape.n_users == FIRST_NEW
    assert (own[:30] == 0).all()
    taken = own[FIRST_NEW : FIRST_NEW + 20]
    assert len(np.unique(taken)) == 20
    assert taken.min() > 0
    assert len(np.unique(own[own > 0])) == 90
    left = np.setdiff1d(np.arange(1, FIRST_NEW + 1), own)
    assert (network.users.weight[left] == 0).all()


def test_it_is_saved_and_read_as_it_is(learned, folds):
    model = again(learned)
    model.go_on(RankerData(folds.train, folds.validation), folds.train, Continuing(epochs=1))
    twin = MultiTaskRanker(model.config)
    twin.restore(model.state())
    np.testing.assert_array_equal(told(twin, folds.test), told(model, folds.test))
    twin.go_on(RankerData(folds.train, folds.validation), folds.train, Continuing(epochs=1))
    assert np.isfinite(told(twin, folds.test)).all()


def test_every_network_goes_on_with_its_own_tasks(folds):
    """The second task says the opposite of the first for every other item, so both are learned alone."""

    def both(rows):
        sign = np.where(rows.item_index % 2, 1.0, -1.0).astype(np.float32)
        labels = np.concatenate([rows.labels, (rows.labels - 3) * sign[:, None] + 3], axis=1)
        return replace(rows, tasks=("rating", "turned"), labels=labels)

    train, validation, test = (both(rows) for rows in (folds.train, folds.validation, folds.test))
    model = ranker(groups="validated", max_epochs=6)
    model.fit(RankerData(of_users(train, 0, FIRST_NEW), of_users(validation, 0, FIRST_NEW)))
    places = [part.places.tolist() for part in model.trained.parts]
    answered = {task: found["network"] for task, found in model.trained.facts["groups"].items()}
    assert ALONE in answered.values()
    before = model.predict(test)
    model.go_on(RankerData(train, validation), train, PATIENT)
    assert [part.places.tolist() for part in model.trained.parts] == places
    found = [one["tasks"] for one in model.trained.facts["continued"]]
    assert found == [[model.tasks[place] for place in part] for part in places]
    is_new = test.user_index >= FIRST_NEW
    error_before, error_after = (
        np.square(answers - test.labels)[is_new].mean(axis=0) for answers in (before, model.predict(test))
    )
    assert (error_after < error_before).all()


def test_other_answers_are_not_understood(learned, folds):
    labels = folds.test.labels
    seen = of_users(folds.train, 0, FIRST_NEW).labels
    low, high = seen.min(), seen.max()
    np.testing.assert_array_equal(learned.understood(labels), np.clip(labels, low, high))
    assert np.isnan(learned.understood(np.full_like(labels, np.inf))).all()
    assert np.isnan(learned.understood(np.full_like(labels, np.nan))).all()
    assert learned.understood(np.full_like(labels, 1e30)).max() <= high
    yes_no = ranker(max_epochs=1)
    yes_no.fit(RankerData(replace(folds.train, labels=(folds.train.labels > 3).astype(np.float32))))
    np.testing.assert_array_equal(yes_no.understood(np.array([[0.0], [1.0], [0.5]])), [[0], [1], [np.nan]])


def test_what_cannot_be_learned_from_is_said(learned, folds):
    for rows, error, words in (
        (folds.train.take(np.empty(0, dtype=np.int64)), TrainingError, "no rows"),
        (replace(folds.train, tasks=("stars",)), ShapeMismatch, "has learned rating; the rows have stars"),
        (replace(folds.train, events=Histories.empty(N_USERS + 1)), ShapeMismatch, "knows 160 users"),
    ):
        with pytest.raises(error, match=words):
            again(learned).go_on(RankerData(rows), rows, PATIENT)


def test_checkpoints_of_another_start_are_not_taken_up(learned, folds, tmp_path):
    other = ranker(max_epochs=3)
    other.fit(RankerData(of_users(folds.train, 0, FIRST_NEW), seed=7))
    data = RankerData(folds.train, folds.validation, checkpoints=tmp_path)
    first, second = again(learned), again(other)
    first.go_on(data, folds.train, Continuing(epochs=1))
    second.go_on(data, folds.train, Continuing(epochs=1))
    assert not np.array_equal(told(first, folds.test), told(second, folds.test))
