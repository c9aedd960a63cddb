"""Named, ready configurations; the only place of the pipeline that chooses methods."""

from __future__ import annotations

import json
from typing import Any

from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.pipeline.registry import source_class
from zhiyin.pipeline.settings import PipelineConfig

RECIPES = {
    "popular": PipelineConfig(
        recipe="popular",
        description="What everybody takes. Needs nothing, and is the floor for everything else.",
        sources={"popularity": {}},
    ),
    "fast": PipelineConfig(
        recipe="fast",
        description="Item graph of behaviour and words. No neural training; seconds on one CPU.",
        sources={"item_graph": {}, "popularity": {}},
    ),
    "hybrid": PipelineConfig(
        recipe="hybrid",
        description="Item graph, sequence transformer and language model together. Minutes on one CPU.",
        sources={"item_graph": {}, "sequence": {}, "semantic": {}, "popularity": {}},
    ),
    "best": PipelineConfig(
        recipe="best",
        description="All that helps: hybrid with a text two-tower and matrix factors. Slower to answer.",
        sources={
            "item_graph": {},
            "sequence": {},
            "semantic": {},
            # Adapters inside the encoder cost a CPU far more than the map behind it, for next to nothing.
            "two_tower": {"rank": 0},
            "als": {},
            "popularity": {},
        },
    ),
}


def recipe(name: str, settings: dict[str, str] | None = None) -> PipelineConfig:
    """Return a recipe, changed where asked.

    Args:
        name: One of `RECIPES`.
        settings: Dotted path → value as text, such as ``{"sources.item_graph.window": "5"}``; several values
            stand in brackets, such as ``"[15, 60]"``; ``"{}"`` for a source takes it with its defaults.

    Raises:
        ConfigError: when the recipe or a setting is not known, or a value is out of range.
    """
    if name not in RECIPES:
        raise ConfigError(
            f"There is no recipe '{name}'.{did_you_mean(name, RECIPES)}",
            possible=f"The recipes are: {', '.join(RECIPES)}.",
        )
    plain: dict[str, Any] = RECIPES[name].model_dump()
    for path, value in (settings or {}).items():
        _set(plain, path.split("."), value, path)
    config: PipelineConfig = PipelineConfig.parse(plain, where="pipeline")
    for source_name, source_settings in config.sources.items():
        source_class(source_name).config_class.parse(source_settings, where=f"sources.{source_name}")
    return config


_TASKS = ("ranker", "tasks")
"""A table whose entries have the names that somebody gives them."""


def _set(plain: dict[str, Any], keys: list[str], value: Any, path: str) -> None:
    """Walk down to the last table and write the value; a new source appears by naming it."""
    table = plain
    for depth, key in enumerate(keys[:-1]):
        if keys[0] == "sources" and depth >= 1:
            # A recipe writes down only what differs from the defaults: a source's tables may be absent.
            if depth == 1:
                source_class(key)
            table.setdefault(key, {})
        if tuple(keys[:depth]) == _TASKS:
            table.setdefault(key, {})
        if not isinstance(table.get(key), dict):
            raise ConfigError(
                f"Setting '{path}' is not known.{did_you_mean(key, table)}",
                possible=f"At '{'.'.join(keys[:depth]) or 'the top'}' there is: {', '.join(table)}.",
            )
        table = table[key]
    if table is plain and keys[-1] not in PipelineConfig.model_fields:
        raise ConfigError(
            f"Setting '{path}' is not known.{did_you_mean(keys[-1], plain)}",
            possible=f"At the top there is: {', '.join(plain)}.",
        )
    is_written = isinstance(value, str) and value.lstrip().startswith(("[", "{"))
    table[keys[-1]] = _read(value) if is_written else value
    if len(keys) == 2 and keys[0] == "sources":
        _refuse_no_table(keys[1], table[keys[1]])


def _refuse_no_table(source: str, value: Any) -> None:
    """Raise when a source that is named alone is not given as a table of its settings."""
    source_class(source)
    if not isinstance(value, dict):
        raise ConfigError(
            f"Setting 'sources.{source}' cannot be '{value}': a source is a table of settings.",
            remedy=f"sources.{source}={{}} takes it with its defaults; "
            f"sources.{source}.SETTING=VALUE changes one.",
        )


def _read(value: str) -> Any:
    """Read several values; text that is none stays as it is, and the setting says what it takes."""
    try:
        return json.loads(value)
    except ValueError:
        return value
