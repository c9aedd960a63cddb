"""Figures of predicted labels against slow references, and intervals in worlds whose truth is known."""

import dataclasses
import json
import math
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import Histories
from zhiyin.domain.errors import DataError, RequestError, ShapeMismatch, TrainingError
from zhiyin.evaluation.labels import sums
from zhiyin.evaluation.labels.chances import judge_chances, threshold_of_best_f1
from zhiyin.evaluation.labels.figures import label_differences, label_differences_by_history
from zhiyin.evaluation.labels.pictures import chance_picture, value_picture
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.evaluation.labels.rankings import judge_rankings
from zhiyin.evaluation.labels.sums import Addend, Resampling, resampled_sums
from zhiyin.evaluation.labels.values import judge_values


def predicted(labels, predictions, users=None, known=None, groups=None):
    labels = np.asarray(labels, dtype=np.float32)
    users = np.arange(len(labels)) if users is None else np.asarray(users)
    known = np.zeros(len(labels), dtype=np.int64) if known is None else np.asarray(known)
    groups = None if groups is None else np.asarray(groups)
    return PredictedLabels("click", labels, np.asarray(predictions, dtype=np.float64), users, known, groups)


def world(seed, n_users=60, n_rows=1_500, steps=20):
    """Clicks that follow a chance; what is told is another, in a few steps, so that there are many ties."""
    rng = np.random.default_rng(seed)
    users = rng.integers(n_users, size=n_rows)
    taste = rng.normal(size=n_users)[users] - 0.7
    chance = 1 / (1 + np.exp(-taste - rng.normal(size=n_rows)))
    told = np.clip(np.round((chance + rng.normal(scale=0.2, size=n_rows)) * steps) / steps, 0.0, 1.0)
    known = rng.integers(0, 80, size=n_rows)
    return predicted(rng.random(n_rows) < chance, told, users, known, users)


def slow_auc(labels, told):
    yes, no = told[labels > 0], told[labels == 0]
    if not len(yes) or not len(no):
        return math.nan
    beats = yes[:, None] > no[None, :]
    ties = yes[:, None] == no[None, :]
    return float((beats + 0.5 * ties).mean())


def value_of(figures):
    return {name: interval.value for name, interval in figures.figures.items()}


# --- against references ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_chances_equal_scikit_learn(threshold):
    metrics = pytest.importorskip("sklearn.metrics")
    rows = world(1)
    labels, told = rows.labels, rows.predictions
    found = value_of(judge_chances(rows, threshold=threshold, n_resamples=2))
    said = told >= threshold
    expected = {
        "roc_auc": metrics.roc_auc_score(labels, told),
        "average_precision": metrics.average_precision_score(labels, told),
        "log_loss": metrics.log_loss(labels, np.clip(told, 1e-7, 1 - 1e-7)),
        "brier": metrics.brier_score_loss(labels, told),
        "accuracy": metrics.accuracy_score(labels, said),
        "share_of_yes": labels.mean(),
        "mean_chance": told.mean(),
    }
    for answer, label in (("yes", 1), ("no", 0)):
        expected[f"precision_{answer}"] = metrics.precision_score(labels, said, pos_label=label)
        expected[f"recall_{answer}"] = metrics.recall_score(labels, said, pos_label=label)
        expected[f"f1_{answer}"] = metrics.f1_score(labels, said, pos_label=label)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert set(found) == {*expected, "gauc", "calibration_error"}


def test_areas_within_users_equal_the_loop_over_users():
    rows = world(2)
    areas, n_rows = [], []
    for user in np.unique(rows.user_index):
        of_user = rows.user_index == user
        area = slow_auc(rows.labels[of_user], rows.predictions[of_user])
        if not math.isnan(area):
            areas.append(area)
            n_rows.append(of_user.sum())
    found = judge_chances(rows, n_resamples=2).figures["gauc"].value
    assert found == pytest.approx(np.average(areas, weights=n_rows), abs=1e-12)


def test_values_equal_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 6, size=500).astype(np.float32)
    told = labels * 0.4 + rng.normal(size=500) + 1_000
    found = value_of(judge_values(predicted(labels, told), n_resamples=2))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(labels, told))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, told))
    assert found["r_squared"] == pytest.approx(metrics.r2_score(labels.astype(float), told), rel=1e-9)
    assert found["correlation"] == pytest.approx(np.corrcoef(labels, told)[0, 1], abs=1e-9)
    assert found["mean_error"] == pytest.approx((told - labels).mean())


