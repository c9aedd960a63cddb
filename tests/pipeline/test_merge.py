"""The merge, on opinions whose worth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zhiyin.domain import Candidates
from zhiyin.pipeline.features import FEATURES, comparable, standing_of
from zhiyin.pipeline.fitting import LEAST_WEIGHT, MergeProblem, climb, fit_likelihood
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


def quality(scores: np.ndarray, targets: np.ndarray) -> float:
    place = np.take_along_axis(scores, targets[:, None].astype(int), axis=1)
    rank = (scores > place).sum(axis=1) + 1
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean())


def test_the_source_that_knows_gets_the_weight():
    candidates, targets = opinions()
    merge = Merge(["knowing", "noise", "sparse"])
    n_used = merge.fit(candidates, targets, penalty=1e-3)
    assert n_used == N_QUERIES
    # Standing alone: a good quality leaves the weights of the places of noise to the last digit of rounding.
    assert merge.weights[0, 0] > 3 * merge.weights[1, 0]
    unseen, answers = opinions(7)
    merged, knowing = quality(merge.apply(unseen).column("score"), answers), unseen.column("knowing")
    assert merged > 0.95 * quality(knowing, answers)
    assert merged > 2 * quality(unseen.column("noise"), answers)


def test_fitting_is_never_worse_than_the_best_source_alone():
    candidates, targets = opinions(1)
    merge = Merge(["knowing", "noise"])
    merge.fit(candidates, targets, penalty=1e-3)
    merged = merge.apply(candidates).column("score")
    assert quality(merged, targets) >= quality(candidates.column("knowing"), targets)


def test_a_fallback_source_only_orders_what_others_are_silent_on():
    item_index = np.array([[0, 1, 2, 3]], dtype=np.int32)
    nan = np.nan
    columns = {
        "voice": np.array([[nan, 2.0, 1.0, nan]], dtype=np.float32),
        "popular": np.array([[9.0, 0.0, 50.0, 10.0]], dtype=np.float32),
    }
    merged = Merge(["voice", "popular"], fallback=["popular"]).apply(Candidates(item_index, columns))
    assert merged.top(4, by="score").item_index.tolist() == [[1, 2, 3, 0]]


def test_examples_without_the_target_teach_nothing():
    candidates, targets = opinions()
    before = Merge(["knowing", "noise"])
    assert before.fit(candidates, np.full_like(targets, 999), penalty=1e-3) == 0
    assert (before.weights == 1.0).all()


def test_weights_survive_their_state():
    candidates, targets = opinions()
    merge, restored = Merge(["knowing", "noise"]), Merge(["other"])
    merge.fit(candidates, targets, penalty=1e-3)
    restored.restore(merge.state())
    np.testing.assert_array_equal(
        merge.apply(candidates).column("score"), restored.apply(candidates).column("score")
    )


def test_likelihood_finds_the_weights_that_made_the_choices():
    random = np.random.default_rng(3)
    features = random.normal(size=(4000, 8, 2)).astype(np.float32)
    true = np.array([1.5, 0.5])
    gumbel = random.gumbel(size=(4000, 8))
    target = (features @ true + gumbel).argmax(axis=1)
    problem = MergeProblem(features, np.zeros((4000, 8), dtype=bool), target)
    np.testing.assert_allclose(fit_likelihood(problem, penalty=0.0), true, atol=0.12)


def test_climbing_never_falls_below_its_best_start():
    candidates, targets = opinions(2)
    features = np.concatenate([comparable(column) for column in candidates.columns.values()], axis=-1)
    problem = MergeProblem(features, ~candidates.is_item, targets.astype(np.int64))
    starts = [np.full(9, 0.3), np.eye(9)[0] + LEAST_WEIGHT]
    best = climb(problem, starts)
    reached = problem.ndcg(problem.scores(best))
    assert reached >= max(problem.ndcg(problem.scores(start)) for start in starts)
    assert (best >= LEAST_WEIGHT).all()


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
