"""A small shop on disk, and a bundle trained on it by the command itself."""

import sys

import pytest

from zhiyin.cli.main import main
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import simulate_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shop"
    simulate_shop(ShopConfig(n_items=300, n_users=200, n_days=60)).write(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(shop):
    folder = shop.parent / "bundle"
    command = ["zhiyin", "train", str(shop), "--recipe", "fast", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return folder