@pytest.mark.parametrize("k", [1, 3, 10])
def test_discounted_gains_with_ties_equal_scikit_learn(k):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(40), 8)
    labels, told = rng.integers(0, 4, size=320), rng.integers(0, 5, size=320)
    labels[:8] = 0
    rows = predicted(labels, told, groups, None, groups)
    expected = [
        metrics.ndcg_score(labels[None, groups == group], told[None, groups == group], k=k)
        for group in range(1, 40)
    ]
    found = judge_rankings(rows, at=(k,), n_resamples=2).figures[f"ndcg_at_{k}"].value
    assert found == pytest.approx(np.mean(expected), abs=1e-9)


def test_an_order_is_measured_against_chance():
    """Shuffled predictions gain nothing, the labels themselves most; equal ones are a random order."""
    rng = np.random.default_rng(5)
    groups, labels = np.repeat(np.arange(300), 6), rng.integers(0, 3, size=1_800)

    def gained(told):
        rows = predicted(labels, told, groups, None, groups)
        found = judge_rankings(rows, at=(3, 5), n_resamples=200).figures
        return found["ndcg_over_chance_at_3"], found["ndcg_at_3"].value

    nothing, _ = gained(rng.random(1_800))
    assert nothing.low < 0 < nothing.high
    equal, at_random = gained(np.zeros(1_800))
    assert equal.value == pytest.approx(0, abs=1e-12)
    best, top = gained(labels)
    assert top == pytest.approx(1)
    assert best.value == pytest.approx(1 - at_random)
    assert best.low > 0.2


def test_first_ranks_with_and_without_ties():
    # Group 0: the relevant row is third of three. Group 1: one of four equals. Group 2: nothing relevant.
    rows = predicted(
        [0, 0, 1, 1, 0, 0, 0, 0, 0],
        [3, 2, 1, 5, 5, 5, 5, 1, 2],
        [0, 0, 0, 1, 1, 1, 1, 1, 1],
        None,
        [7, 7, 7, 9, 9, 9, 9, 4, 4],
    )
    found = value_of(judge_rankings(rows, at=(2, 3), n_resamples=2))
    assert found["mrr"] == pytest.approx((1 / 3 + 1 / 2.5) / 2)
    assert found["hit_rate_at_2"] == 0.0
    assert found["hit_rate_at_3"] == 1.0


