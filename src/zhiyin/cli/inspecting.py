"""Commands that look without changing anything."""

from __future__ import annotations

from textwrap import fill, indent
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zhiyin.cli.terminal import OUT
from zhiyin.contracts import Config, settings_of
from zhiyin.data.checking import check as check_data
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.pipeline.recipes import RECIPES, recipe
from zhiyin.pipeline.registry import SOURCES, all_sources, source_class
from zhiyin.pipeline.settings import RankerTask

_WIDTH = 90


def check(
    data: Annotated[str, typer.Argument(help="Folder of data files, or the URL of an SQL database.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what the data holds and everything that is wrong with it."""
    report = check_data(data)
    print(report.to_json() if as_json else report.render())
    if report.errors:
        raise typer.Exit(1)


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe or source whose settings are wanted.")] = None,
) -> None:
    """List the recipes, or every setting of a recipe or a source with its default and meaning."""
    if name is None:
        table = Table("recipe", "sources", "what it is for", box=None, pad_edge=False)
        for config in RECIPES.values():
            table.add_row(f"[bold]{config.recipe}[/bold]", ", ".join(config.sources), config.description)
        OUT.print(table)
        OUT.print("\nEvery setting of one:  zhiyin recipes hybrid", highlight=False)
        used = {source for config in RECIPES.values() for source in config.sources}
        others = ", ".join(source for source in SOURCES if source not in used)
        OUT.print(f"In no recipe: {others}", highlight=False)
        OUT.print("Every setting of a source:  zhiyin recipes bpr", highlight=False)
        OUT.print("Add one by a setting of it:  --set sources.bpr.dimension=64", highlight=False)
        return
    if name not in RECIPES and name in all_sources():
        OUT.print(f"[bold]{name}[/bold]: a source, no recipe by itself\n")
        _show(f"sources.{name}", source_class(name).config_class())
        OUT.print(
            f"Add it to a recipe:  zhiyin train DATA --recipe fast --out BUNDLE --set 'sources.{name}={{}}'"
        )
        return
    if name not in RECIPES:
        sources = sorted(all_sources())
        raise ConfigError(
            f"There is no recipe or source '{name}'.{did_you_mean(name, [*RECIPES, *sources])}",
            possible=f"The recipes are: {', '.join(RECIPES)}; the sources: {', '.join(sources)}.",
        )
    config = recipe(name)
    OUT.print(f"[bold]{name}[/bold]: {config.description}\n")
    for source, settings in config.sources.items():
        config_class = source_class(source).config_class
        _show(f"sources.{source}", config_class.parse(settings, where=source))
    _show("merge", config.merge)
    _show("rerank", config.rerank)
    _show("ranker", config.ranker)
    _show("ranker.tasks.NAME", RankerTask())
    _show("new_items", config.new_items)
    OUT.print(f"Change one:  zhiyin train DATA --recipe {name} --out BUNDLE --set merge.n_candidates=300")


def _show(place: str, config: Config) -> None:
    for setting in settings_of(config):
        value = escape(str(setting.value))
        OUT.print(f"{place}.[bold]{setting.path}[/bold] = {value}", highlight=False)
        OUT.print(escape(indent(fill(setting.meaning, _WIDTH), "    ")), style="dim", highlight=False)
    OUT.print()
