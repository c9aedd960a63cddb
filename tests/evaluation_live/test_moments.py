"""Sums over users equal the slow way, and history makes intervals narrower without moving them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.evaluation.live.moments import contrast, moments_of

ADDITION = st.tuples(
    st.integers(0, 7), st.integers(0, 4), st.integers(0, 5), st.integers(1, 4), st.floats(-3, 3)
)


def slow_moments(rows: dict[tuple[int, int], np.ndarray], arms: list[int], n_looks: int) -> tuple:
    n, first, second = np.zeros((2, n_looks)), np.zeros((2, n_looks, 3)), np.zeros((2, n_looks, 3, 3))
    for look in range(n_looks):
        for user in sorted({user for user, _ in rows}):
            so_far = [added for (who, when), added in rows.items() if who == user and when <= look]
            if so_far:
                total = np.sum(so_far, axis=0)
                n[arms[user], look] += 1
                first[arms[user], look] += total
                second[arms[user], look] += np.outer(total, total)
    return n, first, second


@given(st.lists(ADDITION, min_size=1, max_size=40))
def test_one_pass_over_all_looks_equals_summing_anew_at_each(additions: list) -> None:
    arms = [0, 1, 0, 1, 1, 0, 0, 1]
    rows: dict[tuple[int, int], np.ndarray] = {}
    for user, look, y, x, z in additions:
        rows[user, look] = rows.get((user, look), 0) + np.array([y, x, z], dtype=float)
    keys = sorted(rows)
    user, look = (np.array(column) for column in zip(*keys, strict=True))
    values = np.stack([rows[key] for key in keys])
    found = moments_of(values, user, np.array(arms)[user], look, shape=(2, 5))
    for fast, slow in zip(
        (found.n_users, found.first, found.second), slow_moments(rows, arms, 5), strict=True
    ):
        np.testing.assert_allclose(fast, slow, atol=1e-9)


def one_look(y: np.ndarray, x: np.ndarray, z: np.ndarray, arm: np.ndarray):
    user = np.arange(len(y))
    return moments_of(np.stack([y, x, z], axis=1), user, arm, np.zeros(len(y), dtype=int), shape=(2, 1))


def test_the_standard_error_is_how_much_the_ratio_really_varies() -> None:
    rng = np.random.default_rng(0)
    estimates, errors = [], []
    for _ in range(400):
        x = 1.0 + rng.poisson(3, 500)
        y = rng.binomial(x.astype(int), rng.beta(2, 8, 500)).astype(float)
        found = contrast(
            one_look(y, x, np.zeros(500), rng.integers(0, 2, 500)), np.array([-1.0, 1.0]), adjust=False
        )
        estimates.append(found.estimate[0])
        errors.append(found.standard_error[0])
    assert abs(np.mean(errors) / np.std(estimates) - 1) < 0.1
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / 20


def test_slates_of_one_user_are_not_independent_and_are_not_counted_as_such() -> None:
    rng = np.random.default_rng(1)
    x = np.full(2_000, 20.0)
    y = rng.binomial(20, rng.beta(0.5, 2, 2_000)).astype(float)
    arm = rng.integers(0, 2, 2_000)
    found = contrast(one_look(y, x, x * 0, arm), np.array([-1.0, 1.0]), adjust=False)
    rate = y.sum() / x.sum()
    by_slate = np.sqrt(rate * (1 - rate) * (1 / x[arm == 0].sum() + 1 / x[arm == 1].sum()))
    assert found.standard_error[0] > 2 * by_slate


def test_history_takes_away_what_it_explains_and_moves_nothing() -> None:
    rng = np.random.default_rng(2)
    plain, adjusted, errors = [], [], []
    for _ in range(200):
        z = rng.normal(size=800)
        arm = rng.integers(0, 2, 800)
        y = 5.0 + 2.0 * z + rng.normal(size=800) + 0.3 * arm
        moments = one_look(y, np.ones(800), z, arm)
        weights = np.array([-1.0, 1.0])
        plain.append(contrast(moments, weights, adjust=False).estimate[0])
        with_history = contrast(moments, weights, adjust=True)
        adjusted.append(with_history.estimate[0])
        errors.append(with_history.standard_error[0])
    # y has variance 5, of which history explains 4: the error falls to sqrt(1 / 5).
    assert abs(np.std(adjusted) / np.std(plain) - np.sqrt(0.2)) < 0.08
    assert abs(np.mean(errors) / np.std(adjusted) - 1) < 0.12
    assert abs(np.mean(adjusted) - 0.3) < 0.02


def test_nothing_can_be_said_of_one_user_or_of_no_denominator() -> None:
    moments = one_look(np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.zeros(2), np.array([0, 1]))
    assert np.isnan(contrast(moments, np.array([-1.0, 1.0]), adjust=True).standard_error[0])
    moments = one_look(np.zeros(6), np.zeros(6), np.zeros(6), np.arange(6) % 2)
    assert np.isnan(contrast(moments, np.array([-1.0, 1.0]), adjust=True).standard_error[0])
