"""Commands around experiments of the live service."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zhiyin.cli.audited import noted
from zhiyin.cli.learning import refuse_without_folder
from zhiyin.cli.stores import Tenant, store_beside, store_of
from zhiyin.cli.terminal import OUT
from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.live.figures import day, percent
from zhiyin.evaluation.live.report_page import write_page
from zhiyin.evaluation.live.report_text import render_text
from zhiyin.online.trials.definition import StartedTrial, parse_trial
from zhiyin.online.trials.running import report as judge_trial
from zhiyin.online.trials.running import start as start_trial
from zhiyin.online.trials.running import started_trials
from zhiyin.online.trials.running import stop as stop_trial
from zhiyin.online.versions import stored_attributes
from zhiyin.stores.events import DEFAULT_TENANT

experiments = typer.Typer(
    help="Compare bundles or settings with living users.", no_args_is_help=True, rich_markup_mode="rich"
)

Name = Annotated[str, typer.Argument(help="Name of the experiment.")]
Store = Annotated[
    str,
    typer.Option(
        envvar="ZHIYIN_STORE",
        help="The store the service uses, such as sqlite:///events.db or postgresql://….",
    ),
]


@experiments.command("start")
def start(
    store: Store,
    file: Annotated[
        Path | None, typer.Argument(help="Definition, as TOML or JSON; or name it with --name and --arm.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the experiment.")] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="An arm: NAME answers as before, NAME=VERSION with that bundle. The first is the control."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="ab or interleaving.")] = "ab",
    metric: Annotated[str, typer.Option(help="What is to rise.")] = "ctr",
    share: Annotated[float, typer.Option(help="Share of all users that takes part.")] = 1.0,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Start an experiment; every process of the service follows at once."""
    settings = _definition(file, name, arm or [], {"kind": kind, "metric": metric, "share_of_users": share})
    trial = parse_trial(settings)
    with store_of(store) as database, noted(database.access, tenant, "experiment.change", trial.name):
        tenant_store = database.store(tenant)
        has_boosts = any(arm.boost for arm in trial.arms.values())
        attributes = stored_attributes(tenant_store) if has_boosts else None
        started = start_trial(tenant_store, trial, attributes=attributes)
    OUT.print(f"Started [bold]{escape(started.name)}[/bold] with {_arms(started)}.", highlight=False)


@experiments.command("list")
def list_all(store: Store, tenant: Tenant = DEFAULT_TENANT) -> None:
    """List the experiments of a store, ended ones included."""
    with store_beside(store) as database:
        found = started_trials(database.store(tenant))
    if not found:
        OUT.print("There are no experiments.")
        return
    table = Table("experiment", "kind", "arms", "users", "metric", "state", box=None, pad_edge=False)
    for one in found:
        trial = one.trial
        users = percent(trial.share_of_users)
        table.add_row(escape(one.name), trial.kind, _arms(one), users, trial.metric, _state(one))
    OUT.print(table)


@experiments.command("stop")
def stop(name: Name, store: Store, tenant: Tenant = DEFAULT_TENANT) -> None:
    """End an experiment: everybody gets the ordinary answer again, its report stays."""
    with store_of(store) as database, noted(database.access, tenant, "experiment.change", name):
        stopped = stop_trial(database.store(tenant), name)
    told = f"[bold]{escape(name)}[/bold]"
    if stopped.has_begun(stopped.stop):
        OUT.print(f"Stopped {told} at {day(stopped.stop or 0)}.", highlight=False)
    else:
        OUT.print(f"Removed {told}, which had not begun.", highlight=False)


@experiments.command("report")
def report(
    name: Name,
    store: Store,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Say what an experiment has shown; ask as often as you like."""
    if html is not None:
        refuse_without_folder(html)
    with store_beside(store) as database:
        found = judge_trial(database.store(tenant), name)
    if html is not None:
        write_page(found, html)
    print(json.dumps(found.to_json(), ensure_ascii=False) if as_json else render_text(found).rstrip())


def _definition(
    file: Path | None, name: str | None, arms: list[str], others: dict[str, Any]
) -> dict[str, Any]:
    """Read the definition from a file, or make it of options."""
    if (file is None) == (name is None):
        raise ConfigError(
            "An experiment is defined by a file or by --name and --arm, not by both and not by neither.",
            remedy="zhiyin experiments start new-order.toml --store URL",
        )
    if file is not None:
        return _read(file)
    versions = dict(spec.partition("=")[::2] for spec in arms)
    if len(versions) < 2:
        raise ConfigError(
            f"The experiment '{name}' has {len(versions)} arms.",
            possible="It needs two or more, the control first:  --arm now --arm new=VERSION",
        )
    shares = {"share": 1.0 / len(versions)}
    return {
        "name": name,
        "arms": {arm: {**shares, "bundle": version or None} for arm, version in versions.items()},
        "control": next(iter(versions)),
        **others,
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        read = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"The definition {file} cannot be read: {error}.",
            possible="It is a TOML file, or JSON in *.json.",
        ) from None
    if not isinstance(read, dict):
        raise ConfigError(f"The definition {file} is no table of settings.")
    return read


def _arms(started: StartedTrial) -> str:
    return ", ".join(escape(f"{name} {percent(arm.share)}") for name, arm in started.trial.arms.items())


def _state(started: StartedTrial) -> str:
    if started.is_over():
        return f"ended {day(started.stop or 0)}"
    return f"{'since' if started.has_begun() else 'from'} {day(started.start)}"