def test_the_order_of_rows_means_nothing():
    rows = world(5)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    for judge in (judge_chances, judge_values, judge_rankings):
        first, second = (judge(given_rows, n_resamples=2) for given_rows in (rows, shuffled))
        assert value_of(first) == pytest.approx(value_of(second), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_areas_of_any_rows(rows):
    labels, told, users = (np.array(column) for column in zip(*rows, strict=True))
    found = judge_chances(predicted(labels, told / 4, users), n_resamples=2)
    expected = slow_auc(labels, told)
    assert found.figures["roc_auc"].value == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert math.isnan(expected) == ("roc_auc" in found.reasons)


def test_equal_chances_share_a_bin_in_whatever_order_the_labels_come():
    rows = predicted([0] * 70 + [1] * 30, [0.3] * 100)
    assert judge_chances(rows, n_resamples=2).figures["calibration_error"].value == pytest.approx(0.0)
    (only,) = chance_picture(rows, n_resamples=20).bins
    assert (only.n, only.chance, only.share) == (100, pytest.approx(0.3), pytest.approx(0.3))


def test_calibration_error_of_two_known_bins():
    rows = predicted([1, 0, 0, 0] * 100 + [1, 1, 1, 0] * 100, [0.35] * 400 + [0.65] * 400)
    found = judge_chances(rows, n_resamples=2).figures["calibration_error"].value
    assert found == pytest.approx(0.1)


def test_the_threshold_of_best_f1_is_found_by_trying_all():
    rows = world(6)
    best = threshold_of_best_f1(rows)
    f1 = {
        float(threshold): judge_chances(rows, threshold=float(threshold), n_resamples=1)
        .figures["f1_yes"]
        .value
        for threshold in np.unique(rows.predictions)
    }
    assert f1[best] == max(f1.values())
    assert threshold_of_best_f1(predicted([1, 1], [0.1, 0.9])) == 0.5


# --- intervals ---------------------------------------------------------------------------------------------


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """120 worlds of 60 users with rows that hang together; the truth is a world of 20,000 users."""
    names = ("roc_auc", "gauc", "average_precision", "log_loss", "accuracy", "f1_yes")
    truth = value_of(judge_chances(world(999, 20_000, 400_000), n_resamples=2))
    held = dict.fromkeys(names, 0)
    for seed in range(120):
        figures = judge_chances(world(seed, 60, 1_200), n_resamples=300).figures
        for name in names:
            held[name] += figures[name].low <= truth[name] <= figures[name].high
    for name, n in held.items():
        assert 0.87 <= n / 120 <= 1.0, f"{name}: {n} of 120"


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_places_spread_as_far_as_drawing_rows_and_sorting_them_again(name):
    metrics = pytest.importorskip("sklearn.metrics")
    rows = world(7, 50, 800)
    found = judge_chances(rows, n_resamples=2_000).whole.resampled[name]
    area = metrics.roc_auc_score if name == "roc_auc" else metrics.average_precision_score
    rng = np.random.default_rng(0)
    rows_of = [np.flatnonzero(rows.user_index == user) for user in np.unique(rows.user_index)]
    slow = []
    for _ in range(400):
        drawn = np.concatenate([rows_of[user] for user in rng.integers(len(rows_of), size=len(rows_of))])
        slow.append(area(rows.labels[drawn], rows.predictions[drawn]))
    assert found.std() == pytest.approx(np.std(slow), rel=0.12)
    assert found.mean() == pytest.approx(np.mean(slow), abs=0.15 * np.std(slow))


def test_copies_of_a_users_rows_add_no_certainty():
    """Each row nine times: intervals stay; as rows of nine strangers they would shrink to a third."""
    rows = world(8, 200, 400)
    copied = rows.take(np.repeat(np.arange(400), 9))
    of_strangers = dataclasses.replace(copied, user_index=np.arange(3_600))
    widths = [
        [
            interval.high - interval.low
            for interval in (judge_chances(given_rows, n_resamples=800).figures[name] for name in NAMES)
        ]
        for given_rows in (rows, copied, of_strangers)
    ]
    np.testing.assert_allclose(widths[1], widths[0], rtol=1e-6)
    assert (np.array(widths[2]) < 0.6 * np.array(widths[0])).all()


NAMES = ("roc_auc", "average_precision", "log_loss", "accuracy")


def test_many_users_are_drawn_in_blocks_that_spread_as_far(monkeypatch):
    rows = world(9, 2_000, 4_000)
    plain = judge_chances(rows, n_resamples=600).whole.resampled["roc_auc"].std()
    monkeypatch.setattr(sums, "MOST_BLOCKS", 150)
    assert judge_chances(rows, n_resamples=600).whole.resampled["roc_auc"].std() == pytest.approx(
        plain, rel=0.2
    )


def test_one_user_has_figures_but_no_interval():
    figures = judge_chances(predicted([0, 1, 1], [0.1, 0.4, 0.9], [3, 3, 3])).figures
    assert figures["roc_auc"].value == 1.0
    assert math.isnan(figures["roc_auc"].low)
    assert math.isnan(figures["roc_auc"].high)


def test_an_honest_calibration_stays_near_zero_inside_its_interval():
    rng = np.random.default_rng(11)
    chance = rng.random(3_000)
    found = judge_chances(predicted(rng.random(3_000) < chance, chance)).figures["calibration_error"]
    assert 0 <= found.low <= found.value <= found.high < 0.06


def test_cells_are_summed_apart():
    addends = {
        "all": Addend(np.array([1.0, 2.0, 4.0])),
        "by": Addend(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 2),
    }
    drawn = resampled_sums(addends, np.array([5, 5, 9]), Resampling(50, 3))
    assert set(drawn["all"].tolist()) == {6.0, 7.0, 8.0}
    np.testing.assert_allclose(drawn["by"].sum(axis=1), drawn["all"])


# --- by history --------------------------------------------------------------------------------------------


def test_each_length_of_history_is_judged_like_the_rows_alone():
    rows = world(12)
    edges = {"0": (0, 0), "1–3": (1, 3), "4–10": (4, 10), "11–50": (11, 50), "51+": (51, 10**9)}
    parts = judge_chances(rows, n_resamples=50).by_history
    assert [part.label for part in parts] == list(edges)
    assert sum(part.n_rows for part in parts) == len(rows)
    for part in parts:
        low, high = edges[part.label]
        alone = rows.take((rows.n_known >= low) & (rows.n_known <= high))
        assert part.n_users == alone.n_users
        figures = judge_chances(alone, n_resamples=50).figures
        assert part.figures["roc_auc"] == figures["roc_auc"]


def test_lengths_nobody_has_are_left_out_and_groups_stay_whole():
    rows = predicted([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.3], [0, 0, 1, 1], [0, 2, 60, 60], [0, 0, 1, 1])
    assert [part.label for part in judge_chances(rows).by_history] == ["0", "1–3", "51+"]
    ranked = judge_rankings(rows).by_history
    assert [(part.label, part.n_rows, part.figures["mrr"].value) for part in ranked] == [
        ("0", 2, 1.0),
        ("51+", 2, 0.5),
    ]


# --- differences -------------------------------------------------------------------------------------------


def test_a_paired_difference_is_surer_than_two_intervals():
    rows = world(13, 200, 3_000)
    rng = np.random.default_rng(1)
    worse = dataclasses.replace(
        rows, predictions=np.clip(rows.predictions + rng.normal(scale=0.08, size=3_000), 0, 1)
    )
    first, second = judge_chances(rows), judge_chances(worse)
    (difference,) = label_differences(first, second, ["roc_auc"])
    assert difference.value == pytest.approx(first.figures["roc_auc"].value - second.figures["roc_auc"].value)
    assert difference.is_certain
    assert difference.p_value < 0.05
    alone = first.figures["roc_auc"]
    assert difference.high - difference.low < 0.7 * (alone.high - alone.low)
    by_history = label_differences_by_history(first, second, "log_loss")
    assert list(by_history) == [part.label for part in first.by_history]


def test_no_difference_is_none():
    figures = judge_chances(world(14))
    for difference in label_differences(figures, figures):
        assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
        assert difference.p_value == 1.0


def test_others_are_not_compared():
    rows = world(15)
    figures = judge_chances(rows)
    with pytest.raises(RequestError, match="same rows"):
        label_differences(figures, judge_chances(rows.take(np.arange(900))))
    with pytest.raises(RequestError, match="same rows"):
        label_differences(figures, judge_chances(rows, seed=1))
    with pytest.raises(RequestError, match=r"Did you mean 'roc_auc'"):
        label_differences(figures, figures, ["roc_auk"])


# --- nothing to say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("label", "word"), [(0, "no"), (1, "yes")])
def test_labels_all_equal_give_nan_and_the_reason(label, word):
    figures = judge_chances(predicted([label] * 6, np.linspace(0, 1, 6)))
    assert math.isnan(figures.figures["roc_auc"].value)
    assert math.isnan(figures.figures["roc_auc"].low)
    assert figures.reasons["roc_auc"] == f"every label is {word}, so that there is nothing to tell apart"
    assert "average_precision" in figures.reasons
    assert figures.reasons["gauc"] == "no user has rows of yes and of no"
    assert math.isfinite(figures.figures["log_loss"].value)


def test_what_was_never_predicted_has_no_precision():
    figures = judge_chances(predicted([0, 1], [0.1, 0.2]), threshold=0.9)
    assert figures.reasons["precision_yes"] == "nothing was predicted yes at the threshold 0.9"
    assert figures.figures["f1_yes"].value == 0.0
    only_no = judge_chances(predicted([0, 0], [0.1, 0.2]))
    assert only_no.reasons["recall_yes"] == "no label is yes"
    assert only_no.reasons["f1_yes"] == "no label is yes, and nothing was predicted so"


def test_values_without_spread_say_why():
    figures = judge_values(predicted([3.3] * 5, [1, 2, 3, 4, 5]))
    assert math.isnan(figures.figures["r_squared"].value)
    assert figures.reasons["r_squared"].startswith("every label is 3.3,")
    constant = judge_values(predicted([1, 2, 3], [0.1] * 3))
    assert constant.reasons == {"correlation": "every prediction is 0.1, which goes with nothing"}


def test_groups_without_anything_relevant_say_so():
    figures = judge_rankings(predicted([0, 0], [1, 2], [0, 0], None, [0, 0]))
    assert math.isnan(figures.figures["mrr"].value)
    assert "no group of the 2 rows" in figures.reasons["mrr"]


# --- wrong input -------------------------------------------------------------------------------------------


def test_wrong_input_gets_a_clear_error():
    with pytest.raises(DataError, match="not one row") as empty:
        predicted([], [])
    assert empty.value.remedy
    with pytest.raises(TrainingError, match="1 of 2 predictions are not numbers") as lost:
        predicted([0, 1], [0.5, math.nan])
    assert "learning rate" in lost.value.remedy
    with pytest.raises(DataError, match="1 of 2 labels are not numbers"):
        predicted([0, math.nan], [0.5, 0.5])
    with pytest.raises(ShapeMismatch, match=r"labels \(2,\), predictions \(3,\)"):
        predicted([0, 1], [0.5, 0.5, 0.5])
    with pytest.raises(DataError, match="a label is 3") as rating:
        judge_chances(predicted([0, 3], [0.5, 0.5]))
    assert "rating" in rating.value.remedy
    with pytest.raises(DataError, match=r"between -2 and 0\.5") as logits:
        judge_chances(predicted([0, 1], [-2, 0.5]))
    assert "exp(-logit)" in logits.value.remedy
    with pytest.raises(DataError, match="ranked against each other"):
        judge_rankings(predicted([0, 1], [1, 2]))
    with pytest.raises(DataError, match="1 rows stand in a group with rows of another user"):
        judge_rankings(predicted([0, 1], [1, 2], [0, 1], None, [0, 0]))
    with pytest.raises(DataError, match="a label is -1"):
        judge_rankings(predicted([-1, 1], [1, 2], [0, 0], None, [0, 0]))


def test_examples_without_a_label_of_the_task_are_left_out():
    examples = LabelledExamples(
        tasks=("click", "like"),
        labels=np.array([[1, math.nan], [0, 1], [1, 0]], dtype=np.float32),
        user_index=np.array([4, 5, 6], dtype=np.int32),
        item_index=np.zeros(3, dtype=np.int32),
        timestamp=np.zeros(3, dtype=np.int64),
        context=pl.DataFrame({"hour": [1, 2, 3]}),
        events=Histories.of_items([np.empty(0, dtype=np.int32)] * 7),
        n_known=np.array([0, 1, 2]),
    )
    rows = PredictedLabels.of(examples, "like", np.array([0.1, 0.2, 0.3]))
    assert rows.labels.tolist() == [1, 0]
    assert rows.predictions.tolist() == [0.2, 0.3]
    assert rows.user_index.tolist() == [5, 6]
    assert rows.n_known.tolist() == [1, 2]
    with pytest.raises(DataError, match=r"no task 'likes'\. Did you mean 'like'"):
        PredictedLabels.of(examples, "likes", np.zeros(3))


# --- pictures and records ----------------------------------------------------------------------------------


def test_the_area_below_the_drawn_curve_is_the_figure():
    rows = world(16, 300, 6_000, steps=10_000)
    picture = chance_picture(rows, n_resamples=50)
    figures = judge_chances(rows, n_resamples=2).figures
    assert len(picture.roc) <= 202
    assert picture.roc[0] == (0.0, 0.0)
    assert picture.roc[-1] == (1.0, 1.0)
    x, y = np.array(picture.roc).T
    assert np.trapezoid(y, x) == pytest.approx(figures["roc_auc"].value, abs=0.003)
    assert picture.precision_recall[-1] == (1.0, pytest.approx(picture.share_of_yes))
    assert sum(part.n for part in picture.bins) == 6_000
    assert all(part.low <= part.share <= part.high for part in picture.bins)


def test_labels_all_equal_have_no_curves():
    picture = chance_picture(predicted([1, 1], [0.2, 0.4]), n_resamples=10)
    assert picture.roc == picture.precision_recall == ()
    assert picture.bins


def test_the_picture_of_values_holds_every_row():
    rng = np.random.default_rng(17)
    labels = rng.integers(1, 6, size=900)
    picture = value_picture(predicted(labels, labels + rng.normal(size=900)))
    assert picture.true_edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
    cells = np.array(picture.cells)
    assert cells.shape == (5, 20)
    np.testing.assert_allclose(cells.sum(axis=1), np.bincount(labels)[1:] / 900)
    assert sum(step.n for step in picture.steps) == 900
    told = [step.predicted for step in picture.steps]
    assert told == sorted(told)


def test_a_constant_prediction_can_be_drawn():
    picture = value_picture(predicted([1, 2, 3], [2, 2, 2]))
    assert len(picture.steps) == 1
    assert np.array(picture.cells).sum() == pytest.approx(1.0)


def test_a_record_is_json():
    record = json.loads(json.dumps(judge_chances(world(18), threshold=0.4, n_resamples=10).record()))
    assert record["kind"] == "chance"
    assert record["threshold"] == 0.4
    assert record["by_history"][0]["label"] == "0"


def test_a_million_rows_take_seconds():
    """Two shared cores need about 6 s for 1,000 resamples; here a quarter of both."""
    rows = world(19, 20_000, 250_000, steps=1_000)
    start = time.perf_counter()
    judge_chances(rows, n_resamples=250)
    assert time.perf_counter() - start < 10
