"""BPR and LightGCN, in worlds whose answers are known and against slow references."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Histories, Queries, Vocabulary
from zhiyin.sources.factors.bpr import Bpr, map_of_rests
from zhiyin.sources.factors.lightgcn import LightGcn, LightGcnLearner, Spread
from zhiyin.sources.factors.ranking import Ranking
from zhiyin.sources.factors.space import FactorSpace
from zhiyin.sources.factors.taken import DrawnPairs, EventWorth, Taken
from zhiyin.testing.listening import Killed, Listening
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import checkerboard
from zhiyin.training.losses import NegativeSampler

TRAINING = {
    "max_epochs": 6,
    "patience": 6,
    "epochs_without_validation": 5,
    "learning_rate": 0.05,
    "warmup_steps": 2,
    "averaging": 0.5,
    "devices": "cpu",
    "precision": "float32",
}
QUICK = {"dimension": 8, "n_negatives": 16, "training": TRAINING}
PAIRWISE = {**QUICK, "loss": "pairwise", "n_negatives": 4}
NEUTRAL = EventWorth(np.ones(1, dtype=np.float32))


class FactorContract(CandidateSourceContract):
    tolerance = 1e-4
    solves = (checkerboard,)

    def fitted(self):
        if self.__class__ not in _FITTED:
            source = self.source(**self.settings)
            source.fit(checkerboard().training)
            _FITTED[self.__class__] = source
        return _FITTED[self.__class__]


_FITTED = {}


class TestBpr(FactorContract):
    source = Bpr
    settings = QUICK


class TestPairwiseBpr(FactorContract):
    source = Bpr
    settings = PAIRWISE


class TestLightGcn(FactorContract):
    source = LightGcn
    settings = QUICK


class TestPairwiseLightGcn(FactorContract):
    source = LightGcn
    settings = PAIRWISE


del FactorContract


def some_taken(seed=0, n_users=7, n_items=5):
    random = np.random.default_rng(seed)
    has = random.random((n_users, n_items)) < 0.5
    has[0] = False
    has[:, 0] = False
    user, item = np.nonzero(has)
    weight = random.uniform(0.5, 2.0, len(user)).astype(np.float32)
    return Taken(n_users, n_items, user.astype(np.int64), item.astype(np.int64), weight)


def some_space(seed=0, decay=0.8, divided_by=0.5):
    random = np.random.default_rng(seed)
    history, items = random.normal(size=(2, 6, 3)).astype(np.float32)
    touched = np.array([True, True, True, True, True, False])
    worth = EventWorth(np.array([1.0, 3.0], dtype=np.float32), liked_from=3.0)
    return FactorSpace(
        history, items, random.normal(size=3).astype(np.float32), divided_by, decay, worth, touched
    )


def some_histories(seed=0, n=9):
    random = np.random.default_rng(seed)
    plain = Histories.of_items([random.integers(0, 8, length) for length in random.integers(0, 6, n)])
    kinds = random.integers(0, 2, plain.n_events).astype(np.int16)
    values = random.choice([np.nan, 1.0, 5.0], plain.n_events).astype(np.float32)
    return Histories(plain.offsets, plain.item_index, kinds, plain.timestamp, values)


def slow_events(space, histories, row):
    """(item, weight) of each event that counts."""
    part = histories.row(row)
    for place in range(part.n_events):
        item, value = int(part.item_index[place]), part.value[place]
        if item < 6 and space.is_touched[item] and not value < 3.0:
            age = part.n_events - 1 - place
            yield item, float(space.worth.of_kind[part.event_index[place]]) * space.decay**age


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_history_is_read_as_one_would_by_hand(seed, divided_by):
    space, histories = some_space(seed, divided_by=divided_by), some_histories(seed)
    users, is_silent = space.read(histories)
    scores = space.score(Queries.of_histories(histories))
    for row in range(len(histories)):
        events = list(slow_events(space, histories, row))
        assert is_silent[row] == (not events)
        if events:
            total = sum(weight for _, weight in events)
            summed = sum(weight * space.history_vectors[item] for item, weight in events)
            expected = space.start + summed / total**divided_by
            np.testing.assert_allclose(users[row], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(
                scores[row, :5], space.item_vectors[:5] @ expected, rtol=1e-3, atol=1e-4
            )
        else:
            assert np.isneginf(scores[row]).all()
        assert np.isneginf(scores[row, 5]), "no opinion on an item that training never saw"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_reason_is_the_event_that_adds_most(seed):
    space, histories = some_space(seed), some_histories(seed)
    asked = np.random.default_rng(seed).integers(-1, 8, (len(histories), 4)).astype(np.int32)
    found = space.strongest_event(histories, asked)
    for row, column in np.ndindex(*asked.shape):
        item = asked[row, column]
        added = {}
        if 0 <= item < 6:
            for event, weight in slow_events(space, histories, row):
                added_now = weight * float(space.history_vectors[event] @ space.item_vectors[item])
                if event != item:
                    added[event] = max(added.get(event, -np.inf), added_now)
        best = max(added.values(), default=0.0)
        if best <= 0:
            assert found[row, column] == -1
        else:
            assert added[int(found[row, column])] == pytest.approx(best, rel=1e-4)


def test_events_of_a_pair_add_up_and_what_was_not_liked_is_left_out():
    world = checkerboard()
    plain = Histories.of_items([np.array([2, 1, 2]), np.array([3, 4])])
    values = np.array([np.nan, 5.0, 4.0, 1.0, 3.0], dtype=np.float32)
    kinds = np.array([0, 1, 1, 0, 2], dtype=np.int16)
    histories = Histories(plain.offsets, plain.item_index, kinds, plain.timestamp, values)
    weights = np.array([1.0, 4.0, -2.0], dtype=np.float32)
    dataset = Dataset(
        "pairs", world.catalogue, Vocabulary(["a", "b"]), histories, ("view", "buy", "hide"), weights, 2.0
    )
    taken = Taken.of(dataset, EventWorth.of(dataset))
    assert taken.user.tolist() == [0, 0]
    assert taken.item.tolist() == [1, 2]
    assert taken.weight.tolist() == [4.0, 5.0]
    assert taken.item_counts[:4].tolist() == [0.0, 4.0, 5.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 9))
def test_each_pair_is_drawn_as_often_as_it_counts(seed, n_pairs, per_batch):
    weight = np.random.default_rng(seed).uniform(0.1, 5.0, n_pairs).astype(np.float32)
    drawn = DrawnPairs(weight, per_batch, seed)
    batches = drawn.epoch(3)
    assert max(len(batch) for batch in batches) <= per_batch
    counts = np.bincount(np.concatenate(batches), minlength=n_pairs)
    assert counts.sum() == n_pairs
    assert (np.abs(counts - weight / weight.sum() * n_pairs) < 1.0 + 1e-3).all()
    np.testing.assert_array_equal(np.concatenate(drawn.epoch(3)), np.concatenate(batches))


def test_pairs_that_count_alike_come_once_an_epoch_in_another_order():
    drawn = DrawnPairs(np.ones(50, dtype=np.float32), 8, seed=0)
    first, second = (np.concatenate(drawn.epoch(epoch)) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()


@pytest.mark.parametrize("kind", ["softmax", "pairwise"])
def test_the_loss_equals_one_computed_pair_by_pair(kind):
    torch.manual_seed(1)
    sampler = NegativeSampler(torch.tensor([5.0, 1.0, 9.0, 3.0]), power=0.5)
    users, items, taken = torch.randn(6, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 3, 2, 2])
    ranking = Ranking(kind, sampler, 3, regularisation=0.1)
    torch.manual_seed(7)
    found = ranking.loss(users, items, taken, (users,))
    torch.manual_seed(7)
    drawn, log_expected = sampler.draw(3 if kind == "softmax" else 18)
    parts = []
    for row in range(6):
        own = users[row] @ items[taken[row]]
        mine = range(3) if kind == "softmax" else range(3 * row, 3 * row + 3)
        others = [(users[row] @ items[drawn[n]], log_expected[n]) for n in mine if drawn[n] != taken[row]]
        if kind == "softmax":
            logits = torch.stack([own, *(score - expected for score, expected in others)])
            parts.append(torch.logsumexp(logits, 0) - own)
        else:
            parts += [-functional.logsigmoid(own - score) for score, _ in others]
    expected = torch.stack(parts).mean() + 0.1 * users.square().sum() / 6
    torch.testing.assert_close(found, expected)


def test_the_map_finds_users_from_all_but_one_of_their_items():
    """Every case spelt out, for weights and users at random."""
    random = np.random.default_rng(0)
    n_users, n_items = 60, 30
    items = random.normal(size=(n_items, 4)).astype(np.float32)
    pairs = np.sort(random.choice(n_users * n_items, size=400, replace=False))
    weight = random.choice([0.1, 1.0, 2.0], size=len(pairs)).astype(np.float32)
    taken = Taken(n_users, n_items, pairs // n_items, pairs % n_items, weight)
    users = random.normal(size=(n_users, 4)).astype(np.float32)
    cases, wanted, counts = [], [], []
    for user in range(n_users):
        own = np.flatnonzero(taken.user == user)
        for place in own if len(own) > 1 else ():
            others = own[own != place]
            cases.append(np.average(items[taken.item[others]], axis=0, weights=weight[others]))
            wanted.append(users[user])
            counts.append(weight[place] / weight[own].sum())
    root = np.sqrt(counts)[:, None]
    design = np.column_stack([np.array(cases), np.ones(len(cases))])
    expected = np.linalg.lstsq(design * root, np.array(wanted) * root, rcond=None)[0]
    slope, start = map_of_rests(taken, users, items)
    np.testing.assert_allclose(slope, expected[:-1], atol=0.01)
    np.testing.assert_allclose(start, expected[-1], atol=0.01)
    alone = Taken(2, n_items, np.arange(2), np.arange(2), np.ones(2, dtype=np.float32))
    np.testing.assert_array_equal(map_of_rests(alone, users[:2], items)[0], np.eye(4))


def test_somebody_unknown_is_served_by_the_history_like_somebody_known():
    world = checkerboard()
    for kind in (Bpr, LightGcn):
        source = kind(**QUICK)
        source.fit(world.training)
        strangers = Queries.of_histories(world.queries.histories)
        np.testing.assert_array_equal(source.score_all(strangers), source.score_all(world.queries))


def test_no_vector_of_a_user_is_kept():
    world = checkerboard()
    for kind in (Bpr, LightGcn):
        source = kind(**QUICK)
        source.fit(world.training)
        for name, array in source.state().arrays.items():
            assert len(array) in (12, 8, 1), name


def test_a_square_of_the_other_colour_is_never_the_reason():
    world = checkerboard()
    for kind in (Bpr, LightGcn):
        source = kind(**QUICK)
        source.fit(world.training)
        proposed = source.propose(world.queries, 6).item_index
        reasons = source.because(world.queries, proposed)
        assert (reasons >= 0).all()
        assert (reasons % 2 == proposed % 2).all()
        assert (reasons != proposed).all()


@pytest.mark.parametrize("kind", [Bpr, LightGcn])
def test_a_killed_training_ends_in_the_same_vectors(kind, tmp_path):
    world = checkerboard()

    def fit(training):
        source = kind(**QUICK)
        source.fit(training)
        return source.state()

    expected = fit(world.training)
    kept = replace(world.training, checkpoints=tmp_path)
    with pytest.raises(Killed):
        fit(replace(kept, progress=Listening(killed_at=4)))
    found = fit(kept)
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


def test_training_again_takes_what_was_chosen():
    source = Bpr(**QUICK)
    source.fit(checkerboard().training)
    chosen = source.chosen
    assert chosen.history_decay in (1.0, 0.9, 0.75, 0.6, 0.4)
    best = source.state().facts["training"]["learning_curve"]["best_epoch"]
    assert chosen.training.epochs_without_validation == best


def learner_of(taken, n_layers, dimension=3, hide_target=False):
    torch.manual_seed(0)
    sampler = NegativeSampler(torch.from_numpy(taken.item_counts))
    ranking = Ranking("softmax", sampler, 4, 0.0)
    return LightGcnLearner(taken, dimension, n_layers, ranking, hide_target=hide_target)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_spreading_equals_the_equations_of_the_paper_with_whole_matrices(n_layers):
    taken = some_taken()
    learner = learner_of(taken, n_layers)
    users, items, _ = (part.detach().numpy() for part in learner.spread())
    whole = np.zeros((7, 5))
    whole[taken.user, taken.item] = taken.weight
    of_user, of_item = (np.maximum(whole.sum(axis=axis), 1e-9) for axis in (1, 0))
    whole /= np.sqrt(of_user[:, None] * of_item)
    both = np.block([[np.zeros((7, 7)), whole], [whole.T, np.zeros((5, 5))]])
    layer = np.vstack([np.zeros((7, 3)), learner.items.detach().numpy()])
    total = layer.copy()
    for _ in range(n_layers):
        layer = both @ layer
        total += layer
    np.testing.assert_allclose(np.vstack([users, items]), total / (n_layers + 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_a_user_read_from_the_history_is_the_user_of_the_graph(n_layers):
    taken = some_taken()
    taken = replace(taken, weight=np.ones(len(taken.user), dtype=np.float32))
    learner = learner_of(taken, n_layers)
    with torch.no_grad():
        read, expected = learner.read_out(), learner.spread()[0].numpy()
    parts = (read.history_vectors, read.item_vectors, read.start)
    space = FactorSpace(*parts, learner.divided_by, 1.0, NEUTRAL, taken.item_counts > 0)
    rows = [taken.item[taken.user == user] for user in range(taken.n_users)]
    users, is_silent = space.read(Histories.of_items(rows))
    assert is_silent.tolist() == [not len(row) for row in rows]
    np.testing.assert_allclose(users, expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_through_the_graph_equals_that_of_a_whole_matrix():
    learner, vectors = learner_of(some_taken(), 3), torch.randn(5, 3, requires_grad=True)
    aim = torch.randn(7, 3)
    (found,) = torch.autograd.grad(
        (Spread.apply(learner.to_users, learner.to_items, vectors) * aim).sum(), vectors
    )
    (expected,) = torch.autograd.grad((learner.to_users.to_dense() @ vectors * aim).sum(), vectors)
    torch.testing.assert_close(found, expected)


def test_a_target_does_not_speak_for_itself():
    taken = some_taken()
    hiding, whole = (learner_of(taken, 3, hide_target=hide) for hide in (True, False))
    places = torch.tensor([0, 3, 5])
    pairs = (torch.from_numpy(taken.user)[places], torch.from_numpy(taken.item)[places], places)
    users, items, inward = (part.detach() for part in whole.spread())
    of_user = np.bincount(taken.user, weights=taken.weight, minlength=7)
    share = torch.from_numpy(
        taken.weight / np.sqrt(of_user[taken.user] * taken.item_counts[taken.item])
    ).float()
    without = users[pairs[0]] - share[places, None] * inward[pairs[1]]
    losses = []
    for asked in (without, users[pairs[0]]):
        torch.manual_seed(5)
        losses.append(float(whole._ranking.loss(asked, items, pairs[1], ())))
    for learner, expected in zip((hiding, whole), losses, strict=True):
        torch.manual_seed(5)
        assert float(learner(pairs).detach()) == pytest.approx(expected, rel=1e-4)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("source", [Bpr, LightGcn])
def test_setting_one_thing_about_training_leaves_the_others_as_they_were(source):
    usual = source().config.training
    changed = source(training={"max_epochs": 7}).config.training
    assert changed == usual.model_copy(update={"max_epochs": 7})
    assert usual.learning_rate == 0.02
