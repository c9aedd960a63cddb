"""Which stream is read, and how: written in a URL."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import Field, field_validator

from zhiyin.contracts.component import Config
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.stores.events import DEFAULT_TENANT

_REDIS = ("redis", "rediss")
_POSSIBLE = (
    "A stream is redis://host:6379/0?stream=events&group=zhiyin, rediss://… (TLS),"
    " or kafka://host:9092,host2:9092/topic?group=zhiyin."
)
_PASSWORD = "Letters such as @ : / # in a password are written %40 %3A %2F %23."


def this_process() -> str:
    """Return a name for a consumer that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}"


class StreamSettings(Config):
    """A stream of events that the service reads; each setting stands in the URL of the stream."""

    server: str = Field(repr=False, min_length=1)
    """Address, from the URL: for Redis itself a URL, for Kafka ``host:port,host:port``."""
    stream: Annotated[str, Field(min_length=1, max_length=249)]
    """Name of the stream or topic. For Kafka the path of the URL."""
    tenant: Annotated[str, Field(min_length=1, max_length=249)] = DEFAULT_TENANT
    """Whose events these are."""
    group: Annotated[str, Field(min_length=1, max_length=249)] = "zhiyin"
    """Consumers of one group share the messages; each group gets all of them."""
    consumer: Annotated[str, Field(max_length=249, validate_default=True)] = ""
    """Name of this consumer in its group, distinct for each process; empty for host and process id."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Messages read, and stored, at once."""
    in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    """Batches on their way to the store at once."""
    dead_letters: Annotated[str, Field(max_length=249)] = ""
    """Where messages go that are no events. Empty: for Redis the name of the stream with ``:dead``; for Kafka
    nowhere, they are counted and logged."""
    take_over_after_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Redis: after this time without a word the messages of another consumer are taken over. For Kafka the
    servers decide (``session.timeout.ms``)."""
    begin: Literal["oldest", "newest"] = "oldest"
    """Where a new group begins: with the oldest message that is kept, or with what comes from now on."""
    client_settings: dict[str, str] = Field(default={}, repr=False)
    """Kafka: settings of librdkafka, which have a dot in their name, such as ``security.protocol``."""

    @field_validator("consumer")
    @classmethod
    def _named(cls, consumer: str) -> str:
        return consumer or this_process()

    @property
    def is_kafka(self) -> bool:
        """Whether it speaks the Kafka protocol; else Redis."""
        return "://" not in self.server

    @classmethod
    def from_url(cls, url: str) -> StreamSettings:
        """Read the URL of a stream.

        Args:
            url: ``redis://…?stream=events&group=zhiyin&batch_size=500`` or ``kafka://host:9092/topic?group=…``.

        Raises:
            ConfigError: when it cannot be read; the message holds no password.
        """
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in (*_REDIS, "kafka"):
            raise ConfigError("The URL of the stream is not known.", possible=_POSSIBLE)
        given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        settings = {name: given.pop(name) for name in list(given) if name in _IN_URL}
        settings |= _kafka(url, given) if scheme == "kafka" else _redis(url, given)
        if not settings.get("stream"):
            raise ConfigError("The URL of the stream names no stream.", possible=_POSSIBLE)
        parsed: StreamSettings = cls.parse(settings, where="stream")
        return parsed


_IN_URL = tuple(name for name in StreamSettings.model_fields if name not in ("server", "client_settings"))


def _redis(url: str, others: dict[str, str]) -> dict[str, Any]:
    for name in others:
        if not name.startswith("ssl_"):
            raise _not_known(name, "and those of TLS, such as ssl_ca_certs")
    server = urlsplit(url)._replace(query=urlencode(others), fragment="").geturl()
    return {"server": server}


def _kafka(url: str, others: dict[str, str]) -> dict[str, Any]:
    parts = urlsplit(url)
    login, _, servers = parts.netloc.rpartition("@")
    for name in others:
        if "." not in name:
            raise _not_known(name, "and those of librdkafka, which have a dot in their name")
    if not servers or parts.fragment:
        raise ConfigError("The URL of the stream cannot be read.", possible=_POSSIBLE, remedy=_PASSWORD)
    options = dict(others)
    if login:
        user, _, password = login.partition(":")
        options = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": unquote(user),
            "sasl.password": unquote(password),
            **options,
        }
    found: dict[str, Any] = {"server": servers, "client_settings": options}
    topic = unquote(parts.path.strip("/"))
    return {**found, "stream": topic} if topic else found


def _not_known(name: str, others: str) -> ConfigError:
    return ConfigError(
        f"The URL of the stream holds '{quote(name)}', which is not known.{did_you_mean(name, _IN_URL)}",
        possible=f"It may hold {', '.join(_IN_URL)}, {others}.",
    )
