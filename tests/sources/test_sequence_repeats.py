"""Whether the transformer lets items of a history compete with what comes next."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zhiyin.contracts import Continuing, Growth
from zhiyin.domain import Histories
from zhiyin.sources.sequence import learner as learner_module
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
from zhiyin.training.losses import full_cross_entropy

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


def decided(config, histories, n_items):
    return learns_repeats(config, histories, is_repeated(histories), n_items)


def pairs_of_items(n_users):
    """Nobody shares anything, and .75 / n_users is known on average."""
    return Histories.of_items([np.arange(2) + 2 * user for user in range(n_users)])


def test_repeats_are_learned_where_little_is_known():
    assert not decided(AUTO, Histories.of_items([np.arange(10), np.arange(10)[::-1]]), 10)
    assert not decided(AUTO, pairs_of_items(10), 20), "75 in a thousand are known"
    assert decided(AUTO, pairs_of_items(12), 24), "63 in a thousand are known"
    assert decided(AUTO, Histories.empty(3), 10)


@pytest.mark.parametrize(("n_repeats", "are_learned"), [(1, False), (3, True)])
def test_repeats_are_learned_where_there_are_some(n_repeats, are_learned):
    """One or three of some two hundred events."""
    rows = [np.arange(20) for _ in range(10)]
    rows[0] = np.append(rows[0], np.arange(n_repeats))
    assert decided(AUTO, Histories.of_items(rows), 20) == are_learned


@pytest.mark.parametrize("wanted", [True, False])
def test_who_says_so_is_heard(wanted):
    config = SequenceTransformerConfig(learns_repeats=wanted)
    assert decided(config, Histories.of_items([np.arange(10)] * 2), 10) == wanted
    assert decided(config, Histories.of_items([np.array([0, 1, 0, 1])] * 2), 10) == wanted


@pytest.mark.parametrize("large", [{"n_negatives": 5}, {"index_above": 9}])
def test_drawn_negatives_and_an_index_need_scores_of_all_items(large):
    config = SequenceTransformerConfig(learns_repeats=False, **large)
    assert decided(config, Histories.of_items([np.arange(10)] * 2), 10)


@pytest.mark.parametrize(("n_users", "width"), [(95, 64), (105, 128)])
def test_vectors_are_wide_where_the_items_that_have_events_have_many(n_users, width):
    world = chain(n_users=60, n_items=12)
    histories = Histories.of_items([np.arange(6)] * n_users)
    dataset = replace(world.training.dataset, histories=histories)
    assert dataset.n_items == 12
    assert dimension_of(AUTO, dataset, histories) == width
    assert dimension_of(SequenceTransformerConfig(dimension=16), dataset, histories) == 16


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
    moved = batch.to(torch.device("cpu"))
    assert moved.known is not None
    assert moved.known.items.tolist() == batch.known.items.tolist()
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


@pytest.mark.parametrize("stranger", [-1, 12])
def test_items_that_are_not_known_silence_nothing_else(trained, stranger):
    queries = chain().queries
    items, oldest = queries.histories.item_index.copy(), queries.histories.offsets[:-1]
    items[oldest] = stranger
    scores = trained.score_all(replace(queries, histories=replace(queries.histories, item_index=items)))
    assert np.isnan(scores).sum(axis=1).tolist() == (queries.histories.lengths - 1).tolist()


def test_who_learns_repeats_scores_everything():
    source = SequenceTransformer(**SETTINGS, learns_repeats=True)
    source.fit(chain().training)
    assert np.isfinite(source.score_all(chain().queries)).all()


def test_a_saved_one_still_leaves_out_what_is_known(trained):
    world, restored = chain(), SequenceTransformer(**SETTINGS)
    restored.restore(trained.state())
    np.testing.assert_array_equal(restored.score_all(world.queries), trained.score_all(world.queries))


@pytest.fixture
def steps(monkeypatch):
    """What every step compares: targets, weights, and what does not compete."""
    seen = []

    def watched(hidden, items, targets, weights, **options):
        seen.append((targets, weights, options["left_out"]))
        return full_cross_entropy(hidden, items, targets, weights, **options)

    monkeypatch.setattr(learner_module, "full_cross_entropy", watched)
    return seen


def with_a_repeat(world):
    """One of 301 events is a repeat."""
    repeated = Histories.of_items([np.array([0, 1, 2, 3, 4, 1])])
    histories = world.training.dataset.histories.slice(0, 59).followed_by(repeated)
    return replace(world.training, dataset=replace(world.training.dataset, histories=histories))


def assert_what_is_known_does_not_compete(steps):
    assert steps
    n_repeats = 0
    for targets, weights, left_out in steps:
        known = np.split(left_out.items.numpy(), left_out.offsets[1:-1])
        for target, weight, items in zip(targets.tolist(), weights.tolist(), known, strict=True):
            assert len(items) or not weight
            assert not (weight and target in items)
            n_repeats += target in items
    assert n_repeats


def test_fitting_leaves_out_what_is_known_and_counts_no_repeat(steps):
    source = SequenceTransformer(**SETTINGS)
    source.fit(with_a_repeat(chain()))
    assert_what_is_known_does_not_compete(steps)


def test_going_on_leaves_out_what_is_known_and_counts_no_repeat(steps):
    training = with_a_repeat(chain())
    source = SequenceTransformer(**SETTINGS)
    source.fit(training)
    steps.clear()
    went_on = source.refreshed(replace(training, validation=None), new_from(training, 20))
    assert_what_is_known_does_not_compete(steps)
    assert np.isnan(went_on.score_all(chain().queries)).any()


def new_from(training, n_new):
    n_events = training.dataset.histories.n_events
    return Growth(np.arange(n_events) >= n_events - n_new, Continuing())


def test_a_repeat_of_what_lies_before_the_part_that_is_read_again_counts_as_one(steps):
    world = chain(n_events=9)
    long = Histories.of_items([np.array([*range(9), 0])])
    histories = world.training.dataset.histories.slice(0, 59).followed_by(long)
    training = replace(world.training, dataset=replace(world.training.dataset, histories=histories))
    source = SequenceTransformer(**SETTINGS, max_length=3)
    source.fit(training)
    steps.clear()
    source.refreshed(replace(training, validation=None), new_from(training, 1))
    found = []
    for targets, weights, left_out in steps:
        known = np.split(left_out.items.numpy(), left_out.offsets[1:-1])
        cases = zip(targets.tolist(), weights.tolist(), known, strict=True)
        found += [weight for target, weight, items in cases if target == 0 and items.tolist() == [6, 7, 8]]
    assert found, "item 0 comes after these three alone, and again"
    assert not any(found)


def test_repeats_that_begin_later_are_learned_from_then_on():
    world = chain()
    source = SequenceTransformer(**SETTINGS)
    source.fit(world.training)
    dataset = world.training.dataset
    again = Histories.of_items([np.array([0, 1, 2, 0, 1, 2])] * 60)
    grown = replace(world.training, dataset=replace(dataset, histories=again), validation=None)
    went_on = source.refreshed(grown, new_from(grown, 100))
    assert went_on.chosen.learns_repeats is True
    assert np.isfinite(went_on.score_all(world.queries)).all()


def test_without_repeats_there_is_no_index_however_large_the_catalogue_becomes(trained):
    world = chain()
    small = SequenceTransformer(**SETTINGS, index_above=12)
    small.fit(world.training)
    small.add_items(world.catalogue.rows(np.array([0, 1])), world.training.language)
    assert small.is_dense
    restored = SequenceTransformer(**SETTINGS, index_above=12)
    restored.restore(small.state())
    assert restored.is_dense
    assert np.isnan(restored.ask(world.queries).at(np.tile(np.arange(12), (60, 1)).astype(np.int32))).any()
    other = SequenceTransformer(**SETTINGS, index_above=11)
    other.fit(world.training)
    assert not other.is_dense
    other.restore(trained.state())
    assert other.is_dense, "the index of before is not kept"
    other.fit(world.training)
    assert np.isfinite(other.ask(world.queries).at(np.tile(np.arange(12), (60, 1)).astype(np.int32))).all()


def test_the_report_tells_what_was_derived(trained):
    chosen = trained.chosen
    assert (chosen.dimension, chosen.max_length, chosen.learns_repeats) == (16, 4, False)
    assert isinstance(chosen.dropout, float)
    assert SequenceTransformer().chosen.dimension == "auto"


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
