"""Equally good and better candidates go live; worse ones do not."""

import json
from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Examples, Queries, Ragged
from zhiyin.evaluation.comparison import Difference
from zhiyin.experiments.refreshing.judging import Decision, decide, judge_candidate
from zhiyin.experiments.refreshing.settings import JudgingConfig
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe

N_ITEMS = 40
ENOUGH = JudgingConfig(fewest_events=100)


@pytest.fixture(scope="module")
def good(bundle):
    return load_bundle(bundle)


@pytest.fixture(scope="module")
def bad(good):
    """Knows what is popular, and nothing else."""
    pipeline = Pipeline(recipe("popular"))
    dataset = Dataset("circle", good.catalogue, good.users, good.histories)
    pipeline.fit(TrainingData(dataset, pipeline.language))
    return pipeline


@pytest.fixture(scope="module")
def asked(good):
    """What comes next in the circle, for everybody."""
    histories = good.histories
    targets = (histories.item_index[histories.offsets[1:] - 1] + 1) % N_ITEMS
    n = len(histories)
    queries = Queries(np.arange(n, dtype=np.int32), histories, np.full(n, 1_700_000_000, dtype=np.int64))
    return Examples(queries, Ragged(np.arange(n + 1, dtype=np.int64), targets.astype(np.int32)))


@pytest.fixture(scope="module")
def train(good):
    return Dataset("circle", good.catalogue, good.users, good.histories)


def test_a_pipeline_is_not_worse_than_itself(good, asked, train):
    verdict = judge_candidate(good, good, asked, train, ENOUGH)
    assert verdict.decision is Decision.LIVE
    assert verdict.facts()["ndcg_at_10"]["difference"] == 0.0


def test_a_worse_one_is_refused_with_the_figures(good, bad, asked, train):
    verdict = judge_candidate(bad, good, asked, train, ENOUGH)
    assert verdict.decision is Decision.REFUSED
    assert "surely worse" in verdict.reason
    assert f"{verdict.difference[0].second:.4f} in use" in verdict.reason


def test_a_better_one_goes_live(good, bad, asked, train):
    verdict = judge_candidate(good, bad, asked, train, ENOUGH)
    assert verdict.decision is Decision.LIVE
    assert verdict.reason.startswith("surely better")


def test_too_few_events_decide_nothing(good, bad, asked, train):
    verdict = judge_candidate(bad, good, asked.take(np.arange(99)), train)
    assert verdict.decision is Decision.UNDECIDED
    assert "waiting for more" in verdict.reason


def difference(value: float, half: float, second: float = 0.1) -> Difference:
    return Difference("ndcg_at_10", second + value, second, value, value - half, value + half, 0.5)


@pytest.mark.parametrize(
    ("value", "half", "decision"),
    [
        (-0.002, 0.010, Decision.LIVE),  # chance, and little
        (-0.006, 0.010, Decision.REFUSED),  # 6 % worse, though it may be chance
        (-0.001, 0.0005, Decision.REFUSED),  # little, but no chance
        (0.000, 0.010, Decision.LIVE),
        (0.010, 0.002, Decision.LIVE),
    ],
)
def test_the_rule(value, half, decision):
    assert decide(difference(value, half), JudgingConfig())[0] is decision


def test_how_often_equal_pipelines_are_refused_and_worse_ones_pass():
    """Simulated: NDCG of single events, 1,000 of them, two rankings that hit 15 % of the time at random."""
    random = np.random.default_rng(0)
    refused = {0.0: 0, -0.3: 0}
    for loss in refused:
        for _ in range(200):
            hits = random.random(1_000) < 0.15
            both = random.random(1_000) < 0.9  # nine of ten events the two rank alike
            other = np.where(both, hits, random.random(1_000) < 0.15) & (random.random(1_000) < 1.0 + loss)
            delta = other.astype(float) - hits
            error = delta.std() / 1_000**0.5
            one = difference(float(delta.mean()), 1.96 * float(error), float(hits.mean()))
            refused[loss] += decide(one, JudgingConfig())[0] is Decision.REFUSED
    assert refused[-0.3] >= 198
    assert refused[0.0] <= 30, "seldom, and the next round has more events"


def test_a_candidate_that_forgets_an_item_still_judges(good, asked, train):
    poorer = load_bundle_copy(good)
    poorer.remove_items(np.array([3], dtype=np.int32))
    verdict = judge_candidate(poorer, good, asked, train, ENOUGH)
    assert verdict.n_events == len(asked)


def load_bundle_copy(pipeline: Pipeline) -> Pipeline:
    twin = copy(pipeline)
    twin.removed = pipeline.removed.copy()
    return twin


def test_verdicts_are_plain_values(good, asked, train):
    verdict = judge_candidate(good, good, asked, train, JudgingConfig(fewest_events=10))
    assert json.loads(json.dumps(verdict.facts())) == verdict.facts()
    assert replace(verdict, reason="other").facts()["reason"] == "other"
