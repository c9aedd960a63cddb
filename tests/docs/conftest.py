"""A folder as the documents speak of it: ``shop`` with two csv files, and ``bundle`` trained on it."""

import importlib.util
import sys
from pathlib import Path

import polars as pl
import pytest

from zhiyin.data.reading import read_dataset
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import simulate_shop
from zhiyin.experiments.training import train
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.opening import open_database


def _load(name: str) -> None:
    """Make a module of this folder importable for the tests beside it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_load("pages")
_load("references")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of the guide has when a page begins."""
    folder = tmp_path_factory.mktemp("reader")
    shop = simulate_shop(ShopConfig(n_items=240, n_users=120))
    (folder / "shop").mkdir()
    events = shop.interactions.select("user_id", "item_id", "timestamp", "event")
    events.write_csv(folder / "shop" / "interactions.csv")
    items = shop.dataset.catalogue.table.select(
        "item_id", "title", pl.col("categories").list.first(), "brand", "price"
    )
    items.write_csv(folder / "shop" / "items.csv")
    train(read_dataset(folder / "shop"), recipe("fast"), folder / "bundle")
    open_database(f"sqlite:///{folder / 'events.db'}").close()
    return folder
