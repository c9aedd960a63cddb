"""Settings with which a service must not meet real people, each with its remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from zhiyin.domain.errors import ConfigError
from zhiyin.serving.access.gate import is_loopback
from zhiyin.serving.settings import ServingSettings

SHORTEST_SECRET = 32
"""Characters."""
SMALLEST_BODY, LARGEST_BODY = 1_000, 100_000_000
"""Bytes that the longest request body may sensibly have."""
_FEWEST_SIGNS = 10
_PLACEHOLDERS = re.compile(
    r"change.?me|example|password|placeholder|your.?secret|insert|replace|s3cr3t|secret"
)
_ORIGIN = re.compile(r"https?://[^/\s?#@*]+")


@dataclass(frozen=True, slots=True)
class Danger:
    """One reason not to start.

    Attributes:
        problem: What is wrong.
        remedy: What to do.
    """

    problem: str
    remedy: str


def refuse_unsafe(settings: ServingSettings, n_keys: int, store_url: str, *, n_processes: int = 1) -> None:
    """Return when the service may start.

    Args:
        settings: All settings of the service.
        n_keys: Keys in the database.
        store_url: The database.
        n_processes: Processes that use the database.

    Raises:
        ConfigError: with every reason and its remedy, when it may not.
    """
    found = dangers(settings, n_keys, store_url, n_processes=n_processes)
    if found:
        listed = [
            f"  {place}. {danger.problem}\n     {danger.remedy}" for place, danger in enumerate(found, 1)
        ]
        many = "reason" if len(found) == 1 else "reasons"
        raise ConfigError(
            "\n".join([f"The service does not start, for {len(found)} {many}:", *listed]),
            remedy="docs/guide/access.md explains each." if settings.production else "",
        )


def dangers(settings: ServingSettings, n_keys: int, store_url: str, *, n_processes: int = 1) -> list[Danger]:
    """Return every reason not to start; with ``production = false`` only what is never right."""
    found = [*_never_right(settings, n_keys, store_url, n_processes)]
    if settings.production:
        found += [*_keys(n_keys), *_secret(settings), *_browsers(settings), *_limits(settings)]
        found += _neighbours(settings, store_url)
    return found


def _never_right(
    settings: ServingSettings, n_keys: int, store_url: str, n_processes: int
) -> Iterator[Danger]:
    if n_keys == 0 and not is_loopback(settings.host):
        yield Danger(
            f"It would listen on {settings.host or 'every address'} without any key.",
            "Make a key:  zhiyin keys create NAME --scope SCOPE --store URL. Or listen on 127.0.0.1.",
        )
    if settings.privacy.pseudonymise and settings.privacy.secret is None:
        yield Danger(
            "Pseudonyms are asked for (privacy.pseudonymise), but there is no secret to make them with.",
            "Set ZHIYIN_SECRET; beside the pseudonyms in the database a secret would protect nothing.",
        )
    if settings.privacy.personal_fields and not settings.privacy.pseudonymise:
        yield Danger(
            "Personal fields are named (privacy.personal_fields), but nothing is pseudonymised.",
            "Set privacy.pseudonymise = true, or name no fields.",
        )
    if store_url.startswith("sqlite") and n_processes > 1:
        yield Danger(
            f"{n_processes} processes would use one SQLite file, which one process owns.",
            "Use one process, or a store at postgresql://.",
        )
    for origin in settings.access.cors_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            yield Danger(
                f"'{origin}' in access.cors_origins is no origin of a web page.",
                "An origin is scheme, host and perhaps port, such as https://shop.example.",
            )


def _keys(n_keys: int) -> Iterator[Danger]:
    if n_keys == 0:
        yield Danger(
            "There is no key, so everybody on this machine could do everything.",
            "Make a key:  zhiyin keys create NAME --scope SCOPE --store URL",
        )


def _secret(settings: ServingSettings) -> Iterator[Danger]:
    make = "Make one:  python -c 'import secrets; print(secrets.token_urlsafe(48))'  and set ZHIYIN_SECRET."
    secret = settings.privacy.secret.get_secret_value() if settings.privacy.secret else ""
    if not secret:
        yield Danger("There is no secret for receipts and pseudonyms.", make)
    elif len(secret) < SHORTEST_SECRET:
        yield Danger(f"The secret has {len(secret)} characters, fewer than {SHORTEST_SECRET}.", make)
    elif _is_weak(secret):
        yield Danger("The secret can be guessed: it repeats itself or holds a word of examples.", make)


def _is_weak(secret: str) -> bool:
    repeats = (secret + secret).find(secret, 1) < len(secret)
    return repeats or len(set(secret)) < _FEWEST_SIGNS or bool(_PLACEHOLDERS.search(secret.lower()))


def _browsers(settings: ServingSettings) -> Iterator[Danger]:
    for origin in settings.access.cors_origins:
        if origin == "*":
            yield Danger(
                "Every web page may call the service from a browser (access.cors_origins holds '*').",
                "Name the pages, such as https://shop.example, or none.",
            )
        elif origin.startswith("http://") and not is_loopback(urlsplit(origin).hostname or ""):
            yield Danger(
                f"The web page {origin} comes unencrypted: whoever stands on the way can change it.",
                f"Name it as https://{origin.removeprefix('http://')}.",
            )
    if settings.access.docs:
        yield Danger(
            "The description of the service is shown to everybody (access.docs = true).",
            "Leave access.docs out: /docs then asks for an admin key. Or set it to false.",
        )


def _limits(settings: ServingSettings) -> Iterator[Danger]:
    if not SMALLEST_BODY <= settings.max_body_bytes <= LARGEST_BODY:
        yield Danger(
            f"A request body may have {settings.max_body_bytes} bytes (max_body_bytes).",
            f"Choose between {SMALLEST_BODY} and {LARGEST_BODY}; long imports go to /v1/events/bulk.",
        )
    if settings.access.requests_per_second == 0:
        yield Danger(
            "Keys without a limit of their own may ask without end (access.requests_per_second = 0).",
            "Set a limit that your busiest caller stays below.",
        )


def _neighbours(settings: ServingSettings, store_url: str) -> Iterator[Danger]:
    redis = settings.sharing.redis
    for url in ([redis.get_secret_value()] if redis else []) + list(settings.sharing.streams):
        parts = urlsplit(url)
        if parts.scheme == "redis" and not parts.password and not is_loopback(parts.hostname or ""):
            yield Danger(
                f"The Redis at {parts.hostname} is reached without encryption and without a password.",
                "Set a password, redis://:PASSWORD@host, and use rediss:// where others share the network.",
            )
    vectors = settings.sharing.vectors
    yield from _postgres(store_url)
    if vectors is not None and vectors.get_secret_value() != store_url:
        yield from _postgres(vectors.get_secret_value())
        yield from _milvus(vectors.get_secret_value())


def _milvus(url: str) -> Iterator[Danger]:
    parts = urlsplit(url)
    if parts.scheme == "milvus" and not parts.password and not is_loopback(parts.hostname or "localhost"):
        yield Danger(
            f"The Milvus at {parts.hostname} is reached without encryption and without a password.",
            "Set a password, milvus://USER:PASSWORD@host; use milvus+tls:// where others share the network.",
        )


def _postgres(url: str) -> Iterator[Danger]:
    parts = urlsplit(url)
    if parts.scheme.startswith("postgresql") and not is_loopback(parts.hostname or "localhost"):
        if parse_qs(parts.query).get("sslmode") in (["disable"], ["allow"]):
            yield Danger(
                f"The connection to PostgreSQL at {parts.hostname} is not encrypted (sslmode).",
                "Set sslmode=require, or better verify-full.",
            )
        if parts.password and parts.password in (parts.username, "postgres", "password"):
            yield Danger(
                f"The password of PostgreSQL at {parts.hostname} is the first that anybody tries.",
                "Choose another.",
            )
