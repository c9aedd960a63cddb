"""The sequence transformer, in worlds whose answers are known and against slow references."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from zhiyin.contracts import ComponentState, TrainingData
from zhiyin.domain import Histories, Queries
from zhiyin.domain.errors import BundleError, ConfigError, ShapeMismatch
from zhiyin.sources.sequence.arrivals import Arrivals
from zhiyin.sources.sequence.attention import GatedBlock, spans_of
from zhiyin.sources.sequence.derived import dropout_for
from zhiyin.sources.sequence.fitting import target_weights
from zhiyin.sources.sequence.gaps import UNKNOWN_GAP
from zhiyin.sources.sequence.learner import Batch, SequenceLearner
from zhiyin.sources.sequence.network import SequenceNetwork, Shape
from zhiyin.sources.sequence.packing import Packing
from zhiyin.sources.sequence.prediction import CELLS_AT_ONCE, runs_alike, score_catalogue
from zhiyin.sources.sequence.source import SequenceTransformer
from zhiyin.sources.sequence.tables import IdTable, ItemVectors
from zhiyin.sources.sequence.text import Whitening
from zhiyin.sources.sequence.windows import ShiftingWindows, cut, length_limit
from zhiyin.testing.listening import Killed, Listening
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.toy_language import HashedWords, ToyLanguage
from zhiyin.testing.worlds import chain, checkerboard, topics
from zhiyin.training.losses import NegativeSampler

QUICK = {
    "dimension": 16,
    "n_blocks": 1,
    "n_heads": 2,
    "training": {
        "max_epochs": 12,
        "patience": 12,
        "epochs_without_validation": 4,
        "learning_rate": 0.01,
        "warmup_steps": 5,
        "devices": "cpu",
        "precision": "float32",
    },
}


class TestSequenceTransformer(CandidateSourceContract):
    source = SequenceTransformer
    settings = QUICK
    solves = (chain,)
    tolerance = 1e-4

    def fitted(self):
        return _fitted()


def _fitted(cache=[]):  # noqa: B006 - one training for all promises
    if not cache:
        source = SequenceTransformer(**QUICK)
        source.fit(checkerboard().training)
        cache.append(source)
    return cache[0]


SHAPE = Shape(dimension=16, n_blocks=2, n_heads=2, max_length=9)


def network(seed=0):
    torch.manual_seed(seed)
    made = SequenceNetwork(SHAPE, dropout=0.0).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def slow_block(block, bias, events):
    """One sequence (T, D), one head and one event at a time; bias is (H, T, T)."""
    gate, query, key, value = functional.silu(block.widen(block.before(events))).chunk(4, dim=1)
    size = events.shape[1] // block.n_heads
    seen = torch.zeros_like(events)
    for head in range(block.n_heads):
        part = slice(head * size, (head + 1) * size)
        for now in range(len(events)):
            for before in range(now + 1):
                strength = functional.silu(query[now, part] @ key[before, part] + bias[head, now, before])
                seen[now, part] += strength * value[before, part] / SHAPE.max_length
    normed = functional.layer_norm(seen, (SHAPE.dimension,), block.after.weight, block.after.bias, eps=1e-5)
    return events + block.mix(normed * gate)


def slow_bias(made, gaps):
    """(N, H, T, T): the number of each distance and of each span of time, looked up one by one."""
    n, n_blocks, n_heads = len(gaps), len(made.blocks), made.bias.n_heads
    bias = torch.zeros(n_blocks, n_heads, n, n)
    seconds = [0 if gap == UNKNOWN_GAP else math.ceil(2 ** (gap / 2)) - 1 for gap in gaps.tolist()]
    for now in range(n):
        for before in range(now + 1):
            span = int(2 * math.log2(1 + sum(seconds[before : now + 1])) + 1e-9)
            span = UNKNOWN_GAP if gaps[now] == UNKNOWN_GAP else min(span, UNKNOWN_GAP - 1)
            both = made.bias.by_distance[now - before] + made.bias.by_span[span]
            bias[:, :, now, before] = both.view(n_blocks, n_heads)
    return bias


def slow_forward(made, events, gaps):
    states = events + made.places[: len(events)] + made.gaps[gaps]
    for block, bias in zip(made.blocks, slow_bias(made, gaps), strict=True):
        states = slow_block(block, bias, states)
    return made.last_norm(states)


def test_packed_sequences_equal_each_sequence_alone():
    made, lengths = network(), np.array([3, 9, 1, 5])
    events, gaps = torch.randn(18, 16), torch.arange(0, 36, 2)
    gaps[[1, 8, 14, 17]] = UNKNOWN_GAP
    parts = zip(events.split(lengths.tolist()), gaps.split(lengths.tolist()), strict=True)
    with torch.no_grad():
        packed = made(events, gaps, Packing.of(lengths))
        alone = torch.cat([slow_forward(made, *part) for part in parts])
        newest = made.newest(events, gaps, Packing.of(lengths))
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(newest, alone[lengths.cumsum() - 1], rtol=1e-4, atol=1e-5)


def test_without_gaps_the_time_is_not_read():
    torch.manual_seed(0)
    made = SequenceNetwork(replace(SHAPE, reads_gaps=False), dropout=0.0).eval()
    events, packing = torch.randn(9, 16), Packing.of(np.array([4, 5]))
    with torch.no_grad():
        soon, late = (made(events, torch.full((9,), gap), packing) for gap in (3, 40))
        newest = made.newest(events, torch.zeros(9, dtype=torch.int64), packing)
    torch.testing.assert_close(soon, late)
    torch.testing.assert_close(newest, soon[[3, 8]], rtol=1e-4, atol=1e-5)


def test_the_future_does_not_change_the_past():
    made, gaps = network(), torch.arange(9)
    events = torch.randn(9, 16)
    changed = torch.cat([events[:5], torch.randn(4, 16)])
    with torch.no_grad():
        before, after = (made(part, gaps, Packing.of(np.array([9]))) for part in (events, changed))
    torch.testing.assert_close(before[:5], after[:5])
    assert not torch.allclose(before[5:], after[5:])


def test_packing_folds_back_what_it_unfolds():
    packing = Packing.of(np.array([2, 1, 4]))
    flat = torch.randn(7, 3)
    assert torch.equal(packing.of_cells(packing.cells(flat[None])), flat)
    assert packing.newest.tolist() == [1, 2, 6]
    assert packing.place.tolist() == [0, 1, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("negatives", [0, 5])
def test_what_fills_a_batch_up_to_a_round_size_changes_neither_loss_nor_gradients(negatives):
    """13 events become 16: one more sequence of 3."""
    histories = Histories.of_items([np.arange(9), np.array([3, 5, 2, 7, 1, 0])])
    windows, rows = cut(histories, np.linspace(0.5, 1, 15, dtype=np.float32), 9), np.array([1, 0])
    filled = Batch.of(windows, rows)
    assert len(filled.items) == 16
    assert filled.packing.n_rows == 3
    n = int(windows.lengths.sum())
    parts = (part[:n] for part in (filled.items, filled.targets, filled.weights, filled.gaps))
    plain = Batch(*parts, Packing.of(windows.lengths[rows]))
    losses, gradients = [], []
    for batch in (filled, plain):
        torch.manual_seed(3)
        items = ItemVectors(IdTable(np.ones(9, dtype=np.int64), 9, 16), None)
        sampler = NegativeSampler(torch.ones(9)) if negatives else None
        learner = SequenceLearner(items, network(), sampler, negatives)
        torch.manual_seed(4)  # the same negatives
        loss = learner(batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([one.grad for one in learner.parameters()])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("newest", [None, 1, 2, 3, 4])
def test_every_event_but_the_first_is_a_target_once(newest):
    histories = Histories.of_items([np.arange(n) + 100 * n for n in (1, 2, 5, 6, 7, 0, 25)])
    newest_length = None if newest is None else np.full(7, newest)
    windows = cut(histories, np.ones(histories.n_events, dtype=np.float32), 4, newest_length)
    assert windows.lengths.max() == 4
    assert windows.lengths.min() >= 1
    positions = windows.positions(np.arange(len(windows.lengths)))
    targets = sorted((positions + 1).tolist())
    firsts = set(histories.offsets[:-1][histories.lengths > 0].tolist())
    assert targets == [place for place in range(histories.n_events) if place not in firsts]
    row = histories.row_of_event
    assert (row[positions] == row[positions + 1]).all()


def test_windows_fall_elsewhere_in_each_epoch():
    histories = Histories.of_items([np.arange(50)] * 3)
    windows = ShiftingWindows(histories, np.ones(150, dtype=np.float32), 8, tokens_per_batch=16, seed=0)

    def starts(epoch):
        return sorted(np.concatenate([cuts.starts[rows] for cuts, rows in windows.epoch(epoch)]).tolist())

    assert starts(1) == starts(1)
    assert starts(1) != starts(2)


def test_the_length_limit_fits_the_histories():
    assert length_limit(Histories.of_items([np.arange(5)] * 10)) == 4
    assert length_limit(Histories.of_items([np.arange(5)] * 99 + [np.arange(90)])) == 50
    assert length_limit(Histories.of_items([np.arange(120)] * 99 + [np.arange(500)])) == 120
    assert length_limit(Histories.of_items([np.arange(900)] * 10)) == 200


def test_dropout_falls_with_the_events_an_item_has():
    assert dropout_for(3.0) == dropout_for(15.0) == 0.4
    assert dropout_for(150.0) == dropout_for(9000.0) == 0.2
    assert dropout_for(15.0 * math.sqrt(10)) == pytest.approx(0.3)


def test_whitened_vectors_vary_alike_in_all_directions():
    random = np.random.default_rng(0)
    stretched = (random.normal(size=(4000, 6)) * [9, 3, 1, 1, 0.8, 0.5] + 2).astype(np.float32)
    stretched[7] = 0.0
    whitened = Whitening.of(stretched)(stretched)
    covariance = np.cov(np.delete(whitened, 7, axis=0).T) * 6
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=0.02)
    assert np.diag(covariance).min() > 0.4
    assert (whitened[7] == 0).all(), "an item without text is average"


def test_a_killed_training_ends_in_the_same_source(tmp_path):
    world = chain()

    def fit(training):
        source = SequenceTransformer(**QUICK)
        source.fit(training)
        return source

    expected = fit(world.training)
    kept = replace(world.training, checkpoints=tmp_path)
    with pytest.raises(Killed):
        fit(replace(kept, progress=Listening(killed_at=5)))
    found = fit(kept)
    curves = [
        [
            (line["train_loss"], line["validation"])
            for line in source.state().facts["learning_curve"]["epochs"]
        ]
        for source in (expected, found)
    ]
    assert curves[0] == curves[1]
    np.testing.assert_array_equal(found.score_all(world.queries), expected.score_all(world.queries))


def test_a_transformer_of_other_blocks_is_not_read():
    state = _fitted().state()
    older = {name: array for name, array in state.arrays.items() if "widen" not in name}
    with pytest.raises(BundleError, match=r"older Zhiyin.*\s.*Train it again"):
        SequenceTransformer(**QUICK).restore(ComponentState(older, state.facts))


def test_sampled_softmax_learns_the_chain_too():
    world = chain()
    source = SequenceTransformer(**QUICK, n_negatives=24)
    source.fit(world.training)
    assert world.share_right(source.propose(world.queries, 1)) > 0.95
    assert source.state().facts["full_softmax"] is False


def test_untouched_items_are_found_by_their_words():
    world = topics()
    settings = QUICK | {"training": QUICK["training"] | {"max_epochs": 14, "patience": 14}}
    untouched = world.training.dataset.item_counts == 0
    found = []
    for seed in range(3):
        source = SequenceTransformer(**settings)
        source.fit(replace(world.training, seed=seed))
        scores = source.score_all(world.queries)[:, untouched]
        best = np.take_along_axis(world.right[:, untouched], scores.argmax(axis=1)[:, None], axis=1)
        found.append(best.mean())
    assert np.mean(found) > 0.9, found


def test_without_text_new_items_are_average_items():
    world = checkerboard()
    source = SequenceTransformer(**QUICK, use_text=False)
    source.fit(world.training)
    source.add_items(world.catalogue.rows(np.array([0, 1])), world.training.language)
    scores = source.score_all(world.queries)
    n_items = len(world.catalogue)
    np.testing.assert_allclose(scores[:, n_items], scores[:, n_items + 1])
    assert np.isfinite(scores[:, n_items:]).all()


def test_an_arrival_borrows_from_the_items_with_the_closest_texts():
    random = np.random.default_rng(0)
    texts = np.eye(6, dtype=np.float32)
    ids = random.normal(size=(6, 6)).astype(np.float32)
    arrivals = Arrivals(np.zeros(6, np.float32), np.eye(6, dtype=np.float32), texts, ids, ids.mean(axis=0))
    asked = np.array([[3, 2, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
    found = arrivals.read(asked)
    np.testing.assert_allclose(found[0], asked[0] + ids[:3].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[1], ids.mean(axis=0), rtol=1e-5)


def test_another_language_model_is_refused():
    world, source = checkerboard(), SequenceTransformer(**QUICK)
    source.restore(_fitted().state())
    with pytest.raises(ShapeMismatch, match="trained with 64"):
        source.add_items(world.catalogue.rows(np.array([0])), ToyLanguage(HashedWords(32)))


def test_events_that_are_not_liked_are_read_but_not_foretold():
    world = checkerboard()
    histories = world.training.dataset.histories
    value = np.where(np.arange(histories.n_events) % 2 == 0, 1.0, 5.0).astype(np.float32)
    histories = replace(histories, value=value)
    dataset = replace(world.training.dataset, histories=histories, positive_value=4.0)
    np.testing.assert_array_equal(target_weights(dataset, histories), value == 5.0)


def test_where_there_is_nothing_to_learn_it_has_no_opinion():
    world = checkerboard()
    lonely = replace(world.training.dataset, histories=world.training.dataset.histories.newest(1))
    source = SequenceTransformer(**QUICK)
    source.fit(TrainingData(lonely, world.training.language))
    assert np.isnan(source.score_all(world.queries)).all()
    assert not source.propose(world.queries, 3).is_item.any()


def test_heads_that_do_not_divide_the_dimension_are_refused():
    with pytest.raises(ConfigError, match=r"does not divide 'sequence.dimension', 10\."):
        SequenceTransformer(dimension=10, n_heads=4)
    with pytest.raises(ConfigError, match="64 or 128 with 'auto'"):
        SequenceTransformer(n_heads=3)


def test_it_never_reads_more_events_than_it_was_trained_on():
    world = chain()
    source = SequenceTransformer(**QUICK, max_length=80)
    source.fit(world.training)
    assert source.trained is not None
    assert source.trained.shape.max_length == 4


@given(st.lists(st.integers(1, 200), max_size=300))
def test_histories_of_like_length_are_read_together(lengths):
    rising = np.sort(np.array(lengths, dtype=np.int64))
    runs = runs_alike(rising)
    covered = np.concatenate([np.arange(len(rising))[run] for run in runs])
    assert covered.tolist() == list(range(len(rising)))
    longest = [int(rising[run].max(initial=0)) for run in runs]
    for run, most in zip(runs, longest, strict=True):
        assert len(rising[run]) == 1 or len(rising[run]) * most**2 <= CELLS_AT_ONCE
    cells = sum(len(rising[run]) * most**2 for run, most in zip(runs, longest, strict=True))
    assert cells <= len(rising) * int(rising.max(initial=0)) ** 2


def test_runs_are_cut_where_that_pays_for_another_pass():
    assert runs_alike(np.array([8] * 60 + [50] * 4)) == [slice(0, 60), slice(60, 64)]
    assert runs_alike(np.array([8, 8, 9, 40])) == [slice(0, 4)]
    assert runs_alike(np.zeros(0, dtype=np.int64)) == [slice(0, 0)]
    assert runs_alike(np.full(12, 200)) == [slice(0, 5), slice(5, 10), slice(10, 12)]


def test_one_after_the_other_they_are_read_as_all_at_once():
    source, random = _fitted(), np.random.default_rng(1)
    lengths = random.permutation([1, 2, 3, 4, 5, 6, 7, 90] * 40)
    rows = [random.integers(0, 12, n) for n in lengths]
    together = source.score_all(Queries.of_histories(Histories.of_items(rows)))
    alone = [source.score_all(Queries.of_histories(Histories.of_items([row]))) for row in rows]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_everybody_is_answered_for_the_moment_they_asked_at():
    random, made = np.random.default_rng(0), network()
    made.requires_grad_(requires_grad=False)
    lengths = random.permutation([1, 2, 5, 9] * 40)
    plain = Histories.of_items([random.integers(0, 30, n) for n in lengths])
    moments = np.concatenate([np.sort(random.integers(10**9, 2 * 10**9, n)) for n in lengths])
    histories = replace(plain, timestamp=moments)
    asked = 2 * 10**9 + 10 ** random.integers(0, 9, len(lengths))
    queries = Queries(np.full(len(lengths), -1, dtype=np.int32), histories, asked)
    items = torch.randn(30, 16)
    assert len(runs_alike(np.sort(lengths))) > 1
    together = score_catalogue(made, items, queries)
    alone = [score_catalogue(made, items, queries.take(np.array([row]))) for row in range(len(lengths))]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-3, atol=1e-4)


def test_spans_add_up_whole_seconds_and_end_at_the_largest_kind():
    def last_row(*kinds):
        return spans_of(torch.tensor(kinds), Packing.of(np.array([len(kinds)])))[0, -1].tolist()

    assert last_row(62, 62) == [62, 62]
    assert last_row(58, 9, 9, 9) == [58, 12, 10, 9]
    assert last_row(9, UNKNOWN_GAP, 9) == [10, 9, 9]
    assert last_row(9, UNKNOWN_GAP) == [UNKNOWN_GAP, UNKNOWN_GAP]


def test_a_new_network_lets_no_gap_count_yet():
    made = SequenceNetwork(SHAPE, dropout=0.0)
    assert not made.gaps.any()
    assert not made.bias.by_span.any()


def test_blocks_drop_what_they_add_and_what_they_gate_while_training():
    torch.manual_seed(0)
    block = GatedBlock(16, 2, 9, dropout=0.5)
    events, packing = torch.randn(900, 16), Packing.of(np.full(100, 9))
    bias = torch.zeros(2, 1, 9, 9).triu(1) * -1e4
    with torch.no_grad():
        block.mix.weight.copy_(torch.eye(16))
        block.mix.bias.fill_(0.0)
        added = block(events, bias, packing) - events
        kept = block.eval()(events, bias, packing) - events
    assert (added == 0).float().mean() == pytest.approx(0.75, abs=0.02), "two dropouts of a half"
    assert (kept == 0).float().mean() < 0.01


def test_a_long_history_counts_by_its_newest_events():
    source, random = _fitted(), np.random.default_rng(0)
    long = random.integers(0, 12, 300)
    trained = source.trained
    assert trained is not None
    newest = Histories.of_items([long]).without_repeats().newest(trained.shape.max_length)
    whole, short = (
        score_catalogue(trained.network, trained.item_vectors, Queries.of_histories(histories))
        for histories in (Histories.of_items([long]), newest)
    )
    np.testing.assert_allclose(whole, short, rtol=1e-4, atol=1e-5)
