"""Commands that keep a service learning: put bundles into the store, go back, and the loop itself."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.markup import escape

from zhiyin.cli.audited import noted
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.stores import Tenant, store_of
from zhiyin.cli.terminal import ERR, OUT
from zhiyin.domain.errors import RequestError
from zhiyin.experiments.refreshing.loop import Customs, LearningLoop, Step, refuse_unknown_recipe
from zhiyin.experiments.refreshing.settings import FULL, INCREMENTAL, LoopConfig
from zhiyin.experiments.refreshing.versions import REFUSED, put_in_use, version_before
from zhiyin.experiments.refreshing.versions import publish as put_bundle
from zhiyin.experiments.refreshing.versions import release as release_pin
from zhiyin.experiments.refreshing.versions import rollback as roll_back
from zhiyin.online.trials.running import versions_tried
from zhiyin.serving.access.secret import open_secrets
from zhiyin.serving.border import Border
from zhiyin.serving.settings import PrivacySettings, load_settings
from zhiyin.stores.events import DEFAULT_TENANT, Database

Store = Annotated[
    str,
    typer.Option(
        envvar="ZHIYIN_STORE",
        help="The store the service uses, such as sqlite:///events.db or postgresql://….",
    ),
]
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def publish(
    bundle: Annotated[Path, typer.Argument(help="Folder written by `zhiyin train`.")],
    store: Store,
    tenant: Tenant = DEFAULT_TENANT,
    activate: Annotated[
        bool,
        typer.Option("--activate", help="Serve it from now on; running services swap to it by themselves."),
    ] = False,
) -> None:
    """Put a bundle into the store, so that every process of the service can serve it."""
    with store_of(store, may_make=True) as database:
        events = database.store(tenant)
        version = put_bundle(events, bundle)
        if activate:
            with noted(database.access, tenant, "bundle.activate", version):
                put_in_use(events, version)
    OUT.print(f"Version {version} is in the store{' and in use' if activate else ''}.", highlight=False)
    if not activate:
        OUT.print(f"Next:   zhiyin publish {bundle} --activate, with the same --store", highlight=False)


def rollback(
    store: Store,
    tenant: Tenant = DEFAULT_TENANT,
    to: Annotated[
        str | None, typer.Option(help="Version to serve; the one before the one in use where it is left out.")
    ] = None,
) -> None:
    """Serve an earlier version again; services swap by themselves, and the loop waits for --release."""
    with store_of(store) as database:
        events = database.store(tenant)
        to = to or version_before(events)
        with noted(database.access, tenant, "bundle.activate", to):
            version = roll_back(events, to)
        facts = next(bundle.facts for bundle in events.bundles() if bundle.version == version)
    OUT.print(f"Version {version} is in use.", highlight=False)
    if REFUSED in facts:
        ERR.print(f"The loop had refused it: {facts[REFUSED]}.", style="yellow", highlight=False)


def loop(
    store: Store,
    tenant: Tenant = DEFAULT_TENANT,
    every: Annotated[
        str, typer.Option(help="Time from the beginning of one round to the next: 90s, 15m, 2h or 1d.")
    ] = "15m",
    once: Annotated[bool, typer.Option("--once", help="Do one round, then end.")] = False,
    recipe: Annotated[
        str,
        typer.Option(
            help=f"'{INCREMENTAL}' goes on from the bundle in use, '{FULL}' trains its recipe from nothing;"
            " or the name of a recipe to change over to."
        ),
    ] = INCREMENTAL,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a setting of the loop, such as judging.fewest_events=50; several one by one.",
        ),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Learn on after somebody went back to an earlier version.")
    ] = False,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="TOML file with settings of the service, which say whether its people have pseudonyms.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a step.")] = False,
) -> None:
    """Learn from the log of a service, again and again: refresh, judge, publish, watch for drift."""
    config = loop_config(seconds_of(every), recipe, settings or [])
    privacy = load_settings(settings_file, os.environ).privacy
    stop = threading.Event()
    with store_of(store) as database:
        learning = LearningLoop(
            database.store(tenant),
            config,
            listen=_as_json if as_json else _as_line,
            progress=None if as_json else TerminalProgress(ERR),
            customs=Customs(
                activating=partial(noted, database.access, tenant, "bundle.activate", by_loop=True),
                needed=versions_tried,
                named=_naming(database, tenant, privacy),
            ),
        )
        if release:
            release_pin(database.store(tenant))
        with _stopping(stop):
            if once:
                learning.round(stop)
            else:
                learning.run(stop)


def _naming(database: Database, tenant: str, privacy: PrivacySettings) -> Callable[[list[str]], list[str]]:
    """Return how users of a bundle are named in the store; a secret is only asked for where it is needed."""
    if not privacy.pseudonymise:
        return list
    return partial(Border(open_secrets(privacy, database.store()), privacy).people_of_bundle, tenant)


def loop_config(seconds: float, recipe: str, pairs: list[str]) -> LoopConfig:
    """Build the settings of the loop.

    Raises:
        ConfigError: when a setting or the recipe is not known.
        RequestError: when a pair has no value.
    """
    plain: dict[str, Any] = {"every_minutes": seconds / 60.0, "refresh": {"recipe": recipe}}
    for pair in pairs:
        path, has_value, value = pair.partition("=")
        if not has_value:
            raise RequestError(f"--set {pair} has no value.", remedy=f"Write it as --set {pair}=VALUE.")
        *tables, name = path.strip().split(".")
        table = plain
        for key in tables:
            table = table.setdefault(key, {})
        table[name] = value.strip()
    config: LoopConfig = LoopConfig.parse(plain, where="loop")
    refuse_unknown_recipe(config)
    return config


def seconds_of(duration: str) -> float:
    """Read ``90s``, ``15m``, ``2h`` or ``1d``.

    Raises:
        RequestError: when it is none of these.
    """
    number, unit = duration[:-1], duration[-1:]
    if unit not in _SECONDS or not number.replace(".", "", 1).isdecimal() or float(number) <= 0:
        raise RequestError(f"--every {duration} is no time.", possible="Write 90s, 15m, 2h or 1d.")
    return float(number) * _SECONDS[unit]


class _stopping:  # noqa: N801 - reads as a verb after "with"
    """End cleanly on SIGTERM and SIGINT: the step that runs is finished, nothing more is begun."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._asked)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._stop.set()


def _as_line(step: Step) -> None:
    now = datetime.now(UTC).strftime("%H:%M:%S")
    OUT.print(
        f"{now}  {step.name:<8} {escape(step.message)} [dim]({step.seconds:.1f} s)[/dim]",
        highlight=False,
        soft_wrap=True,
    )


def _as_json(step: Step) -> None:
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step.name,
        "message": step.message,
        "seconds": round(step.seconds, 3),
        **step.facts,
    }
    print(json.dumps(told, ensure_ascii=False), flush=True)
