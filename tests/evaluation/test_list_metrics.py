"""What slates are like: against plain loops, and against answers known by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zhiyin.domain import PAD, Ragged
from zhiyin.evaluation.list_metrics import (
    average_popularity,
    coverage,
    diversity_of_categories,
    diversity_of_vectors,
    exposure,
    gini,
    novelty,
    resampled_exposure,
)

N_ITEMS = 6


@st.composite
def slates(draw):
    rows = draw(st.integers(1, 5))
    width = draw(st.integers(1, 5))
    table = np.full((rows, width), PAD, dtype=np.int32)
    for b in range(rows):
        items = draw(st.permutations(range(N_ITEMS)))[: draw(st.integers(0, width))]
        table[b, : len(items)] = items
    return table


def mean_over_pairs(row, distance):
    pairs = [distance(a, b) for a, b in combinations([i for i in row if i != PAD], 2)]
    known = [value for value in pairs if value is not None]
    return np.mean(known) if known else math.nan


@settings(max_examples=60, deadline=None)
@given(slates(), hnp.arrays(np.float32, (N_ITEMS, 3), elements=st.integers(-3, 3)))
def test_diversity_of_vectors_equals_the_mean_over_pairs(slate, vectors):
    def distance(a, b):
        lengths = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return 1 - (vectors[a] @ vectors[b] / lengths if lengths else 0.0)

    expected = [mean_over_pairs(row, distance) for row in slate]
    np.testing.assert_allclose(diversity_of_vectors(slate, vectors), expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(slates(), st.lists(st.sets(st.integers(0, 3)), min_size=N_ITEMS, max_size=N_ITEMS))
def test_diversity_of_categories_equals_the_mean_jaccard_distance(slate, categories):
    def distance(a, b):
        either = categories[a] | categories[b]
        return 1 - len(categories[a] & categories[b]) / len(either) if either else None

    rows = Ragged.from_rows([np.array(sorted(c)) for c in categories], np.int32)
    expected = [mean_over_pairs(row, distance) for row in slate]
    np.testing.assert_allclose(diversity_of_categories(slate, rows), expected, atol=1e-6)


def test_places_beyond_the_catalogue_cost_nothing():
    """A cut far above the number of items pads slates with millions of pairs that hold nothing."""
    slate = np.array([[0, 1, 2], [2, 0, PAD]], dtype=np.int32)
    padded = np.pad(slate, ((0, 0), (0, 20_000)), constant_values=PAD)
    rows = Ragged.from_rows([np.array(one) for one in ([0], [0, 1], [2])], np.int32)
    found = diversity_of_categories(padded, rows)
    np.testing.assert_allclose(found, [(1 / 2 + 1 + 1) / 3, 1.0])


def test_novelty_is_the_mean_self_information_in_bits():
    counts = np.array([3, 0], dtype=np.int64)  # p = 4/5 and 1/5
    slate = np.array([[0, PAD], [1, PAD], [0, 1], [PAD, PAD]], dtype=np.int32)
    common, rare = -math.log2(0.8), -math.log2(0.2)
    np.testing.assert_allclose(novelty(slate, counts), [common, rare, (common + rare) / 2, math.nan])


def test_average_popularity_is_the_mean_count_of_what_is_shown():
    slate = np.array([[0, 1], [1, PAD]], dtype=np.int32)
    assert average_popularity(slate, np.array([10, 2])).tolist() == [6.0, 2.0]


def test_coverage_counts_items_shown_at_least_once():
    shown = exposure(np.array([[0, 1], [1, PAD]], dtype=np.int32), 4)
    assert shown.tolist() == [1, 2, 0, 0]
    assert coverage(shown[None]).tolist() == [0.5]
    assert np.isnan(coverage(np.zeros((1, 0)))).all()


@settings(max_examples=30, deadline=None)
@given(slates(), st.integers(0, 99))
def test_resampled_exposure_is_the_exposure_of_the_drawn_slates(slate, seed):
    drawn = np.random.default_rng(seed).integers(len(slate), size=len(slate))
    weights = np.bincount(drawn, minlength=len(slate)).astype(np.float32)[None]
    np.testing.assert_array_equal(
        resampled_exposure(slate, N_ITEMS, weights)[0], exposure(slate[drawn], N_ITEMS)
    )


@pytest.mark.parametrize(
    ("shown", "expected"), [([3, 3, 3, 3], 0.0), ([0, 0, 0, 8], 0.75), ([1, 3], 0.25), ([0, 0], math.nan)]
)
def test_gini_of_known_shares(shown, expected):
    assert gini(np.array([shown], dtype=float))[0] == pytest.approx(expected, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.integers(0, 20)))
def test_gini_is_half_the_relative_mean_absolute_difference(shown):
    if not shown.sum():
        return
    differences = np.abs(shown[:, None] - shown).mean()
    assert gini(shown[None])[0] == pytest.approx(differences / (2 * shown.mean()))
