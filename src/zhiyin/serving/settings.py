"""Settings of the service, and where they come from: a TOML file and the environment."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, SecretStr

from zhiyin.contracts import Config
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.experiments.refreshing.settings import LoopConfig


class AccessSettings(Config):
    """Who may come in, from where and how often."""

    cors_origins: tuple[str, ...] = ()
    """Web pages that may call the service from a browser, such as https://shop.example; none at first."""
    docs: bool | None = None
    """Whether /docs and /openapi.json are shown to everybody. Left out, they are outside production, and ask
    for an admin key in production; false hides them."""
    requests_per_second: NonNegativeFloat = 200.0
    """What one key may ask for, unless the key has its own limit; 0 sets no limit."""
    burst_seconds: PositiveFloat = Field(default=2.0, le=3_600)
    """How many seconds' worth of requests a key may spend at once after a pause."""
    key_cache_seconds: float = Field(default=2.0, ge=0, le=5)
    """How long a key that was looked up is believed; a revoked key works at most this long."""
    key_outage_seconds: float = Field(default=300.0, ge=0, le=3_600)
    """How long a key that was looked up is believed while the database cannot be read."""
    body_seconds: PositiveFloat = Field(default=20.0, le=600)
    """How long a request may take to arrive; slower ones are refused with 408. A stream of events may take
    longer, but never stop for so long."""
    max_headers: PositiveInt = 100
    """Most headers of a request; more are refused with 431."""
    max_header_bytes: PositiveInt = 32_768
    """Most bytes of all headers of a request together; more are refused with 431."""


class PrivacySettings(Config):
    """What is hidden about the people whose events are kept."""

    secret: SecretStr | None = None
    """Text of 32 characters or more that nobody can guess; receipts of erasure and pseudonyms are made with
    it. Better in the environment, as ZHIYIN_SECRET, than in a file."""
    previous_secrets: tuple[SecretStr, ...] = ()
    """Secrets of before; receipts made with them can still be verified."""
    pseudonymise: bool = False
    """Whether user ids are replaced by pseudonyms before anything is stored."""
    personal_fields: tuple[str, ...] = ()
    """Attributes of users and fields of a context whose values are replaced like user ids. Needs
    pseudonymise."""


class AnswerSettings(Config):
    """How recommendations are computed, and what happens when there is too little time."""

    n_threads: PositiveInt = 1
    """Batches of requests that are computed at the same time."""
    math_threads: PositiveInt = 1
    """Cores that one batch uses; more help where batches are large and cores idle."""
    max_batch: PositiveInt = 128
    """Requests that are computed together at most; nobody is held back to fill a batch."""
    max_waiting: PositiveInt = 256
    """Requests that may wait or be computed; more are refused with 503."""
    budget_ms: PositiveFloat = 1_000.0
    """Milliseconds after which a request for a slate is answered from memory, or with what all take."""
    stage_budget_ms: PositiveFloat = 500.0
    """Milliseconds that a source or the ranker may take for one batch; what takes longer three times in a row
    is done without for ten seconds, and then tried again."""
    impression_capacity: PositiveInt = 10_000
    """Shown slates that may wait to be stored; more are dropped and counted."""


class SharingSettings(Config):
    """What several processes of the service have in common, beside the store."""

    redis: SecretStr | None = None
    """URL of a Redis, such as redis://127.0.0.1:6379/0: processes then learn from each other at once without
    asking the database, and share rate limits."""
    streams: tuple[str, ...] = ()
    """URLs of streams whose events are taken in, such as redis://host/0?stream=events&group=zhiyin."""
    vectors: SecretStr | None = None
    """URL of a PostgreSQL with pgvector, or of a Milvus, in which sources with an index search; left out,
    each process has its own."""


class LearningSettings(LoopConfig):
    """The learning loop in the service itself."""

    every_minutes: NonNegativeFloat = 0.0
    """How often the service learns a new bundle from its own log, in a thread; 0: `zhiyin loop` does."""


class ServingSettings(Config):
    """How the service listens and where its limits are."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine the service answers only requests with a key."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen on; 0 takes any free one."""
    production: bool = False
    """Whether real people are served: the service then refuses to start with unsafe settings."""
    max_body_bytes: PositiveInt = 8_000_000
    """Longest request body, in bytes; longer ones are refused with 413."""
    stop_seconds: PositiveInt = 10
    """How long a stopping service lets running requests finish."""
    log_requests: bool = True
    """Whether every request writes one line of JSON to the standard error stream."""
    alerts: str | None = None
    """TOML file with rules of alerts and a webhook; without it the usual rules, told on /metrics alone."""
    learning: LearningSettings = LearningSettings()
    """The learning loop, where it runs in the service."""
    answers: AnswerSettings = AnswerSettings()
    """Batches, queues and time budgets."""
    sharing: SharingSettings = SharingSettings()
    """Redis and streams."""
    access: AccessSettings = AccessSettings()
    """Keys, rate limits, browsers."""
    privacy: PrivacySettings = PrivacySettings()
    """Pseudonyms and receipts."""


