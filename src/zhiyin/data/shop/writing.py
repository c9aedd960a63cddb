"""Writing the simulated shop as a data folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import tomli_w

from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import DataError

_README = """This data is simulated.

No person, shop, brand or product in it exists. It was made by Zhiyin from a seed: items have
properties, users have tastes for properties, and behaviour follows from both by chance. It is good for
trying things out and for tests whose right answer is known. It says nothing about how well a method
works on real people.

interactions.parquet   what {n_users} simulated users did: view, cart, purchase, rating (value 1 to 5)
items.parquet          {n_items} items with English and Chinese texts
users.parquet          what the shop knows about its users
facts.parquet          head, relation, tail
impressions.parquet    what was shown at which rank, and how likely the shop was to show it there
                       (propensity: the chance of this item given the items above it)
dataset.toml           what the events are worth
"""


def write_shop(folder: Path, interactions: pl.DataFrame, dataset: Dataset) -> Path:
    """Write the tables, ``dataset.toml`` and a README that says it is simulated.

    Raises:
        DataError: when the folder or a file cannot be written.
    """
    tables = {
        "interactions": interactions,
        "items": dataset.catalogue.table,
        "users": dataset.user_table,
        "facts": dataset.facts,
        "impressions": dataset.impressions,
    }
    weights = dict(zip(dataset.event_kinds, dataset.event_weights.tolist(), strict=True))
    description = {
        "name": dataset.name,
        "events": weights,
        "values": {"positive": dataset.positive_value, "minimum": 1.0, "maximum": 5.0},
    }
    readme = _README.format(n_users=dataset.n_users, n_items=dataset.n_items)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            if table is not None:
                table.write_parquet(folder / f"{name}.parquet")
        (folder / "dataset.toml").write_text(tomli_w.dumps(description), encoding="utf-8")
        (folder / "README.txt").write_text(readme, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"The simulated shop cannot be written to {folder}: {error.strerror or error}.",
            remedy="Name a folder that can be written to.",
        ) from None
    return folder
