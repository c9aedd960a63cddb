"""How much is listened to a model whose worth is known, and what it reads of queries."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Queries, Vocabulary
from zhiyin.pipeline.listening import Answers, band_names, band_of, bands, fitted_weight, standardised
from zhiyin.pipeline.moments import moments_of, people_of
from zhiyin.pipeline.pace import Pace


def drawn(n, *, slope, voice, scale=1.0, seed=0):
    """Answers by people who choose by ``softmax(slope × score + voice × opinion)``."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(n, 15))
    judged = standardised(random.normal(size=(n, 15)).astype(np.float32))
    target = (slope * scores + voice * judged + random.gumbel(size=scores.shape)).argmax(axis=1)
    scores = (scale * scores).astype(np.float32)
    scores[:, -1] = np.where(target == 14, scores[:, -1], np.nan)  # Some rows end in padding.
    return Answers(scores, np.where(np.isnan(scores), np.nan, 7 + 3 * judged).astype(np.float32), target)


@pytest.mark.parametrize("scale", [1.0, 0.001, 400.0])
def test_the_weight_is_what_people_were_drawn_by_in_the_unit_of_the_scores(scale):
    weight = fitted_weight(drawn(2500, slope=1.5, voice=0.9, scale=scale), seed=0)
    assert weight == pytest.approx(scale * 0.9 / 1.5, rel=0.15)


def test_nobody_listens_to_chance():
    weights = [fitted_weight(drawn(120, slope=1.0, voice=0.0, seed=seed), seed=seed) for seed in range(40)]
    assert np.count_nonzero(weights) <= 4


def test_nobody_listens_to_one_who_says_the_opposite_or_nothing():
    assert fitted_weight(drawn(400, slope=1.0, voice=-1.0), seed=0) == 0
    silent = drawn(400, slope=1.0, voice=1.0)
    silent = Answers(
        silent.scores, np.where(np.isnan(silent.scores), np.nan, 3).astype(np.float32), silent.target
    )
    assert fitted_weight(silent, seed=0) == 0


def test_a_handful_of_examples_says_nothing():
    assert fitted_weight(drawn(19, slope=1.0, voice=5.0), seed=0) == 0
    assert fitted_weight(drawn(0, slope=1.0, voice=5.0), seed=0) == 0


def test_where_the_scores_say_nothing_the_weight_stays_a_number():
    answers = drawn(300, slope=0.0, voice=2.0)
    assert 2 < fitted_weight(answers, seed=0) < 20
    flat = np.where(np.isnan(answers.scores), np.nan, 1.0).astype(np.float32)
    assert 0 < fitted_weight(Answers(flat, answers.judged, answers.target), seed=0) < 20


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 6)),
        elements=st.floats(-1000, 1000, width=32) | st.just(float("nan")),
    )
)
def test_opinions_are_standardised_over_what_was_judged(judged):
    found = standardised(judged)
    assert (np.isnan(found) == np.isnan(judged)).all()
    for row, told in zip(judged, found, strict=True):
        known = told[~np.isnan(told)].astype(np.float64)
        if len(known):
            assert abs(known.mean()) < 1e-4
            assert np.isclose(known.std(), 1, atol=1e-3) or not known.any()
            order = np.argsort(row[~np.isnan(row)], kind="stable")
            assert (np.diff(known[order]) >= 0).all()


@pytest.mark.parametrize(
    ("most_known", "names"),
    [
        (10, ("0", "1-3", "4-10")),
        (0, ("0",)),
        (2, ("0", "1-2")),
        (3, ("0", "1-3")),
        (50, ("0", "1-3", "4-10", "11-50")),
    ],
)
def test_every_length_has_its_band(most_known, names):
    longest = bands(most_known)
    assert band_names(longest) == names
    for length in range(most_known + 3):
        band = int(band_of(np.array([length]), longest)[0])
        if length > most_known:
            assert band == len(names)
        else:
            low, high = (names[band].split("-") * 2)[:2]
            assert int(low) <= length <= int(high)


def test_the_pace_is_a_mean_that_follows_and_hopes():
    pace = Pace()
    pace.measure(10, 0.100)
    assert pace.ms_per_text == pytest.approx(10)
    for _ in range(60):
        pace.measure(5, 0.010)
    assert pace.ms_per_text == pytest.approx(2, rel=0.05)
    assert pace.affordable(np.array([3, 5, 9, 9, 40]), 2 * 9.5) == 4
    before = pace.ms_per_text
    pace.measure(0, 1.0)
    assert pace.ms_per_text == before, "nothing was read"
    pace.hope()
    assert pace.ms_per_text < before


def test_what_nobody_says_is_null_and_users_are_found_by_their_place():
    users = Vocabulary(["ann", "ben", "cem"])
    table = pl.DataFrame({"user_id": ["cem", "ann"], "age": [30, 40], "name": ["C", "A"]})
    items = Catalogue.from_table(pl.DataFrame({"item_id": ["i0", "i1"]}))
    histories = Histories.of_items([np.array([0])] * 3)
    data = Dataset("few", items, users, histories, user_table=table)
    columns = ("age", "device", "hour", "shop")
    people = people_of(data, columns)
    assert people.to_dict(as_series=False) == {"age": [40, None, 30]}
    asked = Queries(
        np.array([2, -1, 0, 7], dtype=np.int32),
        Histories.of_items([np.array([0]), np.array([], dtype=np.int32), np.array([1, 0]), np.array([1])]),
        np.array([3600, NO_TIMESTAMP, 7200, 0]),
        {"device": np.array(["phone", None, "desk", None], dtype=object)},
    )
    rows = moments_of(asked, columns, people)
    assert rows.context["age"].to_list() == [30, None, 40, None]
    assert rows.context["device"].to_list() == ["phone", None, "desk", None]
    assert rows.context["shop"].to_list() == [None] * 4
    assert "hour" not in rows.context.columns, "it is read off the timestamp"
    assert rows.histories().lengths.tolist() == [1, 0, 2, 1]
    assert rows.histories(1).item_index.tolist() == [0, 0, 1]
    without = Queries(asked.user_index, asked.histories, np.full(4, NO_TIMESTAMP))
    assert moments_of(without, columns, people).context["hour"].to_list() == [None] * 4
