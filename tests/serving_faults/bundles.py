"""Bundles of a small tea shop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zhiyin.contracts import TrainingData
from zhiyin.domain import Histories
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.testing.tea_shop import tea_shop


def two_bundles(folder: Path) -> tuple[Path, Path]:
    """Train two bundles with the same items and users on different tastes, and save them in a folder."""
    dataset = tea_shop()
    other = replace(dataset, histories=_mirrored(dataset.histories, len(dataset.catalogue)))
    made = []
    for name, data in (("first", dataset), ("second", other)):
        pipeline = Pipeline(recipe("fast"))
        pipeline.fit(TrainingData(data, pipeline.language))
        made.append(save_bundle(pipeline, folder / name))
    return made[0], made[1]


def _mirrored(histories: Histories, n_items: int) -> Histories:
    """Return histories in which everybody took the opposite item."""
    return replace(histories, item_index=(n_items - 1 - histories.item_index).astype("int32"))
