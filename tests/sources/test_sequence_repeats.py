"""Whether the transformer lets items of a history compete with what comes next."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zhiyin.contracts import Continuing, Growth
from zhiyin.domain import Histories
from zhiyin.sources.sequence import windows as windows_module
from zhiyin.sources.sequence.derived import (
    dimension_of,
    is_repeated,
    known_share,
    learns_repeats,
)
from zhiyin.sources.sequence.learner import Batch
from zhiyin.sources.sequence.settings import SequenceTransformerConfig
from zhiyin.sources.sequence.source import SequenceTransformer
from zhiyin.sources.sequence.windows import cut
from zhiyin.testing.worlds import chain

SETTINGS = {
    "dimension": 16,
    "n_blocks": 1,
    "n_heads": 2,
    "training": {
        "max_epochs": 12,
        "patience": 12,
        "learning_rate": 0.01,
        "warmup_steps": 5,
        "devices": "cpu",
        "precision": "float32",
    },
}
AUTO = SequenceTransformerConfig()


def test_an_item_is_repeated_where_its_own_history_had_it_before():
    histories = Histories.of_items([np.array([3, 1, 3, 3]), np.array([1, 2]), np.array([], dtype=int)])
    assert is_repeated(histories).tolist() == [False, False, True, True, False, False]


def test_the_known_share_is_what_users_have_of_what_all_take():
    histories = Histories.of_items([np.array([0, 1, 0]), np.array([0])])
    after_each = [0.75, 1.0, 1.0, 0.75]
    assert known_share(histories, is_repeated(histories)) == pytest.approx(np.mean(after_each))


def test_repeats_are_learned_where_there_are_some_or_little_is_known():
    few_items = Histories.of_items([np.arange(10), np.arange(10)[::-1]])
    assert not learns_repeats(AUTO, few_items, 10)
    assert learns_repeats(AUTO, Histories.of_items([np.array([0, 1, 0, 1, 2])] * 2), 10)
    assert learns_repeats(AUTO, Histories.of_items([np.arange(2) + 2 * user for user in range(200)]), 400)
    assert learns_repeats(AUTO, Histories.empty(3), 10)


@pytest.mark.parametrize("wanted", [True, False])
def test_who_says_so_is_heard(wanted):
    config = SequenceTransformerConfig(learns_repeats=wanted)
    assert learns_repeats(config, Histories.of_items([np.arange(10)] * 2), 10) == wanted
    assert learns_repeats(config, Histories.of_items([np.array([0, 1, 0, 1])] * 2), 10) == wanted


@pytest.mark.parametrize("large", [{"n_negatives": 5}, {"index_above": 9}])
def test_drawn_negatives_and_an_index_need_scores_of_all_items(large):
    config = SequenceTransformerConfig(learns_repeats=False, **large)
    assert learns_repeats(config, Histories.of_items([np.arange(10)] * 2), 10)


def test_vectors_are_wide_where_items_have_many_events():
    dataset = chain(n_users=60, n_items=12).training.dataset
    many = dataset.histories.take(np.arange(60).repeat(6))
    assert dimension_of(AUTO, dataset, dataset.histories) == 64
    assert dimension_of(AUTO, dataset, many) == 128
    assert dimension_of(SequenceTransformerConfig(dimension=16), dataset, many) == 16


def test_what_is_known_reaches_back_before_the_window(monkeypatch):
    histories = Histories.of_items([np.arange(10, 17), np.arange(3)])
    windows = cut(histories, np.ones(10, dtype=np.float32), 4)
    newest = np.flatnonzero(windows.starts == 2)
    events, counts = windows.known(newest)
    assert counts.tolist() == [3, 4, 5, 6]
    assert windows.items[events].tolist() == [*range(10, 13), *range(10, 14), *range(10, 15), *range(10, 16)]
    monkeypatch.setattr(windows_module, "MOST_KNOWN", 2)
    events, counts = windows.known(newest)
    assert counts.tolist() == [2, 2, 2, 2]
    assert windows.items[events].tolist() == [11, 12, 12, 13, 13, 14, 14, 15]


def test_a_batch_leaves_out_what_is_known_at_each_of_its_events():
    histories = Histories.of_items([np.arange(9), np.array([3, 5, 2, 7, 1, 0])])
    windows = cut(histories, np.ones(15, dtype=np.float32), 9)
    batch = Batch.of(windows, np.array([1, 0]), has_repeats=False)
    assert batch.known is not None
    counts = batch.known.counts.tolist()
    assert counts == [*range(1, 6), *range(1, 9), 0, 0, 0], "three events fill up to a round size"
    known = np.split(batch.known.items.numpy(), batch.known.offsets[1:-1])
    assert [part.tolist() for part in known[:3]] == [[3], [3, 5], [3, 5, 2]]
    assert Batch.of(windows, np.array([0])).known is None


@pytest.fixture(scope="module")
def trained():
    source = SequenceTransformer(**SETTINGS)
    source.fit(chain().training)
    return source


def test_what_a_user_has_gets_no_score(trained):
    queries = chain().queries
    scores = trained.score_all(queries)
    has = np.zeros(scores.shape, dtype=bool)
    has[queries.histories.row_of_event, queries.histories.item_index] = True
    np.testing.assert_array_equal(np.isnan(scores), has)
    unknown = np.full(queries.histories.n_events, 12, dtype=np.int32)
    of_strangers = replace(queries, histories=replace(queries.histories, item_index=unknown))
    assert np.isnan(trained.score_all(of_strangers)).all()


def test_who_learns_repeats_scores_everything():
    source = SequenceTransformer(**SETTINGS, learns_repeats=True)
    source.fit(chain().training)
    assert np.isfinite(source.score_all(chain().queries)).all()


def test_a_saved_one_and_one_that_went_on_still_leave_out_what_is_known(trained):
    world = chain()
    restored = SequenceTransformer(**SETTINGS)
    restored.restore(trained.state())
    np.testing.assert_array_equal(restored.score_all(world.queries), trained.score_all(world.queries))
    n_events = world.training.dataset.histories.n_events
    growth = Growth(np.arange(n_events) >= n_events - 20, Continuing())
    went_on = restored.refreshed(world.training, growth)
    assert not went_on._ready().learns_repeats
    assert np.isnan(went_on.score_all(world.queries)).any()


def test_one_of_before_there_was_a_choice_scores_everything(trained):
    state = trained.state()
    facts = {name: fact for name, fact in state.facts.items() if name != "learns_repeats"}
    older = SequenceTransformer(**SETTINGS)
    older.restore(replace(state, facts=facts))
    assert np.isfinite(older.score_all(chain().queries)).all()


def test_a_user_who_has_the_whole_catalogue_spoils_nothing():
    world = chain()
    everything = Histories.of_items([np.append(np.arange(12), 3)])
    histories = world.training.dataset.histories.followed_by(everything)
    dataset = replace(world.training.dataset, histories=histories)
    source = SequenceTransformer(**SETTINGS, learns_repeats=False)
    source.fit(replace(world.training, dataset=dataset, validation=None))
    assert torch.isfinite(source._ready().item_vectors).all()
