"""Commands that answer: one user in the terminal, everybody over HTTP."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from zhiyin.cli.terminal import ERR, OUT
from zhiyin.domain.errors import ConfigError, RequestError
from zhiyin.domain.extras import from_extra
from zhiyin.experiments.reporting import proposers
from zhiyin.pipeline.bundle import load_bundle, read_card
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.presentation.reasons import title_of

Bundle = Annotated[Path, typer.Argument(help="Folder written by `zhiyin train`.")]
_SHOWN_HISTORY = 8


def recommend(
    bundle: Bundle,
    user: Annotated[str, typer.Option(help="Id of the user; an unknown one is served as somebody new.")],
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many items.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each item stands there.")] = False,
) -> None:
    """Print recommendations for one user."""
    if any("\ud800" <= sign <= "\udfff" for sign in user):
        raise RequestError(f"--user {user!a} is not written in UTF-8.", remedy="Set the terminal to UTF-8.")
    pipeline = load_bundle(bundle)
    if user not in pipeline.users:
        ERR.print(
            f"'{escape(user)}' is not known: these are recommendations for somebody new.", style="yellow"
        )
    show_user(pipeline, user, n, explain=explain)


def serve(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Folder written by `zhiyin train`; without it, what the store holds."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="ZHIYIN_STORE",
            help="Where all that arrives is kept: sqlite:/// or postgresql://. By default BUNDLE.db beside"
            " the bundle.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on; default 8000, 0 takes any free one."),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            help="Redis that several processes share, such as redis://127.0.0.1/0; or ZHIYIN_REDIS says it."
        ),
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            help="Stream of events to take in, such as redis://host/0?stream=events; several one by one."
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with settings of the service. Options and variables ZHIYIN_… go before it."
        ),
    ] = None,
) -> None:
    """Serve over HTTP, learning from every event; Ctrl-C stops, and nothing accepted is lost."""
    given = {"host": host, "port": port, "sharing.redis": redis, "sharing.streams": stream or None}
    run_service(bundle, store, settings, **given)


def run_service(bundle: Path | None, store: str | None, settings_file: Path | None, **given: Any) -> None:
    """Serve until stopped.

    Args:
        bundle: Folder of a bundle; None for what the store holds.
        store: URL; None for a file beside the bundle.
        settings_file: TOML.
        given: Settings that go before those of the file and the environment.

    Raises:
        ConfigError: when neither a bundle nor a store is named, or a setting is wrong.
        MissingExtra: when the packages of the extra 'serve' are not installed.
    """
    with from_extra("serve"):
        from zhiyin.serving.running import LOOP_THREAD  # noqa: PLC0415 - fastapi is an extra
        from zhiyin.serving.running import serve as serve_bundle  # noqa: PLC0415
        from zhiyin.serving.settings import load_settings  # noqa: PLC0415
    if bundle is not None:
        read_card(bundle)  # whatever is no bundle is said before its place is made into a path
        store = store or f"sqlite:///{bundle.resolve().parent / (bundle.resolve().name + '.db')}"
    if store is None:
        raise ConfigError(
            "There is nothing to serve.",
            remedy="Name a bundle:  zhiyin serve BUNDLE, or a store with one:  zhiyin serve --store URL",
        )
    serve_bundle(bundle, store_url=store, settings=load_settings(settings_file, os.environ, **given))
    _leave_behind(LOOP_THREAD)


def _leave_behind(threads: str) -> None:
    """End the process at once where the learning loop still trains; everything else is closed by now.

    An interpreter that ends in the ordinary way while a thread computes is ended with an error by the system.
    """
    if any(thread.name.startswith(threads) for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _nothing_for(user: str, *, has_history: bool) -> RequestError:
    if has_history:
        return RequestError(
            f"Nothing can be recommended to '{user}': every item that a source proposes is one they had.",
            remedy='Bring more items, or allow repeats (over HTTP: "repeat": true).',
        )
    return RequestError(
        f"Nothing can be recommended to '{user}': no source serves users without history.",
        remedy="Add the source 'popularity' to the recipe.",
    )


def show_user(pipeline: Pipeline, user: str, n: int, *, explain: bool) -> None:
    """Print what a user did last and what is recommended."""
    catalogue = pipeline.catalogue_or_raise()
    queries = pipeline.queries_for([user])
    recent = list(dict.fromkeys(queries.histories.item_index.tolist()))[-_SHOWN_HISTORY:]
    OUT.print(f"[bold]{escape(user)}[/bold]", highlight=False)
    for item in recent:
        OUT.print(f"  had  {escape(title_of(catalogue, item))}", highlight=False)
    slate = pipeline.recommend(queries, n)
    if not slate.is_item.any():
        raise _nothing_for(user, has_history=bool(recent))
    table = Table(box=None, pad_edge=False, show_header=False)
    places = np.flatnonzero(slate.is_item[0])
    for place, answer in zip(places, pipeline.explain(queries, slate)[0], strict=True):
        title = escape(title_of(catalogue, int(slate.item_index[0, place])))
        by = ", ".join(proposers(answer.sources or {}))
        told = "  ".join(f"{task} {value:.3g}" for task, value in (answer.predictions or {}).items())
        why = "\n[dim]" + escape("; ".join(answer.reasons)) + "[/dim]" if explain else ""
        table.add_row(f"{answer.rank:4}", escape(answer.item_id), title + why, told, f"[dim]{by}[/dim]")
    OUT.print(table)
