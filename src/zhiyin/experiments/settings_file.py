"""Settings in a file: what a search found, or what somebody wrote down."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from zhiyin.domain.errors import ConfigError

_RECIPE, _FINETUNE = "recipe", "finetune"


@dataclass(frozen=True)
class SettingsFile:
    """What such a file says.

    Attributes:
        recipe: Name of the recipe that the settings change; None when the file does not say.
        settings: Dotted path → value, as `zhiyin.pipeline.recipes.recipe` takes them.
    """

    recipe: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_settings(path: Path) -> SettingsFile:
    """Read a file of settings: TOML, or JSON where the name ends so.

    The tables are those of ``--set``: ``window = 5`` under ``[sources.item_graph]`` is
    ``sources.item_graph.window=5``. ``recipe`` at the top names the recipe.

    Raises:
        ConfigError: when there is no such file or it cannot be read.
    """
    tables = _tables_in(path)
    if _FINETUNE in tables:
        raise ConfigError(
            f"The settings {path} are those of fine-tuning, not of a recipe.",
            remedy=f"Use them so:  zhiyin finetune DATA --settings {path} --out MODEL",
        )
    recipe = tables.pop(_RECIPE, None)
    if recipe is not None and not isinstance(recipe, str):
        raise ConfigError(f"The settings {path} name no recipe: {recipe!r} is not a word.")
    return SettingsFile(recipe, _flat(tables, ""))


def _tables_in(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise ConfigError(
            f"The settings {path} cannot be read: {why}.",
            remedy="Name a TOML or JSON file, such as the best.toml that `zhiyin tune` writes.",
        ) from None
    try:
        tables = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"The settings {path} are not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}."
        ) from None
    if not isinstance(tables, dict):
        raise ConfigError(f"The settings {path} are not a table.", remedy='Begin with  recipe = "fast"')
    return tables


@dataclass(frozen=True)
class FinetuningFile:
    """What a file of settings says about fine-tuning.

    Attributes:
        base: What to start from; None when the file does not say.
        tasks: Names of what is foretold.
        settings: Dotted path below `zhiyin.language.finetuning.settings.FinetuningConfig` → value.
    """

    base: str | None = None
    tasks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_finetuning(path: Path) -> FinetuningFile:
    """Read what stands below ``[finetune]``: ``base``, ``task`` and the tables of ``--set``.

    Raises:
        ConfigError: when there is no such file, it cannot be read, or holds something else.
    """
    tables = _tables_in(path)
    told = tables.get(_FINETUNE)
    if not isinstance(told, dict) or len(tables) > 1:
        others = ", ".join(name for name in tables if name != _FINETUNE) or "nothing"
        raise ConfigError(
            f"The settings {path} are not those of fine-tuning: they hold {others}.",
            remedy="All of them stand below one table, as in  [finetune.training]  learning_rate = 0.001",
        )
    base, tasks = told.pop("base", None), told.pop("task", [])
    tasks = [tasks] if isinstance(tasks, str) else tasks
    is_list = isinstance(tasks, list) and all(isinstance(task, str) for task in tasks)
    if not isinstance(base, str | None) or not is_list:
        raise ConfigError(f"The settings {path} name no base or task: these are words.")
    return FinetuningFile(base, tuple(tasks), _flat(told, ""))


def written_finetuning(
    base: str, tasks: Sequence[str], settings: Mapping[str, Any], notes: Sequence[str] = ()
) -> str:
    """Write settings as TOML that `read_finetuning` reads; the arguments are those of `FinetuningFile`.

    Args:
        base: What to start from.
        tasks: Names.
        settings: Dotted path → value; texts that are numbers are written as numbers.
        notes: Lines for the head of the file.
    """
    told = {"base": base, "task": list(tasks), **nested(_all_plain(settings))}
    return _with_notes({_FINETUNE: told}, notes)


def with_settings(
    recipe: str | None, path: Path | None, given: Mapping[str, Any], *, otherwise: str
) -> tuple[str, dict[str, Any]]:
    """Join what was said in three ways; what is said closer to the command counts more.

    Args:
        recipe: Named in the command, or None.
        path: A file of settings, or None.
        given: Dotted path → value, from the command; counts before the file.
        otherwise: The recipe when neither command nor file names one.

    Returns:
        The recipe's name and all settings.

    Raises:
        ConfigError: when the file cannot be read, or names another recipe than the command: settings
            that were found good for one say little about another.
    """
    read = SettingsFile() if path is None else read_settings(path)
    if recipe is not None and read.recipe not in (None, recipe):
        raise ConfigError(
            f"The settings {path} are those of the recipe '{read.recipe}', and the command names '{recipe}'.",
            remedy=f'Name one of them: leave --recipe out, or the line  recipe = "{read.recipe}"  in a copy.',
        )
    return recipe or read.recipe or otherwise, {**read.settings, **given}


def written_settings(recipe: str, settings: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    """Write settings as TOML that `read_settings` reads.

    Args:
        recipe: Its name.
        settings: Dotted path → value; texts that are numbers are written as numbers.
        notes: Lines for the head of the file.
    """
    return _with_notes({_RECIPE: recipe, **nested(_all_plain(settings))}, notes)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted path → value as tables in tables.

    Raises:
        ConfigError: when a path leads through a value.
    """
    tables: dict[str, Any] = {}
    for path, value in settings.items():
        *places, name = path.split(".")
        table = tables
        for place in places:
            table = table.setdefault(place, {})
            if not isinstance(table, dict):
                raise ConfigError(f"Setting '{path}' is not known: '{place}' is a value, not a table.")
        table[name] = deepcopy(value)  # a table may be written into by the paths that follow
    return tables


def _all_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {path: _plain(value) for path, value in settings.items()}


def _with_notes(tables: Mapping[str, Any], notes: Sequence[str]) -> str:
    return "".join(f"# {note}\n" for note in notes) + tomli_w.dumps(tables)


def _flat(tables: Mapping[str, Any], before: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    # A table is a source with some settings or none, and others may follow.
    for kind in (json.loads,) if value.lstrip().startswith("{") else (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
