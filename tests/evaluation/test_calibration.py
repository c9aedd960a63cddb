"""Calibration of chances that were made up, so that everything about them is known."""

import math

import numpy as np
import pytest

from zhiyin.contracts import CHANCE, best_of
from zhiyin.domain import Candidates
from zhiyin.evaluation.calibration import Calibration, bins_of, calibration_error
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.evaluation import RunRecord
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.evaluation.reliability import reliability, reliability_chart
from zhiyin.evaluation.report_words import CHINESE, ENGLISH


@pytest.mark.parametrize(("exaggeration", "error"), [(1.0, 0.0), (2.0, 0.15), (0.5, 0.075)])
def test_the_error_is_what_was_told_too_much_or_too_little(exaggeration, error):
    """True chances are even between 0 and .3, so what is told lies .15 · |factor - 1| away on average."""
    random = np.random.default_rng(0)
    true = 0.3 * random.random(200_000)
    is_hit = random.random(200_000) < true
    told = (exaggeration * true).astype(np.float32)
    assert calibration_error(told, is_hit) == pytest.approx(error, abs=0.004)


def test_bins_are_equally_full_and_hold_their_shares_in_order():
    random = np.random.default_rng(1)
    true = random.random(3000).astype(np.float32) ** 3
    bins = bins_of(true, random.random(3000) < true, 10)
    assert [part.n for part in bins] == [300] * 10
    assert [part.chance for part in bins] == sorted(part.chance for part in bins)
    assert all(part.low <= part.share <= part.high for part in bins)
    assert sum(part.low <= part.chance <= part.high for part in bins) >= 8


def test_fewer_chances_than_bins():
    assert [part.n for part in bins_of(np.array([0.5, 0.1], np.float32), np.array([True, False]))] == [1, 1]
    assert math.isnan(calibration_error(np.empty(0, np.float32), np.empty(0, bool)))


def test_two_slates_by_hand():
    """The first holds what came next on its second place, the second, which has one place, does not."""
    chances = np.array([[0.5, 0.25], [0.2, np.nan]], dtype=np.float32)
    item_index = np.array([[4, 7], [4, -1]], dtype=np.int32)
    told = Calibration.of(chances, item_index, np.array([7, 9], dtype=np.int32))
    assert told is not None
    assert told.log_loss == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 2)
    assert told.log_loss_of_frequencies == pytest.approx(-math.log(0.5))
    assert told.expected_hits == pytest.approx((0.75 + 0.2) / 2)
    assert told.hits == 0.5
    assert told.error_at_first == pytest.approx((0.5 + 0.2) / 2)
    assert told.error == pytest.approx((0.2 + 0.75 + 0.5) / 3)


class Telling:
    """Every item has the same chance, or none is told."""

    def __init__(self, chance):
        self.chance = chance

    def recommend(self, queries, n):
        scores = np.tile(np.arange(6, dtype=np.float32), (len(queries), 1))
        slates = best_of(scores, n, column="score")
        if self.chance is None:
            return slates
        return slates.with_column(CHANCE, np.full(slates.item_index.shape, self.chance, dtype=np.float32))


def test_an_evaluation_writes_it_down_where_chances_are_told(judged):
    examples = judged.examples([[], [], [], []], [[5, 0], [1], [2], [3]])
    settings = EvaluationSettings(at=(2,), chunk_size=3)
    facts = judged.facts(np.ones(6))
    told = evaluate(Telling(0.25), examples, facts=facts, settings=settings)
    recorded = told.record(RunRecord("d", "r"))["calibration"]
    # Of the first places a quarter are hits, of the second none; only the first of two targets comes next.
    assert recorded["at"] == 2
    assert recorded["hits"] == 0.25
    assert recorded["expected_hits"] == pytest.approx(0.5)
    assert sum(part["n"] for part in recorded["places"]) == 8
    silent = evaluate(Telling(None), examples, facts=facts, settings=settings)
    assert silent.record(RunRecord("d", "r"))["calibration"] is None


def test_slates_without_places_have_no_calibration():
    nothing = Candidates(np.full((2, 3), -1, np.int32)).item_index
    assert Calibration.of(np.full((2, 3), np.nan, np.float32), nothing, np.zeros(2, np.int32)) is None


def test_honest_bins_are_drawn_on_the_diagonal():
    bins = bins_of(np.repeat(np.float32([0.001, 0.1]), 1000), np.tile(np.arange(1000) % 10 == 0, 2), 2)
    page = reliability_chart(bins, x_name="told", y_name="happened")
    assert page.count('class="dot"') == 2
    second = page.split('<circle class="dot"')[2]
    x, y = (float(second.split(f'{axis}="')[1].split('"')[0]) for axis in ("cx", "cy"))
    honest = page.split('<line class="honest"')[1]
    x1, y1, x2, y2 = (float(honest.split(f'{end}="')[1].split('"')[0]) for end in ("x1", "y1", "x2", "y2"))
    assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1), abs=0.2)


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_the_section_says_the_figures(words):
    chances = np.array([[0.5, 0.25], [0.2, np.nan]], dtype=np.float32)
    told = Calibration.of(chances, np.array([[4, 7], [4, -1]], np.int32), np.array([7, 9], np.int32))
    page = reliability(told, words)
    for expected in (words["first_place"], words["log_loss"], "0.8047", "0.4750", "0.5000"):
        assert expected in page
