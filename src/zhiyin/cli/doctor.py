"""The command that looks at an installation and says what to mend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

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
from zhiyin.serving.settings import load_settings

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
    yield from _settings(store)
    if store is not None:
        yield from look_at_store(store)
    if redis is not None:
        yield from look_at_redis(redis)
    if bundle is not None:
        yield from look_at_bundle(bundle)
    if url is not None:
        yield from look_at_service(url)


def _settings(store: str | None) -> Iterator[Finding]:
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
    # Keys live in the database, which is not opened here: the service itself refuses to start without one.
    found = dangers(settings, 1, store or "sqlite:///zhiyin.db")
    for danger in found:
        yield Finding("settings", Mark.BAD, danger.problem, danger.remedy)
    if not found:
        kind = "production" if settings.production else "not for production"
        yield Finding("settings", Mark.GOOD, f"nothing unsafe ({kind})")


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        colour = _COLOURS[finding.mark]
        remedy = f"\n[dim]{escape(finding.remedy)}[/dim]" if finding.remedy else ""
        mark = f"[{colour}]{finding.mark.value}[/{colour}]"
        table.add_row(mark, finding.name, escape(finding.found) + remedy)
    OUT.print(table)
