"""Chances, in worlds where the true ones are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import approx_fprime

from zhiyin.contracts import CHANCE, SCORE, TrainingData
from zhiyin.data.splits import Split
from zhiyin.domain import Candidates, Histories, Queries, Wishes
from zhiyin.evaluation.calibration import calibration_error
from zhiyin.pipeline.bundle import load_bundle, save_bundle
from zhiyin.pipeline.chances import Chances, _Answers, scores_unseen
from zhiyin.pipeline.circumstances import Circumstances
from zhiyin.pipeline.merge import Merge
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe

TRUE = Chances(bends=(0.0, 3.0), slopes=(0.9, 0.5, 0.5), elsewhere=2.0)


def choices(scores: np.ndarray, true: Chances, seed: int) -> np.ndarray:
    """Draw what comes next: (B, N) bool, a row without any came from elsewhere."""
    random = np.random.default_rng(seed)
    chances = true.of(candidates_of(scores)).astype(np.float64)
    borders = np.cumsum(np.nan_to_num(chances), axis=1)
    place = (borders < random.random((len(scores), 1))).sum(axis=1)
    return (np.arange(scores.shape[1]) == place[:, None]) & ~np.isnan(scores)


def candidates_of(scores: np.ndarray) -> Candidates:
    item_index = np.where(np.isnan(scores), -1, np.arange(scores.shape[1])).astype(np.int32)
    return Candidates(item_index, {SCORE: scores})


def drawn_scores(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    scores = (2 * random.normal(size=(n, 25))).astype(np.float32)
    scores[random.random(scores.shape) < 0.2] = np.nan
    return scores


def test_the_numbers_behind_the_choices_are_found():
    scores = drawn_scores(20_000, 0)
    fitted = Chances.fitted(scores, ~np.isnan(scores), choices(scores, TRUE, 1))
    assert fitted is not None
    at = np.linspace(-3, 4, 8, dtype=np.float32)[None]
    true, found = (np.log(told.of(candidates_of(at))) for told in (TRUE, fitted))
    np.testing.assert_allclose(found, true, atol=0.15)


def test_the_gradient_is_that_of_the_loss():
    scores = drawn_scores(50, 3)
    is_item, is_target = ~np.isnan(scores), choices(scores, TRUE, 4)
    answers = _Answers(np.nan_to_num(scores), np.array([-0.5, 1.0]), is_item, is_target)
    at = np.array([0.3, 0.8, 1.2, 2.0])
    numeric = approx_fprime(at, lambda numbers: answers.loss(numbers)[0], 1e-6)
    np.testing.assert_allclose(answers.loss(at)[1], numeric, rtol=1e-4)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_scores_of_any_scale_are_brought_to_true_chances(factor):
    """Chances of unseen queries are right as often as they say, whatever scores are multiplied by."""
    scores, unseen = drawn_scores(8000, 0), drawn_scores(20_000, 5)
    fitted = Chances.fitted(scores * np.float32(factor), ~np.isnan(scores), choices(scores, TRUE, 1))
    assert fitted is not None
    came_next = choices(unseen, TRUE, 2)
    raw = Chances((0.0,), (1.0, 1.0), 0.0).of(candidates_of(unseen * np.float32(factor)))
    best = np.nanargmax(unseen, axis=1)[:, None]
    hit = np.take_along_axis(came_next, best, axis=1)[:, 0]
    told = fitted.of(candidates_of(unseen * np.float32(factor)))
    assert calibration_error(np.take_along_axis(told, best, axis=1)[:, 0], hit) < 0.012
    assert calibration_error(np.take_along_axis(raw, best, axis=1)[:, 0], hit) > 0.05


scores_of_any_size = hnp.arrays(
    np.float32, (4, 9), elements=st.one_of(st.floats(-1e4, 1e4, width=32), st.just(float("nan")))
)


slopes_of_any_size = st.tuples(*[st.floats(0.001, 100)] * 3)


@given(scores_of_any_size, slopes_of_any_size, st.floats(-50, 50))
def test_chances_keep_the_order_and_leave_room_for_what_was_not_proposed(scores, slopes, elsewhere):
    chances = Chances((-1.0, 2.0), slopes, elsewhere).of(candidates_of(scores))
    assert chances.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(chances), np.isnan(scores))
    assert (np.nansum(chances, axis=1) <= 1 + 1e-5).all()
    assert (chances[~np.isnan(chances)] >= 0).all()
    for row, chance in zip(scores, chances, strict=True):
        order = np.argsort(row[~np.isnan(row)])
        assert (np.diff(chance[~np.isnan(row)][order]) >= -1e-7).all()


def test_nothing_is_said_where_too_few_were_proposed():
    scores = drawn_scores(500, 0)
    assert Chances.fitted(scores, ~np.isnan(scores), np.zeros(scores.shape, dtype=bool)) is None
    empty = np.empty((0, 3), dtype=np.float32)
    assert Chances.fitted(empty, ~np.isnan(empty), np.zeros((0, 3), dtype=bool)) is None


def test_weights_fitted_to_noise_do_not_make_chances_bold():
    """With few examples and many sources of noise, weights look good on what they were fitted on.

    Nothing can be known of the target, and all candidates are as probable. Chances that are fitted on scores
    of unseen examples say so.
    """
    random = np.random.default_rng(0)
    n, names = 120, [f"noise{number}" for number in range(8)]
    item_index = np.tile(np.arange(20, dtype=np.int32), (n, 1))
    columns = {name: random.normal(size=item_index.shape).astype(np.float32) for name in names}
    candidates, targets = Candidates(item_index, columns), random.integers(0, 20, n).astype(np.int32)
    merge = Merge(names)
    anywhere = Circumstances(np.full(item_index.shape, 0.5, np.float32), np.full(n, 0.5, np.float32))
    merge.fit(candidates, targets, anywhere, penalty=1e-3)
    is_target = item_index == targets[:, None]
    scores = merge.apply(candidates, anywhere)
    seen = Chances.fitted(scores.column(SCORE), candidates.is_item, is_target)
    unseen = scores_unseen(merge, candidates, targets, anywhere, penalty=1e-3, seed=0)
    honest = Chances.fitted(unseen, candidates.is_item, is_target)
    assert seen is not None
    assert honest is not None
    assert bold(honest.of(scores)) < 0.5 * bold(seen.of(scores))
    assert bold(honest.of(scores)) < 0.15


def bold(chances: np.ndarray) -> float:
    """Mean distance of the highest chance of a query from an even one."""
    return float((chances.max(axis=1) - 1 / chances.shape[1]).mean())


@pytest.fixture(scope="module")
def telling(split: Split) -> Pipeline:
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    assert pipeline.chances is not None
    return pipeline


def test_slates_stand_as_they_would_without_chances(telling: Pipeline, split: Split):
    told = telling.recommend(split.test.queries, 10)
    kept, telling.chances = telling.chances, None
    silent = telling.recommend(split.test.queries, 10)
    telling.chances = kept
    np.testing.assert_array_equal(told.item_index, silent.item_index)
    np.testing.assert_array_equal(told.column(SCORE), silent.column(SCORE))
    assert CHANCE not in silent.columns
    chances = told.column(CHANCE)
    assert (np.diff(chances, axis=1)[told.is_item[:, 1:]] <= 0).all()
    assert (np.nansum(chances, axis=1) < 1).all(), "even where all that came next had been proposed"


def test_a_slate_cut_short_tells_the_same_chances(telling: Pipeline, split: Split):
    long, short = (telling.recommend(split.test.queries, n).column(CHANCE) for n in (10, 3))
    np.testing.assert_allclose(short, long[:, :3], rtol=1e-5)


def test_diversity_and_boosts_move_items_and_not_their_chances(telling: Pipeline, split: Split):
    query = split.test.queries.take(np.arange(1))
    boost = np.random.default_rng(0).normal(size=len(split.train.catalogue)).astype(np.float32)
    plain = told_of(telling.recommend(query, 24))
    for wishes in (Wishes(boost=boost), Wishes(diversity=0.7)):
        moved = told_of(telling.recommend(query, 10, wishes))
        assert moved == pytest.approx({item: plain[item] for item in moved}, rel=1e-4)


def told_of(slate: Candidates) -> dict[int, float]:
    items = slate.item_index[0][slate.is_item[0]].tolist()
    return dict(zip(items, slate.column(CHANCE)[0][slate.is_item[0]].tolist(), strict=True))


def test_where_chances_were_not_fitted_none_are_told(telling: Pipeline, split: Split):
    query = split.test.queries.take(np.arange(1))
    allowed = np.ones(len(split.train.catalogue), dtype=np.bool_)
    for wishes in (Wishes(allowed=allowed), Wishes(repeat=True)):
        assert CHANCE not in telling.recommend(query, 5, wishes).columns
    assert CHANCE not in telling.similar(np.array([0], dtype=np.int32), 5).columns
    assert CHANCE not in telling.only("popularity").recommend(query, 5).columns
    untaught = Pipeline(recipe("fast"))
    untaught.fit(TrainingData(split.train, untaught.language, None))
    assert CHANCE not in untaught.recommend(query, 5).columns


def test_a_bundle_keeps_the_chances_and_one_of_before_answers_without(
    telling: Pipeline, split: Split, tmp_path
):
    again = load_bundle(save_bundle(telling, tmp_path / "bundle"))
    assert again.chances == telling.chances
    explained = again.explain(split.test.queries, again.recommend(split.test.queries, 3))
    assert all(place.chance is not None and 0 <= place.chance <= 1 for slate in explained for place in slate)
    kept, telling.chances = telling.chances, None
    before = load_bundle(save_bundle(telling, tmp_path / "before"))
    telling.chances = kept
    stranger = Queries.of_histories(Histories.empty(1))
    slate = before.recommend(stranger, 3)
    assert before.chances is None
    assert all(place.chance is None for place in before.explain(stranger, slate)[0])
