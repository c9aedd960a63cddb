"""The command that looks at an installation and says what to mend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zhiyin.cli.terminal import OUT
from zhiyin.domain.errors import ZhiyinError
from zhiyin.experiments.doctor.bundle import look_at_bundle
from zhiyin.experiments.doctor.findings import Finding, Mark
from zhiyin.experiments.doctor.machine import look_at_machine, look_at_port, worst
from zhiyin.experiments.doctor.packages import look_at_packages
from zhiyin.experiments.doctor.service import look_at_service
from zhiyin.experiments.doctor.storage import look_at_redis, look_at_store, look_at_vectors
from zhiyin.experiments.doctor.stored import Stored, look_into_store
from zhiyin.serving.settings import ServingSettings, load_settings
from zhiyin.stores.events import DEFAULT_TENANT

if TYPE_CHECKING:
    from zhiyin.online.asked import Accepted
    from zhiyin.stores.records import Event

_COLOURS = {Mark.GOOD: "green", Mark.ABSENT: "dim", Mark.WARNING: "yellow", Mark.BAD: "red"}


def doctor(
    store: Annotated[
        str | None, typer.Option(envvar="ZHIYIN_STORE", help="URL of a store to look at.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(envvar="ZHIYIN_REDIS", help="URL of a Redis to look at.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle to look at.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of a running service to look at.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at this machine and at the parts of a service, and say what to mend; changes nothing."""
    findings = list(_look(store, redis, bundle, url))
    is_healthy = worst(findings) is not Mark.BAD
    if as_json:
        listed = [
            {"name": f.name, "mark": f.mark.name.lower(), "found": f.found, "remedy": f.remedy}
            for f in findings
        ]
        print(json.dumps({"healthy": is_healthy, "findings": listed}, ensure_ascii=False, indent=2))
    else:
        _show(findings)
    if not is_healthy:
        raise typer.Exit(1)


def _look(store: str | None, redis: str | None, bundle: Path | None, url: str | None) -> Iterator[Finding]:
    yield from look_at_packages()
    yield from look_at_machine()
    stored = look_into_store(store) if store is not None else None
    yield from _settings(store, stored, has_bundle=bundle is not None)
    if store is not None:
        yield from look_at_store(store)
    if stored is not None:
        yield from stored.findings
    if redis is not None:
        yield from look_at_redis(redis)
    if bundle is not None:
        yield from look_at_bundle(bundle)
    if url is not None:
        yield from look_at_service(url)


def _settings(store: str | None, stored: Stored | None, *, has_bundle: bool) -> Iterator[Finding]:
    """Look at the settings that the environment gives."""
    try:
        settings = load_settings()
    except ZhiyinError as error:
        yield Finding("settings", Mark.BAD, error.problem, error.remedy or error.possible)
        return
    yield look_at_port(settings.host, settings.port)
    has_secret = settings.privacy.secret is not None
    yield Finding(
        "secret",
        Mark.GOOD if has_secret else Mark.ABSENT,
        "ZHIYIN_SECRET is set" if has_secret else "ZHIYIN_SECRET is not set",
        "" if has_secret else "Receipts and pseudonyms need one; in production the service asks for it.",
    )
    if settings.sharing.vectors is not None:
        yield from look_at_vectors(settings.sharing.vectors.get_secret_value())
    try:
        from zhiyin.serving.access.safety import dangers  # noqa: PLC0415 - starlette is an extra
    except ModuleNotFoundError:
        return
    # Where the store is not named, or cannot be read, the service itself looks for keys when it starts.
    found = dangers(settings, 1 if stored is None else stored.n_keys, store or "sqlite:///zhiyin.db")
    for danger in found:
        yield Finding("settings", Mark.BAD, danger.problem, danger.remedy)
    if not found:
        kind = "production" if settings.production else "not for production"
        yield Finding("settings", Mark.GOOD, f"nothing unsafe ({kind})")
    served = set(stored.tenants) if stored is not None else set()
    yield from _beside_the_requests(settings, served | ({DEFAULT_TENANT} if has_bundle else set()))


def _beside_the_requests(settings: ServingSettings, served: set[str]) -> Iterator[Finding]:
    """Look at rules of alerts, streams and the loop, as the service does before it starts.

    Args:
        settings: Of the service.
        served: Tenants that have bundles; empty where that is not known.
    """
    from zhiyin.experiments.refreshing.loop import refuse_unknown_recipe  # noqa: PLC0415 - the same
    from zhiyin.online.streams.opening import open_stream  # noqa: PLC0415 - what it imports takes a while
    from zhiyin.serving.alerts.rules import load_alerts  # noqa: PLC0415 - the same
    from zhiyin.serving.stream_rules import refuse_shared_groups, refuse_unserved  # noqa: PLC0415 - the same

    checks: list[tuple[str, Callable[[], object]]] = [("alerts", lambda: load_alerts(settings.alerts))]
    streams = settings.sharing.streams
    if streams:
        checks.append(("streams", lambda: refuse_shared_groups(streams)))
    for url in streams:
        checks.append(("streams", partial(open_stream, url, _takes_nothing)))
        if served:
            checks.append(("streams", partial(refuse_unserved, url, served)))
    if settings.learning.every_minutes:
        checks.append(("learning", lambda: refuse_unknown_recipe(settings.learning)))
    for name in dict.fromkeys(name for name, _ in checks):
        problems = list(filter(None, (_problem(name, check) for of, check in checks if of == name)))
        yield from dict.fromkeys(problems) if problems else [Finding(name, Mark.GOOD, "can be read")]


def _problem(name: str, check: Callable[[], object]) -> Finding | None:
    try:
        check()
    except ZhiyinError as error:
        remedy = " ".join(filter(None, (error.possible, error.remedy)))
        return Finding(name, Mark.BAD, error.problem, remedy)
    return None


def _takes_nothing(_: Sequence[Event]) -> Future[Accepted]:
    raise AssertionError("nothing is read from a stream that is only looked at")


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        colour = _COLOURS[finding.mark]
        remedy = f"\n[dim]{escape(finding.remedy)}[/dim]" if finding.remedy else ""
        mark = f"[{colour}]{finding.mark.value}[/{colour}]"
        table.add_row(mark, finding.name, escape(finding.found) + remedy)
    OUT.print(table)
