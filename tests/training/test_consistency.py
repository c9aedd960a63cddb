"""Disagreements by hand, and for every input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.training.consistency import (
    disagreement_of_chances,
    disagreement_of_choices,
    disagreement_of_values,
)

ONE_OF_TWO = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=6)


def test_chances_by_hand():
    """Of p = 0.8 and q = 0.5: KL(p|q) = 0.8 log 1.6 + 0.2 log 0.4, KL(q|p) = 0.5 log 0.625 + 0.5 log 2.5."""
    first, second = torch.tensor([math.log(4.0)]), torch.tensor([0.0])
    there = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    back = 0.5 * math.log(0.625) + 0.5 * math.log(2.5)
    assert float(disagreement_of_chances(first, second)) == pytest.approx((there + back) / 2, rel=1e-5)


def test_choices_by_hand():
    """Of p = (½, ¼, ¼) and q = (¼, ½, ¼): both divergences are ½ log 2 - ¼ log 2."""
    first, second = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert float(disagreement_of_choices(first, second)) == pytest.approx(math.log(2) / 4, rel=1e-5)


def test_values_by_hand():
    found = disagreement_of_values(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert float(found) == pytest.approx((4 + 0.25) / 2)


@given(ONE_OF_TWO, st.randoms(use_true_random=False))
def test_they_are_symmetric_never_below_zero_and_zero_for_equals(logits, random):
    first = torch.tensor(logits)
    second = torch.tensor(random.sample(logits, len(logits)))
    for apart in (disagreement_of_chances, disagreement_of_choices, disagreement_of_values):
        assert float(apart(first, second)) >= -1e-6
        torch.testing.assert_close(apart(first, second), apart(second, first))
        assert float(apart(first, first)) == 0.0


@given(ONE_OF_TWO, st.floats(-5, 5))
def test_yes_or_no_is_a_choice_of_two(logits, shift):
    first = torch.tensor(logits)
    second = first * 0.5 + shift
    as_choice = disagreement_of_choices(
        torch.stack([first, torch.zeros_like(first)], dim=1), torch.stack([second, second * 0], dim=1)
    )
    torch.testing.assert_close(disagreement_of_chances(first, second), as_choice, rtol=1e-4, atol=1e-5)


def test_what_does_not_count_changes_neither_value_nor_gradient():
    first = torch.tensor([[1.0, 2.0, -torch.inf], [3.0, torch.nan, torch.nan], [0.5, 0.1, 0.9]])
    second = torch.tensor([[1.5, 1.0, -torch.inf], [2.0, torch.nan, torch.nan], [0.2, 0.3, 0.4]])
    is_choice = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    first.requires_grad_()
    found = disagreement_of_choices(first, second, is_choice)
    expected = (
        disagreement_of_choices(first[:1, :2], second[:1, :2])
        + disagreement_of_choices(first[2:], second[2:])
    ) / 2
    torch.testing.assert_close(found, expected)
    found.backward()
    assert torch.isfinite(first.grad).all()
    assert (first.grad[~is_choice] == 0).all()

    for apart in (disagreement_of_chances, disagreement_of_values):
        one, other = torch.tensor([1.0, torch.nan], requires_grad=True), torch.tensor([0.0, 2.0])
        counts = torch.tensor([True, False])
        masked = apart(one, other, counts)
        torch.testing.assert_close(masked, apart(one[:1], other[:1]))
        masked.backward()
        assert one.grad[0] != 0


def test_nothing_that_counts_is_no_disagreement():
    some = torch.ones(2, 3)
    assert float(disagreement_of_chances(some, 2 * some, torch.zeros(2, 3, dtype=torch.bool))) == 0
    assert float(disagreement_of_choices(some, 2 * some, torch.zeros(2, 3, dtype=torch.bool))) == 0
    assert float(disagreement_of_values(some[:0], some[:0])) == 0


def test_both_sides_learn_from_it_and_large_logits_stay_numbers():
    for apart in (disagreement_of_chances, disagreement_of_choices, disagreement_of_values):
        first = torch.tensor([1e4, -1e4], requires_grad=True)
        second = torch.tensor([-1e4, 1e4], requires_grad=True)
        found = apart(first, second)
        found.backward()
        assert torch.isfinite(found)
        assert torch.isfinite(first.grad).all()
        torch.testing.assert_close(first.grad, -second.grad)
        assert (first.grad != 0).any()
