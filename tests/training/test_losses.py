"""Losses against the plain formulas of torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from zhiyin.training.losses import LeftOut, NegativeSampler, full_cross_entropy, sampled_cross_entropy


def world(n=300, n_items=40, dimension=8, seed=0, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(n, dimension, generator=random) * scale).requires_grad_()
    items = (torch.randn(n_items, dimension, generator=random) * scale).requires_grad_()
    targets = torch.randint(0, n_items, (n,), generator=random)
    weights = torch.rand(n, generator=random)
    return hidden, items, targets, weights


def reference(hidden, items, targets, weights, struck=None):
    logits = hidden @ items.T
    if struck is not None:
        logits = logits.masked_fill(struck & ~functional.one_hot(targets, len(items)).bool(), -torch.inf)
    losses = functional.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def gradients(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 600), n_items=st.integers(1, 50), seed=st.integers(0, 99))
def test_full_cross_entropy_and_its_gradient_are_those_of_torch(n, n_items, seed):
    hidden, items, targets, weights = world(n, n_items, seed=seed)
    expected = reference(hidden, items, targets, weights)
    found = full_cross_entropy(hidden, items, targets, weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    pairs = zip(gradients(found, hidden, items), gradients(expected, hidden, items), strict=True)
    for of_found, of_expected in pairs:
        torch.testing.assert_close(of_found, of_expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 600), n_items=st.integers(1, 30), seed=st.integers(0, 99))
def test_items_left_out_take_no_part_unless_they_are_the_target(n, n_items, seed):
    hidden, items, targets, weights = world(n, n_items, seed=seed)
    struck = torch.rand(n, n_items, generator=torch.Generator().manual_seed(seed)) < seed / 99
    expected = reference(hidden, items, targets, weights, struck)
    found = full_cross_entropy(hidden, items, targets, weights, left_out=left_out_of(struck))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    pairs = zip(gradients(found, hidden, items), gradients(expected, hidden, items), strict=True)
    for of_found, of_expected in pairs:
        torch.testing.assert_close(of_found, of_expected, rtol=1e-4, atol=1e-6)


def left_out_of(struck):
    """List what is struck in (N, I) bool, some of it twice."""
    twice = [row.nonzero()[:, 0].repeat(2) for row in struck]
    counts = torch.tensor([len(row) for row in twice])
    return LeftOut(torch.cat(twice), counts, np.append(0, np.cumsum(counts.numpy())))


@pytest.mark.parametrize("share_left_out", [0.0, 0.5])
def test_in_bfloat16_the_gradient_points_the_same_way(share_left_out):
    hidden, items, targets, weights = world(scale=0.5)
    struck = torch.rand(300, 40, generator=torch.Generator().manual_seed(0)) < share_left_out
    loss = reference(hidden, items, targets, weights, struck)
    exact = torch.cat([part.flatten() for part in gradients(loss, hidden, items)])
    loss = full_cross_entropy(hidden, items, targets, weights, left_out=left_out_of(struck), half=True)
    rounded = torch.cat([part.flatten() for part in gradients(loss, hidden, items)])
    assert functional.cosine_similarity(exact, rounded, dim=0) > 0.9999


def test_a_scaled_loss_has_a_scaled_gradient():
    hidden, items, targets, weights = world()
    once = gradients(full_cross_entropy(hidden, items, targets, weights), items)[0]
    thrice = gradients(3 * full_cross_entropy(hidden, items, targets, weights), items)[0]
    torch.testing.assert_close(thrice, 3 * once)


def test_a_loss_that_is_no_number_stays_none():
    hidden, items, targets, _ = world()
    with torch.no_grad():
        hidden[3] = torch.nan
    assert torch.isnan(full_cross_entropy(hidden, items, targets))


def sampled(hidden, items, targets, weights, sampler, n):
    drawn, log_expected = sampler.draw(n)
    is_hit = targets[:, None] == drawn[None, :]
    return sampled_cross_entropy(hidden, items[targets], items[drawn], is_hit, log_expected, weights)


def test_the_sampled_gradient_is_the_full_one_on_average():
    torch.manual_seed(1)
    hidden, items, targets, weights = world(n=50, n_items=30, scale=0.8)
    counts = torch.arange(30, dtype=torch.float32) ** 2
    full = reference(hidden, items, targets, weights)
    of_full = gradients(full, hidden)[0]
    sampler = NegativeSampler(counts)
    total, total_loss = torch.zeros_like(of_full), 0.0
    for _ in range(200):
        loss = sampled(hidden, items, targets, weights, sampler, n=1000)
        total += gradients(loss, hidden)[0] / 200
        total_loss += float(loss.detach()) / 200
    assert total_loss == pytest.approx(float(full.detach()), rel=0.01)
    assert (total - of_full).norm() / of_full.norm() < 0.03


def test_without_the_correction_popular_items_would_be_pushed_away():
    torch.manual_seed(1)
    hidden, items, targets, weights = world(n=50, n_items=30, scale=0.8)
    sampler = NegativeSampler(torch.arange(30, dtype=torch.float32) ** 2)
    full = gradients(reference(hidden, items, targets, weights), hidden)[0]
    drawn, log_expected = sampler.draw(20_000)
    uncorrected = torch.full_like(log_expected, math.log(20_000 / 30))
    is_hit = targets[:, None] == drawn[None, :]
    loss = sampled_cross_entropy(hidden, items[targets], items[drawn], is_hit, uncorrected, weights)
    assert (gradients(loss, hidden)[0] - full).norm() / full.norm() > 0.1


def test_items_are_drawn_as_often_as_the_sampler_says():
    torch.manual_seed(0)
    sampler = NegativeSampler(torch.tensor([0.0, 3.0, 15.0]), power=0.5)
    drawn, log_expected = sampler.draw(70_000)
    shares = torch.bincount(drawn) / 70_000
    torch.testing.assert_close(shares, torch.tensor([1, 2, 4]) / 7, atol=0.01, rtol=0)
    expected = torch.log(70_000 * torch.tensor([1.0, 2.0, 4.0]) / 7)
    torch.testing.assert_close(log_expected, expected[drawn], atol=1e-3, rtol=0)


def test_positions_that_do_not_count_teach_nothing():
    hidden, items, targets, weights = world()
    nothing = torch.zeros_like(weights)
    full = full_cross_entropy(hidden, items, targets, nothing)
    is_hit = targets[:, None] == torch.arange(5)
    sampled = sampled_cross_entropy(hidden, items[targets], items[:5], is_hit, torch.zeros(5), nothing)
    for loss in (full, sampled):
        assert loss.item() == 0.0
        assert not any(gradient.any() for gradient in gradients(loss, hidden, items))
