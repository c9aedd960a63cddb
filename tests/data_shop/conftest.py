"""One small shop for all tests of it."""

import pytest

from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import Shop, simulate_shop


@pytest.fixture(scope="session")
def small_shop() -> Shop:
    return simulate_shop(ShopConfig(n_items=900, n_users=600, n_days=60, seed=3, visits_per_user=8.0))
