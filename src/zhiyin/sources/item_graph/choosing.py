"""Choosing the settings of the item graph from the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zhiyin.contracts import Progress
from zhiyin.sources.item_graph.settings import ItemGraphConfig

Settings = Mapping[str, float]

STARTS: tuple[Settings, ...] = (
    {},
    # Long histories of ratings: direct order matters, text hardly, and frequent items need holding back.
    {
        "window": 5, "backward": 0.15, "history_decay": 0.7,
        "row_exponent": 0.5, "column_exponent": 0.15, "text_weight": 0.0,
    },
)  # fmt: skip

ALTERNATIVES: Mapping[str, tuple[float, ...]] = {
    "text_weight": (0.0, 0.03, 0.1, 0.3, 0.8, 1.2, 1.8),
    "history_decay": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "row_exponent": (0.0, 0.15, 0.25, 0.4, 0.5, 0.65),
    "column_exponent": (0.0, 0.15, 0.3, 0.45),
    "backward": (0.0, 0.15, 0.3, 0.6),
    "decay": (0.7, 0.85, 0.95),
}


def choose_settings(
    config: ItemGraphConfig, quality: Callable[[ItemGraphConfig], float], progress: Progress
) -> ItemGraphConfig:
    """Climb from the best start, one setting at a time, to the neighbouring value that ranks better.

    Each setting is moved along its list of alternatives while that helps; one round over all settings. A
    setting that was given, not left at its default, is never moved.

    Args:
        config: Where to begin; settings not listed in `ALTERNATIVES` stay.
        quality: Settings → validation NDCG@10.
        progress: Who listens.
    """
    given = config.model_fields_set
    starts = [
        config.model_copy(update={name: value for name, value in start.items() if name not in given})
        for start in STARTS
    ]
    qualities = [quality(start) for start in starts]
    best_quality, best = max(zip(qualities, starts, strict=True), key=lambda pair: pair[0])
    movable = [name for name in ALTERNATIVES if name not in given]
    for name in progress.track(movable, "item graph: choosing settings"):
        best, best_quality = _climb(best, best_quality, name, quality)
    return best


def _climb(
    best: ItemGraphConfig, best_quality: float, name: str, quality: Callable[[ItemGraphConfig], float]
) -> tuple[ItemGraphConfig, float]:
    values = sorted({*ALTERNATIVES[name], getattr(best, name)})
    for step in (1, -1):
        place = values.index(getattr(best, name)) + step
        moved = False
        while 0 <= place < len(values):
            candidate = best.model_copy(update={name: values[place]})
            candidate_quality = quality(candidate)
            if candidate_quality <= best_quality:
                break
            best, best_quality, moved = candidate, candidate_quality, True
            place += step
        if moved:
            break
    return best, best_quality
