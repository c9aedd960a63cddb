"""Where the sources live; their modules are loaded when a recipe names them, torch not before."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from zhiyin.contracts import CandidateSource
from zhiyin.domain.errors import ConfigError, MissingExtra, did_you_mean
from zhiyin.domain.extras import from_extra

SOURCES = {
    "popularity": "zhiyin.sources.popularity:Popularity",
    "item_graph": "zhiyin.sources.item_graph.source:ItemGraph",
    "item_neighbours": "zhiyin.sources.item_neighbours:ItemNeighbours",
    "user_neighbours": "zhiyin.sources.user_neighbours:UserNeighbours",
    "ease": "zhiyin.sources.ease:Ease",
    "als": "zhiyin.sources.als:Als",
    "bpr": "zhiyin.sources.factors.bpr:Bpr",
    "lightgcn": "zhiyin.sources.factors.lightgcn:LightGcn",
    "semantic": "zhiyin.sources.semantic:SemanticNeighbours",
    "sequence": "zhiyin.sources.sequence.source:SequenceTransformer",
    "two_tower": "zhiyin.sources.two_tower.source:TextTwoTower",
}
ENTRY_POINT_GROUP = "zhiyin.sources"
"""Packages outside Zhiyin add a source by declaring an entry point in this group."""

_EXTRA_OF_PACKAGE = {"torch": "language", "lightning": "language", "transformers": "language"}


def all_sources() -> dict[str, str]:
    """Return name → module and class of every source, those of other packages among them."""
    return SOURCES | {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def source_class(name: str) -> type[CandidateSource[Any]]:
    """Return the class of a source by its name.

    Raises:
        ConfigError: when no source has that name.
        MissingExtra: when it needs a package that is not installed.
    """
    places = all_sources()
    if name not in places:
        raise ConfigError(
            f"There is no source '{name}'.{did_you_mean(name, places)}",
            possible=f"The sources are: {', '.join(sorted(places))}.",
        )
    module, _, class_name = places[name].partition(":")
    try:
        found: type[CandidateSource[Any]] = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _EXTRA_OF_PACKAGE:
            raise MissingExtra(package, _EXTRA_OF_PACKAGE[package]) from None
        raise
    return found


def part_with_torch(module: str) -> Any:
    """Load a part of Zhiyin that needs the packages for language models, by the name of its module.

    Raises:
        MissingExtra: when they are not installed.
    """
    with from_extra("language"):
        return import_module(module)
