"""The merge, on opinions whose worth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zhiyin.contracts import ComponentState
from zhiyin.domain import Candidates
from zhiyin.pipeline.circumstances import CORNERS, Circumstances
from zhiyin.pipeline.features import FEATURES, comparable, standing_of
from zhiyin.pipeline.fitting import MergeProblem, _loss, fit_likelihood
from zhiyin.pipeline.merge import Merge

N_QUERIES, N_CANDIDATES = 300, 30


def opinions(seed: int = 0) -> tuple[Candidates, np.ndarray]:
    """One source knows the answer half of the time, one is noise, one speaks of every third item only."""
    random = np.random.default_rng(seed)
    shape = (N_QUERIES, N_CANDIDATES)
    item_index = np.tile(np.arange(N_CANDIDATES, dtype=np.int32), (N_QUERIES, 1))
    targets = random.integers(0, N_CANDIDATES, N_QUERIES).astype(np.int32)
    knowing, noise = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    knows = random.random(N_QUERIES) < 0.5
    knowing[np.flatnonzero(knows), targets[knows]] += 6.0
    sparse = np.where(item_index % 3 == 0, noise[::-1], np.float32(np.nan))
    columns = {"knowing": knowing, "noise": noise, "sparse": sparse}
    return Candidates(item_index, columns), targets


def anywhere(candidates: Candidates) -> Circumstances:
    """Every item has had three events, every history eight."""
    shape = candidates.item_index.shape
    return Circumstances(np.full(shape, 0.5, np.float32), np.full(shape[0], 1 / 3, np.float32))


def fitted(merge: Merge, candidates: Candidates, targets: np.ndarray) -> int:
    return merge.fit(candidates, targets, anywhere(candidates), penalty=1e-3)


def merged(merge: Merge, candidates: Candidates) -> Candidates:
    return merge.apply(candidates, anywhere(candidates))


def quality(scores: np.ndarray, targets: np.ndarray) -> float:
    place = np.take_along_axis(scores, targets[:, None].astype(int), axis=1)
    rank = (scores > place).sum(axis=1) + 1
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean())


def test_the_source_that_knows_gets_the_weight():
    candidates, targets = opinions()
    merge = Merge(["knowing", "noise", "sparse"])
    n_used = fitted(merge, candidates, targets)
    assert n_used == N_QUERIES
    # Standing alone: a good quality leaves the weights of the places of noise to the last digit of rounding.
    assert (merge.weights[:, 0, 0] > 3 * merge.weights[:, 1, 0]).all()
    unseen, answers = opinions(7)
    reached, knowing = quality(merged(merge, unseen).column("score"), answers), unseen.column("knowing")
    assert reached > 0.95 * quality(knowing, answers)
    assert reached > 2 * quality(unseen.column("noise"), answers)


@pytest.mark.parametrize("of_items", [True, False])
def test_a_source_that_knows_only_of_new_items_or_short_histories_is_heard_there(of_items):
    """Of what is new, or after a short history, "fresh" knows the answer; of all else "settled" does."""
    random = np.random.default_rng(5)
    n = 2000
    item_index = np.tile(np.arange(N_CANDIDATES, dtype=np.int32), (n, 1))
    targets = random.integers(0, N_CANDIDATES, n).astype(np.int32)
    is_fresh = targets % 2 == 0 if of_items else np.arange(n) % 2 == 0
    columns = {name: random.normal(size=item_index.shape).astype(np.float32) for name in ("fresh", "settled")}
    columns["fresh"][np.flatnonzero(is_fresh), targets[is_fresh]] += 2.0
    columns["settled"][np.flatnonzero(~is_fresh), targets[~is_fresh]] += 2.0
    candidates = Candidates(item_index, columns)
    near = np.array([0.9, 0.1], dtype=np.float32)
    if of_items:
        circumstances = Circumstances(near[item_index % 2], np.full(n, 0.3, np.float32))
    else:
        circumstances = Circumstances(np.full(item_index.shape, 0.3, np.float32), near[np.arange(n) % 2])
    merge = Merge(["fresh", "settled"])
    merge.fit(candidates, targets, circumstances, penalty=1e-3)
    standing = merge.weights[..., 0].reshape(2, 2, 2)
    first, last = (standing.mean(axis=1) if of_items else standing.mean(axis=0))[:, :]
    assert last[0] > 2 * last[1], "of what is new the fresh source knows"
    assert first[1] > 2 * first[0]
    alike = Merge(["fresh", "settled"])
    alike.fit(candidates, targets, anywhere(candidates), penalty=1e-3)
    by_circumstance = quality(merge.apply(candidates, circumstances).column("score"), targets)
    assert by_circumstance > 1.1 * quality(merged(alike, candidates).column("score"), targets)


def test_few_examples_teach_no_difference_between_circumstances():
    few = [column[:20] for column in (opinions(3)[0].item_index, opinions(3)[1])]
    columns = {name: column[:20] for name, column in opinions(3)[0].columns.items()}
    random = np.random.default_rng(1)
    shape = few[0].shape
    circumstances = Circumstances(
        random.random(shape, dtype=np.float32), random.random(shape[0], dtype=np.float32)
    )
    merge = Merge(["knowing", "noise", "sparse"])
    assert merge.fit(Candidates(few[0], columns), few[1], circumstances, penalty=1e-3) == 20
    assert np.ptp(merge.weights, axis=0).max() < 0.2


def test_one_weight_for_all_circumstances_is_a_sum_that_ignores_them():
    candidates, _ = opinions()
    merge = Merge(["knowing", "noise"])
    merge.weights[:] = np.random.default_rng(0).random((2, len(FEATURES)))
    random = np.random.default_rng(1)
    shape = candidates.item_index.shape
    elsewhere = Circumstances(
        random.random(shape, dtype=np.float32), random.random(shape[0], dtype=np.float32)
    )
    np.testing.assert_allclose(
        merge.apply(candidates, elsewhere).column("score"),
        merged(merge, candidates).column("score"),
        rtol=1e-5,
    )


def test_parts_are_the_mixture_of_the_corners():
    candidates, _ = opinions()
    merge = Merge(["knowing", "sparse"])
    merge.weights[:] = np.random.default_rng(0).random(merge.weights.shape)
    random = np.random.default_rng(1)
    shape = candidates.item_index.shape
    somewhere = Circumstances(
        random.random(shape, dtype=np.float32), random.random(shape[0], dtype=np.float32)
    )
    features = np.stack([comparable(candidates.column(source)) for source in merge.sources])
    expected = np.einsum("bnc,csf,sbnf->sbn", somewhere.corners(), merge.weights, features)
    applied = merge.apply(candidates, somewhere)
    for source, part in zip(merge.sources, expected, strict=True):
        np.testing.assert_allclose(applied.column(f"{source}:part"), part, rtol=1e-4, atol=1e-5)


def test_weights_of_bundles_without_corners_count_everywhere():
    merge = Merge(["knowing", "noise"])
    weights = np.random.default_rng(0).random((2, len(FEATURES)), dtype=np.float32)
    facts = {"sources": ["knowing", "noise"]}
    merge.restore(ComponentState({"weights": weights, "trend_weights": np.zeros(0, np.float32)}, facts))
    assert (merge.weights == weights).all()
    assert merge.weights.shape == (CORNERS, *weights.shape)


def test_a_fallback_source_only_orders_what_others_are_silent_on():
    item_index = np.array([[0, 1, 2, 3]], dtype=np.int32)
    nan = np.nan
    columns = {
        "voice": np.array([[nan, 2.0, 1.0, nan]], dtype=np.float32),
        "popular": np.array([[9.0, 0.0, 50.0, 10.0]], dtype=np.float32),
    }
    ordered = merged(Merge(["voice", "popular"], fallback=["popular"]), Candidates(item_index, columns))
    assert ordered.top(4, by="score").item_index.tolist() == [[1, 2, 3, 0]]


def test_examples_without_the_target_teach_nothing():
    candidates, targets = opinions()
    before = Merge(["knowing", "noise"])
    assert fitted(before, candidates, np.full_like(targets, 999)) == 0
    assert (before.weights == 1.0).all()


def test_weights_survive_their_state():
    candidates, targets = opinions()
    merge, restored = Merge(["knowing", "noise"]), Merge(["other"])
    fitted(merge, candidates, targets)
    restored.restore(merge.state())
    np.testing.assert_array_equal(
        merged(merge, candidates).column("score"), merged(restored, candidates).column("score")
    )


def test_likelihood_finds_the_weights_that_made_the_choices():
    random = np.random.default_rng(3)
    features = random.normal(size=(4000, 8, 2)).astype(np.float32)
    true = np.array([1.5, 0.5])
    gumbel = random.gumbel(size=(4000, 8))
    target = (features @ true + gumbel).argmax(axis=1)
    newness = random.random((4000, 8), dtype=np.float32)
    circumstances = Circumstances(newness, random.random(4000, dtype=np.float32))
    problem = MergeProblem(features, circumstances, np.zeros((4000, 8), dtype=bool), target)
    of_corners, of_demand = fit_likelihood(problem, penalty=0.0)
    np.testing.assert_allclose(of_corners.mean(axis=0), true, atol=0.12)
    assert not len(of_demand)


def test_the_gradient_is_that_of_the_loss():
    random = np.random.default_rng(3)
    shape = (40, 8)
    circumstances = Circumstances(
        random.random(shape, dtype=np.float32),
        random.random(40, dtype=np.float32),
        random.random((*shape, 2), dtype=np.float32),
    )
    features = random.normal(size=(*shape, 3)).astype(np.float32)
    is_padding = np.zeros(shape, dtype=bool)
    is_padding[:, 6:] = True
    problem = MergeProblem(features, circumstances, is_padding, random.integers(0, 6, 40))
    at = random.random(CORNERS * 3 + 2)
    _, gradient = _loss(at, problem, 0.1)
    step = 1e-2
    for place, slope in enumerate(gradient):
        moved = step * np.eye(len(at))[place]
        rise = _loss(at + moved, problem, 0.1)[0] - _loss(at - moved, problem, 0.1)[0]
        assert slope == pytest.approx(rise / (2 * step), abs=2e-3)


scores = hnp.arrays(
    np.float32, (3, 7), elements=st.one_of(st.floats(-100, 100, width=32), st.just(float("nan")))
)


@given(scores)
def test_features_keep_the_order_and_rank_silence_last(given_scores):
    features = comparable(given_scores)
    assert features.shape == (3, 7, len(FEATURES))
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(standing_of(given_scores), features[..., 0])
    for row, made in zip(given_scores, features, strict=True):
        known = ~np.isnan(row)
        for a in np.flatnonzero(known):
            for b in np.flatnonzero(known):
                if row[a] > row[b]:
                    assert (made[a] >= made[b] - 1e-5).all()
            for b in np.flatnonzero(~known):
                assert (made[a] >= made[b]).all()


@pytest.mark.parametrize("factor", [0.001, 1.0, 1000.0])
def test_features_do_not_depend_on_the_scale(factor):
    raw = np.random.default_rng(0).normal(size=(2, 20)).astype(np.float32)
    np.testing.assert_allclose(comparable(raw * np.float32(factor)), comparable(raw), atol=1e-3)
