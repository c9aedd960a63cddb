"""Looking a hundred times is safe; with a t-test it is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from zhiyin.evaluation.live.moments import contrast, moments_of
from zhiyin.evaluation.live.sequences import (
    always_valid_p,
    half_width,
    holm,
    information,
    mixing_precision,
    one_sided_margin,
)

N_LOOKS, N_USERS, N_REPEATS = 100, 1_000, 200
ALPHA = 0.05


def looks(rng: np.random.Generator, effect: float, traffic: str) -> dict[str, float]:
    """One experiment whose users come back, differ from each other, and are looked at a hundred times."""
    arm = rng.integers(0, 2, N_USERS)
    habit = rng.normal(size=N_USERS)
    entry = rng.integers(0, N_LOOKS, N_USERS) if traffic != "all at once" else np.zeros(N_USERS, dtype=int)
    slates = rng.poisson(0.15, (N_USERS, N_LOOKS)) * (np.arange(N_LOOKS) >= entry[:, None])
    slates[np.arange(N_USERS), entry] += 1
    chance = np.minimum(rng.gamma(2, 0.05, N_USERS) * np.exp(0.5 * habit) * (1 + effect * arm), 1.0)
    y = rng.binomial(slates, chance[:, None]).astype(float)
    x = slates.astype(float)
    if traffic == "revenue":
        y *= rng.lognormal(2, 1, y.shape)
        x = (np.arange(N_LOOKS) == entry[:, None]).astype(float)
    user, look = np.nonzero(slates)
    before = np.where(look == entry[user], habit[user], 0.0)
    values = np.stack([y[user, look], x[user, look], before], axis=1)
    moments = moments_of(values, user, arm[user], look, shape=(2, N_LOOKS))
    found = contrast(moments, np.array([-1.0, 1.0]), adjust=True)
    error = np.where(moments.n_users.min(axis=0) >= 100, found.standard_error, np.nan)
    informed = information(error, found.weight, found.n_users)
    precision = mixing_precision(ALPHA, 10_000)
    margin = one_sided_margin(error, informed, alpha=ALPHA, precision=precision)
    z = np.abs(found.estimate / error)
    return {
        "always valid": always_valid_p(found.estimate, error, informed, precision=precision)[-1] < ALPHA,
        "one-sided": bool((found.estimate > margin).any()),
        "naive": bool(np.nanmax(z) > 1.96),
        "naive, once": bool(z[-1] > 1.96),
    }


def shares(effect: float, traffic: str, n_repeats: int = N_REPEATS) -> dict[str, float]:
    rng = np.random.default_rng(3)
    found = [looks(rng, effect, traffic) for _ in range(n_repeats)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def least_share(share: float, n: int) -> float:
    """Lower end of the exact one-sided 99 % interval of a share (Clopper and Pearson)."""
    hits = round(share * n)
    return float(beta.ppf(0.01, hits, n - hits + 1)) if hits else 0.0


@pytest.mark.parametrize("traffic", ["spread over time", "all at once", "revenue"])
def test_peeking_a_hundred_times_keeps_the_error_and_a_t_test_does_not(traffic: str) -> None:
    found = shares(effect=0.0, traffic=traffic)
    assert least_share(found["always valid"], N_REPEATS) <= ALPHA
    assert found["always valid"] <= ALPHA
    assert found["one-sided"] <= ALPHA
    assert least_share(found["naive"], N_REPEATS) > 2 * ALPHA
    assert least_share(found["naive, once"], N_REPEATS) <= ALPHA


def test_a_real_effect_is_found() -> None:
    found = shares(effect=0.8, traffic="spread over time", n_repeats=60)
    assert found["always valid"] > 0.9
    assert found["one-sided"] > 0.9


def test_the_width_is_that_of_the_paper() -> None:
    t, sigma, alpha = np.array([50.0, 1e3, 1e6]), 1.7, 0.05
    precision = mixing_precision(alpha, 1e3)
    k = t * precision + 1
    paper = sigma * np.sqrt(2 * k / (t**2 * precision) * np.log(np.sqrt(k) / alpha))
    np.testing.assert_allclose(half_width(sigma / np.sqrt(t), t, alpha=alpha, precision=precision), paper)


def test_the_interval_is_tightest_where_it_was_asked_to_be() -> None:
    t = 5_000.0
    tried = np.geomspace(0.05, 20, 401)
    best = mixing_precision(0.05, t)
    widths = [float(half_width(1.0, t, alpha=0.05, precision=best * factor)) for factor in tried]
    assert abs(np.log(tried[np.argmin(widths)])) < 0.25


@given(
    z=st.floats(0.1, 8.0), t=st.floats(10.0, 1e6), alpha=st.floats(0.001, 0.4), planned=st.floats(100.0, 1e6)
)
def test_the_p_value_is_small_exactly_where_the_interval_leaves_out_zero(
    z: float, t: float, alpha: float, planned: float
) -> None:
    precision = mixing_precision(0.05, planned)
    p = float(always_valid_p([z], [1.0], [t], precision=precision)[0])
    width = float(half_width(1.0, t, alpha=alpha, precision=precision))
    if abs(z - width) > 1e-6:
        assert (p < alpha) == (width < z)


def test_the_one_sided_margin_is_below_the_two_sided_width_of_the_same_error() -> None:
    t = np.geomspace(100, 1e6, 50)
    precision = mixing_precision(0.05, 10_000)
    one = one_sided_margin(1 / np.sqrt(t), t, alpha=0.05, precision=precision)
    two = half_width(1 / np.sqrt(t), t, alpha=0.05, precision=precision)
    assert (one < two).all()
    assert (one > 1.645 / np.sqrt(t)).all()


def test_information_grows_while_users_come_back_though_their_number_stands_still() -> None:
    n_users = np.full(5, 100.0)
    weight = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
    error = 1.0 / np.sqrt(weight)  # independent slates: the variance of the sum grows with their number
    np.testing.assert_allclose(information(error, weight, n_users), weight)


def test_nothing_is_known_before_the_first_standard_error() -> None:
    error = np.array([np.nan, np.nan, 0.1, 0.05])
    informed = information(error, np.array([1.0, 2.0, 10.0, 40.0]), np.array([1.0, 2.0, 10.0, 40.0]))
    assert np.isnan(informed[:2]).all()
    np.testing.assert_allclose(informed[2:], [10.0, 40.0])
    width = half_width(error, informed, alpha=0.05, precision=0.1)
    assert np.isinf(width[:2]).all()
    assert np.isfinite(width[2:]).all()
    p = always_valid_p(np.full(4, 9.0), error, informed, precision=0.1)
    assert p[:2].tolist() == [1.0, 1.0]
    assert p[3] < 1e-6


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.02]), [0.02])
