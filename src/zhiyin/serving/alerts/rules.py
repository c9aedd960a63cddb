"""Rules of alerts, and where they come from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)

from zhiyin.contracts import Config
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.serving.alerts.signals import SIGNALS

WEBHOOK_URL = "ZHIYIN_WEBHOOK_URL"
WEBHOOK_SECRET = "ZHIYIN_WEBHOOK_SECRET"


class Rule(Config):
    """When an alert fires: a signal beyond a threshold, or far from what is usual."""

    name: str = Field(min_length=1, max_length=100)
    """Distinct among the rules."""
    signal: str
    """What is watched."""
    above: float | None = None
    """The alert fires above this."""
    below: float | None = None
    """The alert fires below this."""
    unusual: Literal["high", "low", "either"] | None = None
    """Instead of a threshold: fires when the signal is this much off what is usual."""
    z: PositiveFloat = 5.0
    """Robust standard deviations that count as unusual."""
    compared_with: Literal["recent", "same-hour"] = "recent"
    """What is usual: the last hour or two, or the same hour of the days before."""
    window_seconds: PositiveFloat = 300.0
    """Stretch of time the signal is computed over."""
    for_seconds: NonNegativeFloat = 60.0
    """How long it must be so before the alert fires, and be over before it is resolved."""
    where: dict[str, str] | None = None
    """Label → value; samples with another value are left out, such as route = "/v1/recommend"."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How bad it is."""
    summary: str = ""
    """What to do about it, for whoever is called."""

    @field_validator("signal")
    @classmethod
    def _known(cls, signal: str) -> str:
        if signal not in SIGNALS:
            raise ValueError(
                f"there is no such signal.{did_you_mean(signal, SIGNALS)} There are: {', '.join(SIGNALS)}"
            )
        return signal

    @model_validator(mode="after")
    def _complete(self) -> Self:
        has_threshold = self.above is not None or self.below is not None
        if has_threshold == (self.unusual is not None):
            raise ValueError("a rule has 'above', 'below' or both, or it has 'unusual'")
        return self


class WebhookSettings(Config):
    """Where alerts are told."""

    url: str | None = None
    """Address that takes a POST, http or https; nothing is sent without one."""
    secret: SecretStr | None = None
    """Signs each message, so that the receiver can tell it is ours."""
    timeout_seconds: PositiveFloat = Field(default=5.0, le=60)
    """How long one attempt may take."""
    attempts: PositiveInt = 5
    """How often a message is tried before it is given up."""
    backoff_seconds: PositiveFloat = 1.0
    """Pause after the first failure; it doubles each time."""
    capacity: PositiveInt = 100
    """Messages that may wait; more are dropped and counted."""

    @field_validator("url")
    @classmethod
    def _speaks_http(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("it should begin with http:// or https:// and name a host")
        return url


_DEFAULTS: tuple[dict[str, object], ...] = (
    {
        "name": "answers are slow",
        "signal": "latency_p99_seconds",
        "where": {"route": "/v1/recommend"},
        "above": 0.5,
        "for_seconds": 120,
        "summary": "Look at the stages on the dashboard; add processes, or lower n_candidates.",
    },
    {
        "name": "requests fail",
        "signal": "error_rate",
        "above": 0.01,
        "severity": "critical",
        "summary": "The log names the error beside each request_id.",
    },
    {
        "name": "the store fails",
        "signal": "store_errors_per_second",
        "where": {"store": "database"},
        "above": 0.0,
        "severity": "critical",
        "summary": "zhiyin doctor --store URL says what is wrong with it.",
    },
    {
        "name": "Redis does not answer",
        "signal": "store_errors_per_second",
        "where": {"store": "redis"},
        "above": 0.0,
        "summary": "The database is asked instead; zhiyin doctor --redis URL says what is wrong.",
    },
    {
        "name": "a stream fails",
        "signal": "stream_failures_per_second",
        "above": 0.1,
        "severity": "critical",
        "summary": "Its messages wait; the log says whether the stream or the store is away.",
    },
    {
        "name": "messages are no events",
        "signal": "dead_letters_per_second",
        "above": 0.0,
        "summary": "The reasons stand beside the dead letters and in the log.",
    },
    {
        "name": "events are reflected late",
        "signal": "freshness_p99_seconds",
        "above": 5.0,
        "summary": "Look at the log lag and at the store's latency.",
    },
    {
        "name": "a queue fills",
        "signal": "queue_share",
        "above": 0.8,
        "summary": "Requests will be refused soon; add processes.",
    },
    {
        "name": "fewer events than usual",
        "signal": "events_per_second",
        "unusual": "low",
        "compared_with": "same-hour",
        "for_seconds": 600,
        "summary": "Does the shop still send them?",
    },
    {
        "name": "fewer clicks than usual",
        "signal": "click_rate",
        "unusual": "low",
        "window_seconds": 1_800,
        "for_seconds": 600,
        "summary": "Compare the arms and the version of the bundle; roll back if it is new.",
    },
    {
        "name": "the data have drifted",
        "signal": "drift_score",
        "above": 1.0,
        "for_seconds": 600,
        "severity": "info",
        "summary": "Train a new bundle, or let zhiyin loop do so.",
    },
)
DEFAULT_RULES = tuple(Rule.model_validate(rule) for rule in _DEFAULTS)
"""Rules that fit most services; a file of rules replaces them."""


class AlertSettings(Config):
    """When and where this process alerts about itself."""

    every_seconds: PositiveFloat = 15.0
    """How often the rules are looked at."""
    repeat_seconds: NonNegativeFloat = 14_400.0
    """An alert that still fires is told again after this long; 0 tells it once."""
    webhook: WebhookSettings = WebhookSettings()
    """Where alerts are told."""
    rules: tuple[Rule, ...] | None = None
    """What is watched; left out, rules that fit most services."""

    @field_validator("rules")
    @classmethod
    def _distinct(cls, rules: tuple[Rule, ...] | None) -> tuple[Rule, ...] | None:
        names = [rule.name for rule in rules or ()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules are called '{twice}'")
        return rules


def load_alerts(file: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> AlertSettings:
    """Read the settings of alerts.

    Args:
        file: TOML with ``[[rules]]`` and ``[webhook]``; None takes the `DEFAULT_RULES`.
        environment: ``ZHIYIN_WEBHOOK_URL`` and ``ZHIYIN_WEBHOOK_SECRET`` go before the file.

    Raises:
        ConfigError: when the file cannot be read, or a rule cannot be understood.
    """
    given: dict[str, object] = {}
    if file is not None:
        try:
            given = tomllib.loads(Path(file).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The rules {file} cannot be read: {error}.") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"The rules {file} are not TOML: {error}.") from None
    said = {
        name: environment[variable]
        for name, variable in (("url", WEBHOOK_URL), ("secret", WEBHOOK_SECRET))
        if environment.get(variable)
    }
    if said:
        webhook = given.get("webhook")
        given["webhook"] = {**(webhook if isinstance(webhook, dict) else {}), **said}
    settings: AlertSettings = AlertSettings.parse(given, where="alerts")
    return settings