PREFIX = "ZHIYIN_"
_SHORT_NAMES = {"privacy.secret": "ZHIYIN_SECRET", "sharing.redis": "ZHIYIN_REDIS"}


def environment_names() -> dict[str, str]:
    """Return the environment variable of each setting → its dotted path.

    The variable is the path in capitals: ``access.cors_origins`` is ``ZHIYIN_ACCESS_CORS_ORIGINS``. Two
    have shorter ones: ``privacy.secret`` is ``ZHIYIN_SECRET``, ``sharing.redis`` is ``ZHIYIN_REDIS``.
    """
    return {
        _SHORT_NAMES.get(path, PREFIX + path.upper().replace(".", "_")): path
        for path in _paths(ServingSettings, "")
    }


def load_settings(
    file: str | Path | None = None, environment: Mapping[str, str] = os.environ, **given: Any
) -> ServingSettings:
    """Read settings; what is given here goes before the environment, and the environment before the file.

    Args:
        file: TOML, with tables such as ``[answers]`` and ``[access]``; None reads the environment alone.
        environment: Variables as `environment_names` lists them; a list is separated by commas, or is JSON.
        given: Settings by dotted path, such as ``sharing.redis``; None where nothing was given.

    Raises:
        ConfigError: when the file cannot be read, or a setting is unknown or out of range.
    """
    settings = _table_of(Path(file)) if file is not None else {}
    named = {path: value for path, value in given.items() if value is not None}
    for path, value in (_from_environment(environment) | named).items():
        *tables, name = path.split(".")
        table = settings
        for step in tables:
            table = table.setdefault(step, {})
        table[name] = value
    _check_secrets(settings.get("privacy"))
    loaded: ServingSettings = ServingSettings.parse(settings, where="service")
    return loaded


def _check_secrets(privacy: object) -> None:
    """Find wrong types here: the general message would show the value."""
    if not isinstance(privacy, dict):
        return
    previous = privacy.get("previous_secrets", [])
    if not isinstance(privacy.get("secret", ""), str):
        raise ConfigError("Setting 'service.privacy.secret' is not a text.")
    if not isinstance(previous, list) or not all(isinstance(secret, str) for secret in previous):
        raise ConfigError("Setting 'service.privacy.previous_secrets' is not a list of texts.")


def _table_of(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings {file} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The settings {file} are not TOML: {error}.") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = environment_names()
    tables = tuple({f"{PREFIX}{path.partition('.')[0].upper()}_" for path in known.values() if "." in path})
    found: dict[str, Any] = {}
    for name, text in environment.items():
        if name in known:
            # Kubernetes sets ZHIYIN_PORT=tcp://10.0.0.7:8000 by itself where a service is called zhiyin.
            if text and not text.startswith("tcp://"):
                found[known[name]] = _value(text, known[name])
        elif text.startswith("tcp://") or _OF_A_CLUSTER.search(name):
            continue
        elif name.startswith(tables) or (name.startswith(PREFIX) and _is_misspelt(name, known)):
            raise ConfigError(
                f"The environment variable {name} is no setting.{did_you_mean(name, known)}",
                possible=f"The variables are {', '.join(known)}.",
            )
    return found


def _is_misspelt(name: str, known: Mapping[str, str]) -> bool:
    """Whether a name is almost a known one; others may be those of a cluster for a service of our name."""
    return bool(get_close_matches(name, known, n=1, cutoff=_LIKENESS_OF_MISSPELT))


def _value(text: str, path: str) -> object:
    if path.rpartition(".")[2] not in _LISTS:
        return text
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            raise ConfigError(f"Setting '{path}' is not a JSON list: check its brackets.") from None
    return [part.strip() for part in text.split(",") if part.strip()]


def _paths(config: type[Config], prefix: str) -> Iterator[str]:
    for name, field in config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Config):
            yield from _paths(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


_OF_A_CLUSTER = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")
"""What Kubernetes sets for a service whose name begins with ours."""
_LIKENESS_OF_MISSPELT = 0.85
"""ZHIYIN_REDIS_PORT, which Kubernetes sets, is .83 like ZHIYIN_REDIS; one letter apart is .9 and more."""
_LISTS = {"cors_origins", "previous_secrets", "personal_fields", "streams"}
