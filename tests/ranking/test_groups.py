"""Which tasks are learned together, in worlds where it is known which should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from zhiyin.data.labelled import LabelledExamples, LabelledSplit
from zhiyin.domain import NO_TIMESTAMP, Histories
from zhiyin.domain.errors import TrainingError
from zhiyin.ranking.fitting import fit_ranker
from zhiyin.ranking.groups import Verdict, alone_config, halves_by_user
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData
from zhiyin.testing.listening import Killed, Listening

N_USERS, N_ITEMS, N_EACH = 120, 60, 30


def world(seed: int, tasks: tuple[str, ...], **labels: np.ndarray) -> LabelledSplit:
    """Rows of users who meet items at random and of whom nothing else is known; labels are (users, items)."""
    random = np.random.default_rng(seed)
    item = np.concatenate([random.permutation(N_ITEMS)[:N_EACH] for _ in range(N_USERS)])
    user = np.repeat(np.arange(N_USERS), N_EACH)
    n = len(user)
    rows = LabelledExamples(
        tasks,
        np.stack([labels[task][user, item] for task in tasks], axis=1).astype(np.float32),
        user.astype(np.int32),
        item.astype(np.int32),
        np.full(n, NO_TIMESTAMP),
        pl.DataFrame({"row": np.arange(n)}),
        Histories.empty(N_USERS),
        np.zeros(n, dtype=np.int64),
    )
    part = random.random(n)
    cut = (part < 0.7, (part >= 0.7) & (part < 0.8), part >= 0.8)
    return LabelledSplit(*(rows.take(np.flatnonzero(is_in)) for is_in in cut))


def knowing(split: LabelledSplit, share: dict[str, float]) -> LabelledSplit:
    """Forget labels of the rows to learn from, so that each task keeps its share of them."""
    drawn = np.random.default_rng(13).random((len(split.train), 1))
    kept = np.array([share.get(task, 1.0) for task in split.train.tasks])
    labels = np.where(drawn < kept, split.train.labels, np.nan).astype(np.float32)
    return replace(split, train=replace(split.train, labels=labels))


def taste(seed: int, n_factors: int) -> np.ndarray:
    """(users, items), what two sets of known vectors say, of mean 0 and deviation 1."""
    random = np.random.default_rng(seed)
    likes = random.normal(size=(N_USERS, n_factors)) @ random.normal(size=(n_factors, N_ITEMS))
    return likes / likes.std()


def noise(seed: int) -> np.ndarray:
    return 0.3 * np.random.default_rng(seed).normal(size=(N_USERS, N_ITEMS))


def ranker(**settings) -> MultiTaskRanker:
    training = settings.pop("training", {})
    quick = {
        "max_epochs": 20,
        "patience": 4,
        "learning_rate": 0.02,
        "warmup_steps": 10,
        "tokens_per_batch": 256,
        "averaging": 0.9,
        "devices": "cpu",
    }
    small = {"dimension": 2, "hidden": 4, "dropout": 0.0, "shrinkage": 0.01, "groups": "validated"}
    return MultiTaskRanker(**(small | settings), training=quick | training)


def errors(model: MultiTaskRanker, rows: LabelledExamples) -> np.ndarray:
    """(T,) root mean squared errors."""
    return np.sqrt(np.nanmean((model.predict(rows) - rows.labels) ** 2, axis=0))


def contradicting() -> LabelledSplit:
    """Two tastes that have nothing in common, for vectors that are long enough for one of them."""
    first, second = taste(1, 2) + noise(2), taste(3, 2) + noise(4)
    return world(0, ("first", "second"), first=first, second=second)


@pytest.fixture(scope="module")
def apart() -> tuple[LabelledSplit, MultiTaskRanker]:
    split = contradicting()
    model = ranker()
    model.fit(RankerData(split.train, split.validation))
    return split, model


def test_tasks_that_contradict_each_other_part(apart):
    split, model = apart
    groups = model.trained.facts["groups"]
    assert [groups[task]["network"] for task in model.tasks] == ["alone", "alone"]
    for found in groups.values():
        judged = found["validation"]
        assert judged["alone"]["loss"] < 0.8 * judged["together"]["loss"]
        assert judged["alone"]["gain"] > judged["alone"]["standard_error"]
    one = ranker(groups="one")
    one.fit(RankerData(split.train, split.validation))
    assert (errors(model, split.test) < 0.9 * errors(one, split.test)).all()


def test_a_task_that_is_learned_alone_is_the_task_learned_alone(apart):
    split, model = apart
    stopping, _ = halves_by_user(split.validation)
    for place, task in enumerate(model.tasks):
        train, stop, test = (
            replace(part, tasks=(task,), labels=part.labels[:, place : place + 1])
            for part in (split.train, stopping, split.test)
        )
        alone = fit_ranker(alone_config(model.config), RankerData(train, stop), "alone")
        told = alone.answer(alone.reader.rows(test))
        np.testing.assert_allclose(told[:, 0], model.predict(split.test)[:, place], atol=1e-4)


def test_what_was_saved_answers_the_same_with_several_networks(apart):
    split, model = apart
    again = MultiTaskRanker()
    again.restore(model.state())
    np.testing.assert_array_equal(again.predict(split.test), model.predict(split.test))
    assert again.trained.facts["groups"] == model.trained.facts["groups"]
    again.add_items(np.zeros((3, 1), dtype=np.float32))
    np.testing.assert_array_equal(again.predict(split.test), model.predict(split.test))


def test_tasks_of_one_taste_stay_together_and_one_with_few_labels_gains():
    liked = taste(5, 2)
    split = world(8, ("many", "few"), many=liked + noise(9), few=liked + noise(7))
    split = knowing(split, {"few": 0.1})
    model = ranker()
    model.fit(RankerData(split.train, split.validation))
    groups = model.trained.facts["groups"]
    assert groups["few"]["network"] == "together"
    assert len(model.trained.parts) == (1 if groups["many"]["network"] == "together" else 2)
    alone = ranker(groups="one")
    train, validation, test = (
        replace(part, tasks=("few",), labels=part.labels[:, 1:])
        for part in (split.train, split.validation, split.test)
    )
    alone.fit(RankerData(train, validation))
    assert errors(model, split.test)[1] < 0.8 * errors(alone, test)[0]


def test_two_of_one_taste_stay_together_and_are_freed_of_a_stranger():
    liked = taste(5, 2)
    split = world(
        8,
        ("one", "stranger", "other"),
        one=liked + 2 * noise(9),
        stranger=taste(3, 2) + noise(4),
        other=liked + 2 * noise(7),
    )
    model = ranker()
    model.fit(RankerData(split.train, split.validation))
    groups, facts = model.trained.facts["groups"], model.trained.facts
    assert {task: groups[task]["network"] for task in groups} == {
        "one": "stayed",
        "stranger": "alone",
        "other": "stayed",
    }
    for task in ("one", "other"):
        found = groups[task]["validation"]
        assert found["stayed"]["loss"] < found["together"]["loss"] < found["alone"]["loss"]
    assert [part.places.tolist() for part in model.trained.parts] == [[1], [0, 2]]
    kept = [facts["networks"][run]["n_weights"] for run in ("alone-1", "stayed")]
    assert facts["n_weights"] == sum(kept)
    alone = (errors(model, split.test) ** 2 - np.array([0.6, 0.3, 0.6]) ** 2) ** 0.5
    assert (alone < 0.45).all()  # of what is no noise, of deviation 1, less than half is missed


def test_a_killed_choice_ends_in_the_same_ranker(apart, tmp_path):
    split, whole = apart
    again = ranker()
    data = RankerData(split.train, split.validation, checkpoints=tmp_path)
    with pytest.raises(Killed):
        again.fit(replace(data, progress=Listening(killed_at=25)))
    names = {path.stem for path in tmp_path.iterdir()}
    assert "multi_task_ranker-together" in names
    resumed = Listening()
    again.fit(replace(data, progress=resumed))
    assert not any("together: epoch 1," in told for told in resumed.heard)
    np.testing.assert_array_equal(again.predict(split.test), whole.predict(split.test))


def test_a_network_cut_to_some_tasks_answers_them_as_before(apart):
    split, _ = apart
    model = ranker(groups="one", n_experts=3, training={"max_epochs": 2})
    model.fit(RankerData(split.train, split.validation))
    part, rows = model.trained.parts[0], model.trained.reader.rows(split.test)
    batch = rows.batch(rows.dealt(64)[0])
    with torch.inference_mode():
        whole = part.network(batch)[0]
        for kept in ([1], [0], [1, 0]):
            torch.testing.assert_close(part.network.only(kept)(batch)[0], whole[:, kept])


def test_users_who_stop_training_choose_no_group(apart):
    split, _ = apart
    stopping, judging = halves_by_user(split.validation, seed=3)
    users = [set(part.user_index.tolist()) for part in (stopping, judging)]
    assert not users[0] & users[1]
    assert users[0] | users[1] == set(split.validation.user_index.tolist())
    assert abs(len(users[0]) - len(users[1])) <= 1
    assert len(stopping) + len(judging) == len(split.validation)


def test_a_task_that_nobody_can_judge_stays():
    split = contradicting()
    labels = split.validation.labels.copy()
    labels[:, 1] = np.nan
    model = ranker(training={"max_epochs": 2})
    model.fit(RankerData(split.train, replace(split.validation, labels=labels)))
    assert model.trained.facts["groups"]["second"] == {"network": "together", "validation": {}}


def test_the_standard_error_is_that_of_a_mean_over_users():
    random = np.random.default_rng(14)
    first, second = random.random(50), random.random(50)
    users = np.arange(50)
    gain, error = Verdict.of(second, users).gain_over(Verdict.of(first, users))
    assert gain == pytest.approx((first - second).mean())
    assert error == pytest.approx((first - second).std(ddof=1) / np.sqrt(50))
    # A row said twice is no more evidence, and a row of which nothing is known is none.
    twice, unknown = np.tile(users, 2), np.full(50, np.nan)
    again = Verdict.of(np.tile(second, 2), twice).gain_over(Verdict.of(np.tile(first, 2), twice))
    assert again == pytest.approx((gain, error))
    more = [Verdict.of(np.concatenate([losses, unknown]), twice) for losses in (second, first)]
    assert more[0].gain_over(more[1]) == pytest.approx((gain, error))


def test_missing_validation_rows_are_named(apart):
    split, _ = apart
    with pytest.raises(TrainingError, match="there are none"):
        ranker().fit(RankerData(split.train))
    of_one = split.validation.take(
        np.flatnonzero(split.validation.user_index == split.validation.user_index[0])
    )
    with pytest.raises(TrainingError, match="of 1 user"):
        ranker().fit(RankerData(split.train, of_one))
