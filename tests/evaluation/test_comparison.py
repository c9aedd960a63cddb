"""Two recommenders on the same queries."""

import math

import numpy as np
import pytest

from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.comparison import compare


def test_a_recommender_is_no_better_than_itself(judged):
    once, again = judged.random(seed=1), judged.random(seed=1)
    for difference in compare(once, again):
        if math.isnan(difference.value):
            continue
        assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)
        assert not difference.is_certain


def test_a_clearly_better_recommender_is_found_better_whichever_comes_first(judged):
    good, bad = judged.random(seed=1, skill=3.0), judged.random(seed=2, skill=0.5)
    (forward,) = compare(good, bad, ["ndcg_at_10"])
    (backward,) = compare(bad, good, ["ndcg_at_10"])
    assert forward.value == pytest.approx(good.mean("ndcg_at_10") - bad.mean("ndcg_at_10"), abs=1e-6)
    assert 0 < forward.low < forward.value < forward.high
    assert forward.is_certain
    assert backward.is_certain
    assert forward.p_value < 0.01
    assert backward.value == pytest.approx(-forward.value)


def test_p_values_of_equal_recommenders_are_spread_evenly(judged):
    """Forty pairs without a true difference: about one in five below .2, and hardly any below .01."""
    p_values = []
    for seed in range(0, 80, 2):
        first, second = (judged.random(n_queries=150, seed=1000 + s) for s in (seed, seed + 1))
        p_values.append(compare(first, second, ["mrr_at_10"])[0].p_value)
    assert 0.05 <= np.mean(np.array(p_values) < 0.2) <= 0.4
    assert np.mean(np.array(p_values) < 0.01) <= 0.1
    assert 0.35 < np.mean(p_values) < 0.65


def test_pairing_narrows_the_interval(judged):
    """Two recommenders that agree on most queries differ more surely than their own intervals say."""
    first = judged.random(seed=1)
    changed = dict(first.values)
    changed["recall_at_10"] = first.values["recall_at_10"].copy()
    changed["recall_at_10"][:5] = 1 - changed["recall_at_10"][:5]
    second = judged.random(seed=1)
    object.__setattr__(second, "values", changed)
    (difference,) = compare(first, second, ["recall_at_10"])
    own = first.interval("recall_at_10")
    assert difference.high - difference.low < (own.high - own.low) / 2


def test_different_queries_are_refused(judged):
    with pytest.raises(RequestError, match="did not judge the same queries"):
        compare(judged.random(n_queries=30), judged.random(n_queries=31))


def test_metrics_of_all_slates_cannot_be_paired(judged):
    evaluation = judged.random(n_queries=30)
    with pytest.raises(RequestError, match="'coverage_at_5' was not measured for every query"):
        compare(evaluation, evaluation, ["coverage_at_5"])
    assert "coverage_at_5" not in [difference.metric for difference in compare(evaluation, evaluation)]
