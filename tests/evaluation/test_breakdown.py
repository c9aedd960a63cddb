"""The same metric on parts of the queries, every part known by hand."""

import math

import numpy as np
import pytest

from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.breakdown import (
    by_cold_items,
    by_history_length,
    by_item_popularity,
    source_shares,
)

SCORES = [[9, 8, 7, 6, 5, 4]] * 4


@pytest.fixture
def evaluation(judged):
    """Masked slates [0 1], [1 2], [2 3], [3 4]; hits in the first, second and fourth; item 4 is cold."""
    return judged.evaluation(
        SCORES, [[], [0], [0, 1], [0, 1, 2]], [[0], [2], [5], [4]], counts=[9, 5, 4, 1, 0, 1]
    )


def told(breakdown):
    return {group.label: (group.n_queries, group.value) for group in breakdown.groups if group.n_queries}


def test_by_history_length(evaluation):
    breakdown = by_history_length(evaluation, "recall_at_2", edges=(0, 1, 3))
    assert [group.label for group in breakdown.groups] == ["0", "1–2", "3+"]
    assert told(breakdown) == {"0": (1, 1.0), "1–2": (2, 0.5), "3+": (1, 0.0)}, "the cold hit is a miss here"


def test_by_item_popularity(evaluation):
    breakdown = by_item_popularity(evaluation, "recall_at_2", edges=(0, 1, 5))
    assert told(breakdown) == {"0": (1, 1.0), "1–4": (2, 0.5), "5+": (1, 1.0)}


def test_cold_against_warm_shows_the_true_hit_rate(evaluation):
    breakdown = by_cold_items(evaluation, "hit_rate_at_2")
    assert told(breakdown) == {"cold": (1, 1.0), "warm": (3, pytest.approx(2 / 3))}
    assert evaluation.mean("hit_rate_at_2") == 0.5


def test_empty_groups_say_nothing(evaluation):
    breakdown = by_history_length(evaluation, "ndcg_at_2", edges=(0, 50, 60))
    assert [group.n_queries for group in breakdown.groups] == [4, 0, 0]
    for group in breakdown.groups[1:]:
        assert all(math.isnan(number) for number in (group.value, group.low, group.high))


def test_histories_before_the_first_edge_are_left_out(evaluation):
    assert told(by_history_length(evaluation, "recall_at_2", edges=(2, 3))) == {"2": (1, 0.0), "3+": (1, 0.0)}


def test_several_targets_count_each_in_its_own_group(judged):
    """Two targets, one cold and missed, one warm and hit."""
    evaluation = judged.evaluation(SCORES[:1], [[]], [[0, 5]], counts=[1, 1, 1, 1, 1, 0])
    assert told(by_cold_items(evaluation, "recall_at_2")) == {"cold": (1, 0.0), "warm": (1, 1.0)}


def test_a_target_outside_the_catalogue_is_cold(judged):
    evaluation = judged.evaluation(SCORES[:1], [[]], [[70]])
    assert told(by_item_popularity(evaluation, "recall_at_2")) == {"0": (1, 0.0)}


def test_groups_of_a_random_world_add_up_to_the_whole(judged):
    evaluation = judged.random()
    for breakdown in (
        by_history_length(evaluation, "ndcg_at_10"),
        by_item_popularity(evaluation, "ndcg_at_10"),
        by_cold_items(evaluation, "ndcg_at_10"),
    ):
        groups = [group for group in breakdown.groups if group.n_queries]
        assert sum(group.n_queries for group in groups) == len(evaluation)
        mean = sum(group.value * group.n_queries for group in groups) / len(evaluation)
        cold_hits = evaluation.ranked.missing_unless(~evaluation.target_is_seen).rank
        credit = np.where(cold_hits <= 10, 1 / np.log2(1 + cold_hits), 0).sum() / len(evaluation)
        from_headline = 0 if breakdown.by == "history_length" else credit
        assert mean == pytest.approx(evaluation.mean("ndcg_at_10") + from_headline, abs=1e-6)
        assert all(group.low <= group.value <= group.high for group in groups)


def test_metrics_that_are_not_of_targets_have_no_breakdown(evaluation):
    with pytest.raises(RequestError, match="There is no breakdown of the metric 'novelty_at_2'"):
        by_item_popularity(evaluation, "novelty_at_2")
    with pytest.raises(RequestError, match="recall_at_2"):
        by_cold_items(evaluation, "recall_at_3")
    with pytest.raises(RequestError, match="coverage_at_2"):
        by_history_length(evaluation, "coverage_at_2")
    assert by_history_length(evaluation, "novelty_at_2").groups[0].n_queries == 1


def test_source_shares(evaluation):
    """The column ``even`` speaks of items 0, 2, 4 alone: half of all places and all three hits."""
    even, everything = source_shares(evaluation, 2)
    assert (even.source, everything.source) == ("even", "all")
    assert (even.of_places, even.of_hits, even.of_hits_alone) == (0.5, 1.0, 0.0)
    assert (everything.of_places, everything.of_hits, everything.of_hits_alone) == (1.0, 1.0, 0.0)
    (only,) = source_shares(evaluation, 2, ["even"])
    assert only.of_hits_alone == 1.0


def test_source_shares_without_hits_or_sources(judged):
    missed = judged.evaluation(SCORES[:1], [[]], [[5]])
    assert all(math.isnan(share.of_hits) for share in source_shares(missed, 2))
    assert source_shares(missed, 2, []) == ()
