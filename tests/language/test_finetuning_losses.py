"""Losses of fine-tuning, against the same thing written as slow loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.language.finetuning.losses import (
    Losses,
    Scale,
    chances,
    listwise_loss,
    log_shares,
    pairwise_loss,
)
from zhiyin.language.finetuning.settings import TaskConfig
from zhiyin.language.finetuning.skill import reciprocal_rank, skill_of

NAN = float("nan")
FIVE_KINDS = ("yes_no", "rating", "next", "pairwise", "listwise")


def losses_of(*tasks, scales=None, learns=False):
    return Losses(
        {f"t{place}": task for place, task in enumerate(tasks)}, scales or {}, learns_balance=learns
    )


def slow_pairwise(predicted, labels, group):
    told = [
        math.log1p(math.exp(predicted[j] - predicted[i]))
        for i in range(len(labels))
        for j in range(len(labels))
        if group[i] == group[j] and labels[i] > labels[j]
    ]
    return sum(told) / len(told) if told else 0.0


def slow_listwise(predicted, labels, group):
    told = []
    for one in sorted(set(group)):
        rows = [row for row in range(len(group)) if group[row] == one]
        gains = [labels[row] - min(labels[r] for r in rows) for row in rows]
        if not sum(gains):
            continue
        total = sum(math.exp(predicted[row]) for row in rows)
        told.append(
            -sum(
                gain / sum(gains) * math.log(math.exp(predicted[row]) / total)
                for gain, row in zip(gains, rows, strict=True)
            )
        )
    return sum(told) / len(told) if told else 0.0


ROWS = st.lists(
    st.tuples(st.floats(-6, 6, width=32), st.sampled_from([0.0, 1.0, 2.5, 5.0]), st.integers(3, 6)),
    min_size=1,
    max_size=12,
)


@given(ROWS)
def test_orders_equal_slow_loops_over_groups(rows):
    predicted, labels, group = (list(column) for column in zip(*rows, strict=True))
    given_to = torch.tensor(predicted), torch.tensor(labels), torch.tensor(group)
    assert float(pairwise_loss(*given_to)) == pytest.approx(slow_pairwise(predicted, labels, group), abs=1e-4)
    assert float(listwise_loss(*given_to)) == pytest.approx(slow_listwise(predicted, labels, group), abs=1e-4)


@given(ROWS)
def test_shares_of_a_group_are_its_softmax(rows):
    predicted, _, group = (list(column) for column in zip(*rows, strict=True))
    place = torch.tensor(np.unique(group, return_inverse=True)[1])
    shares = log_shares(torch.tensor(predicted), place, int(place.max()) + 1)
    for one in set(place.tolist()):
        inside = place == one
        torch.testing.assert_close(shares[inside], torch.tensor(predicted)[inside].log_softmax(dim=0))


def test_shares_of_huge_scores_stay_finite_and_so_do_their_gradients():
    predicted = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    loss = listwise_loss(predicted, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0, 0, 1]))
    loss.backward()
    assert loss.item() == 0.0
    assert predicted.grad.isfinite().all()


def test_yes_and_no_is_the_mean_log_loss_of_known_labels():
    losses = losses_of(TaskConfig(kind="yes_no"))
    labels = torch.tensor([[1.0], [0.0], [NAN]])
    found = losses(torch.tensor([[2.0], [-1.0], [9.0]]), labels, torch.arange(3))
    expected = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-1.0))) / 2
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "expected"), [("squared", (0.25 + 1.0) / 2), ("absolute", (0.5 + 1.0) / 2)]
)
def test_the_error_of_a_rating_is_in_units_of_spread(error, expected):
    losses = losses_of(TaskConfig(kind="rating", error=error), scales={"t0": Scale(3.0, 2.0)})
    # 5 stars are one spread above the mean, 3 stars none.
    found = losses(torch.tensor([[0.5], [1.0]]), torch.tensor([[5.0], [3.0]]), torch.arange(2))
    assert float(found) == pytest.approx(expected)
    told = chances("rating", torch.tensor([0.5, 1.0]), Scale(3.0, 2.0))
    assert told.tolist() == [4.0, 5.0]


def test_the_next_item_is_a_softmax_and_copies_of_it_count_for_nothing():
    losses = losses_of(TaskConfig(kind="next"))
    predicted = torch.tensor([[1.0], [0.5], [7.0], [2.0], [0.0]])
    labels = torch.tensor([[1.0], [0.0], [NAN], [1.0], [0.0]])
    found = losses(predicted, labels, torch.tensor([0, 0, 0, 1, 1]))
    expected = (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-2.0))) / 2
    assert float(found) == pytest.approx(expected)


def test_weights_and_learned_balance_follow_their_formula():
    tasks = TaskConfig(kind="yes_no", weight=2.0), TaskConfig(kind="rating", weight=0.5)
    predicted = torch.tensor([[0.3, 0.1], [-0.2, 0.7]])
    labels = torch.tensor([[1.0, 1.0], [0.0, -1.0]])
    group = torch.arange(2)
    alone = [
        float(losses_of(task.model_copy(update={"weight": 1.0}))(predicted[:, [c]], labels[:, [c]], group))
        for c, task in enumerate(tasks)
    ]
    fixed, learned = losses_of(*tasks), losses_of(*tasks, learns=True)
    assert float(fixed(predicted, labels, group)) == pytest.approx(2.0 * alone[0] + 0.5 * alone[1])
    assert not fixed.logs.requires_grad
    learned.logs.data = torch.tensor([0.4, -0.3])
    total = learned(predicted, labels, group)
    expected = math.exp(-0.4) * alone[0] + 0.4 / 2 + math.exp(0.3) * alone[1] - 0.3 / 2
    assert float(total.detach()) == pytest.approx(expected)
    total.backward()
    # d/ds exp(-s) L + s / 2: at its zero the weight is 1 / (2 L).
    assert learned.logs.grad[0] == pytest.approx(-math.exp(-0.4) * alone[0] + 0.5)


def test_a_task_without_labels_in_a_batch_moves_nothing():
    losses = losses_of(TaskConfig(), TaskConfig(kind="rating"), learns=True)
    predicted = torch.zeros(3, 2, requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [0.0, NAN], [1.0, NAN]])
    losses(predicted, labels, torch.arange(3)).backward()
    assert losses.logs.grad[1] == 0
    assert (predicted.grad[:, 1] == 0).all()
    nothing = losses(predicted, torch.full((3, 2), NAN), torch.arange(3))
    assert float(nothing.detach()) == 0.0


@pytest.mark.parametrize("kind", FIVE_KINDS)
def test_equal_predictions_do_not_disagree_and_others_do(kind):
    losses = losses_of(TaskConfig(kind=kind))
    labels, group = torch.tensor([[1.0], [0.0], [NAN], [1.0]]), torch.tensor([0, 0, 0, 1])
    one = torch.randn(4, 1, generator=torch.Generator().manual_seed(0))
    assert float(losses.disagreement(one, one, labels, group)) == 0.0
    elsewhere = one + torch.tensor([[0.0], [0.0], [5.0], [0.0]])
    assert float(losses.disagreement(one, elsewhere, labels, group)) == 0.0, "its label is not known"
    assert float(losses.disagreement(one, one + torch.tensor([[1.0], [0], [0], [0]]), labels, group)) > 0.01


def test_disagreement_of_orders_is_the_mean_divergence_of_two_softmaxes():
    losses = losses_of(TaskConfig(kind="listwise"))
    one, other = torch.tensor([0.0, 1.0, 3.0, 2.0]), torch.tensor([1.0, 0.0, 2.0, 2.0])
    group, labels = torch.tensor([0, 0, 1, 1]), torch.ones(4, 1)
    expected = 0.0
    for rows in ([0, 1], [2, 3]):
        p, q = one[rows].softmax(0), other[rows].softmax(0)
        expected += float(((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2) / 2
    assert float(losses.disagreement(one[:, None], other[:, None], labels, group)) == pytest.approx(expected)


def test_skill_is_nothing_for_the_mean_and_one_for_the_truth():
    labels = np.array([1, 0, 0, 1, 0], dtype=np.float32)
    user = np.zeros(5, dtype=np.int32)
    yes = TaskConfig()
    assert skill_of(yes, np.full(5, 0.4, dtype=np.float32), labels, user) == pytest.approx(0.0, abs=1e-6)
    assert skill_of(yes, labels, labels, user) == pytest.approx(1.0, abs=1e-4)
    stars = np.array([1, 2, 3, 4, 5], dtype=np.float32)
    for error in ("squared", "absolute"):
        task = TaskConfig(kind="rating", error=error)
        assert skill_of(task, np.full(5, 3.0, dtype=np.float32), stars, user) == pytest.approx(0.0)
        assert skill_of(task, stars, stars, user) == pytest.approx(1.0)
    order = TaskConfig(kind="pairwise")
    assert skill_of(order, stars * 9, stars, user) == 1.0
    assert skill_of(order, -stars, stars, user) == -1.0
    assert math.isnan(skill_of(order, stars, stars, np.arange(5))), "nobody has two rows"
    assert math.isnan(skill_of(yes, stars, np.ones(5, dtype=np.float32), user))


def test_ties_share_their_places():
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, -np.inf, 2.0]])
    assert reciprocal_rank(scores) == pytest.approx((1 + 1 / 2.5 + 1 / 2 + 1 / 2) / 4)
