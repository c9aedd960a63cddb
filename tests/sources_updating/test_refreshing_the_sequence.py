"""A transformer that goes on from its weights: learns what is new, keeps what is old."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zhiyin.contracts import Continuing, Growth, TrainingData
from zhiyin.domain import Histories, Queries
from zhiyin.sources.sequence.refreshing import taken_apart, to_learn_from
from zhiyin.sources.sequence.source import SequenceTransformer
from zhiyin.sources.sequence.tables import IdTable, TextTable
from zhiyin.sources.sequence.text import Whitening
from zhiyin.testing.worlds import chain

SETTINGS = {
    "dimension": 16,
    "n_blocks": 1,
    "n_heads": 1,
    "dropout": 0.0,
    "training": {
        "max_epochs": 30,
        "epochs_without_validation": 30,
        "learning_rate": 0.01,
        "warmup_steps": 5,
        "tokens_per_batch": 64,
        "devices": "cpu",
        "precision": "float32",
    },
}


@pytest.fixture(scope="module")
def world():
    return chain(n_users=60, n_items=12)


@pytest.fixture(scope="module")
def trained(world):
    source = SequenceTransformer(**SETTINGS)
    source.fit(replace(world.training, validation=None))
    return source


def test_vectors_taken_apart_add_up_to_what_they_were(world, trained):
    texts = world.training.language.vectors(world.catalogue)
    grown = np.concatenate([texts, texts[:3][:, ::-1]])
    for whitening in (Whitening.of(texts), Whitening.of(grown)):
        table, ids = TextTable.of([whitening(texts)], 12), IdTable(np.ones(12, dtype=np.int64), 12, 16)
        items = taken_apart(trained.trained, ids, table, whitening)
        with torch.no_grad():
            np.testing.assert_allclose(items().numpy(), trained.trained.item_vectors.numpy(), atol=2e-3)


def test_who_did_something_new_comes_with_what_led_up_to_it_and_some_others():
    histories = Histories.of_items([np.arange(10), np.arange(4), np.array([5]), np.arange(6), np.arange(8)])
    is_new = np.zeros(histories.n_events, dtype=np.bool_)
    is_new[8:10] = True

    def learned_from(replay_share):
        continuing = Continuing(replay_share=replay_share)
        return histories.runs(*to_learn_from(histories, is_new, max_length=3, continuing=continuing, seed=0))

    alone = learned_from(0.0)
    assert [alone.item_index.tolist()] == [[5, 6, 7, 8, 9]]
    half = learned_from(0.5)
    assert len(half) >= 2
    assert half.n_events - 5 >= 4
    assert sorted(learned_from(1.0).lengths.tolist()) == [4, 5, 6, 8]


def share_right(source, rows, right):
    asked = Queries.of_histories(Histories.of_items([np.array(row) for row in rows]))
    return float((np.nanargmax(source.score_all(asked), axis=1) == np.array(right)).mean())


def test_it_learns_a_new_habit_and_keeps_the_old_ones(world, trained):
    """After item 0 now comes 6, where it was 1; everything else stays as it was."""
    old = world.training.dataset.histories
    random = np.random.default_rng(1)
    new = Histories.of_items([np.array([(9 + s) % 12, 10, 11, 0, 6, 7]) for s in random.integers(0, 2, 60)])
    both = old.followed_by(new)
    is_new = np.append(np.zeros(old.n_events, dtype=np.bool_), np.ones(new.n_events, dtype=np.bool_))
    users = type(world.training.dataset.users)([f"u{n}" for n in range(len(both))])
    dataset = replace(world.training.dataset, histories=both, users=users)
    training = TrainingData(dataset, world.training.language, validation=None)
    growth = Growth(is_new, Continuing(epochs=12, learning_rate_share=0.5, replay_share=0.5))
    before = trained.score_all(world.queries).copy()
    refreshed = trained.refreshed(training, growth)
    rows = [[10, 11, 0]]
    assert share_right(trained, rows, [1]) == 1.0
    assert share_right(refreshed, rows, [6]) == 1.0
    kept = [[start, start + 1, start + 2] for start in range(1, 7)]
    assert share_right(refreshed, kept, [start + 3 for start in range(1, 7)]) >= 0.8
    np.testing.assert_array_equal(trained.score_all(world.queries), before)


def test_what_validation_likes_less_than_before_is_dropped(world, trained):
    """People who take anything at all teach nothing: the old weights stay."""
    random = np.random.default_rng(2)
    old = world.training.dataset.histories
    noise = Histories.of_items([random.integers(0, 12, 6) for _ in range(80)])
    is_new = np.append(np.zeros(old.n_events, dtype=np.bool_), np.ones(noise.n_events, dtype=np.bool_))
    both = old.followed_by(noise)
    users = type(world.training.dataset.users)([f"u{n}" for n in range(len(both))])
    dataset = replace(world.training.dataset, histories=both, users=users)
    growth = Growth(is_new, Continuing(epochs=2, learning_rate_share=3.0, replay_share=0.0))
    refreshed = trained.refreshed(replace(world.training, dataset=dataset), growth)
    np.testing.assert_array_equal(refreshed.score_all(world.queries), trained.score_all(world.queries))
    unguarded = trained.refreshed(replace(world.training, dataset=dataset, validation=None), growth)
    assert not np.allclose(unguarded.score_all(world.queries), trained.score_all(world.queries))


def test_the_same_data_and_seed_give_the_same_source(world, trained):
    dataset = world.training.dataset
    is_new = np.arange(dataset.n_interactions) % 5 == 0
    training = replace(world.training, validation=None)
    first, second = (
        trained.refreshed(training, Growth(is_new, Continuing(epochs=1))).score_all(world.queries)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
