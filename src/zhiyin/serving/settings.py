"""Settings of the service."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from zhiyin.contracts import Config


class ServingSettings(Config):
    """How the service listens and where its limits are."""

    host: str = "127.0.0.1"
    """Address to listen on. The service asks nobody who they are: put a gateway before any other address."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen on; 0 takes any free one."""
    max_body_bytes: PositiveInt = 8_000_000
    """Longest request body, in bytes; longer ones are refused with 413."""
    n_threads: PositiveInt = 4
    """Requests for recommendations that are computed at the same time."""
    max_waiting: PositiveInt = 256
    """Requests for recommendations that may wait for a thread; more are refused with 503."""
    impression_capacity: PositiveInt = 10_000
    """Shown slates that may wait to be stored; more are dropped and counted."""
    stop_seconds: PositiveInt = 10
    """How long a stopping service lets running requests finish."""
    log_requests: bool = True
    """Whether every request writes one line of JSON to the standard error stream."""
