"""Single requests, for what a test wants to see with its own eyes."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answered:
    """An answer.

    Attributes:
        status: 0 where there was none.
        body: Parsed JSON; what went wrong where there was no answer.
        retry_after: The header, None where it is missing.
        seconds: How long it took.
    """

    status: int
    body: Any
    retry_after: str | None
    seconds: float


def ask(
    address: str, method: str, path: str, body: Any = None, *, key: str = "", seconds: float = 20.0
) -> Answered:
    """Send one request on a new connection."""
    began = time.monotonic()
    headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
    with closing(http.client.HTTPConnection(address, timeout=seconds)) as connection:
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return Answered(0, repr(error), None, time.monotonic() - began)
        parsed = json.loads(told) if "json" in (answer.getheader("Content-Type") or "") else told
        return Answered(answer.status, parsed, answer.getheader("Retry-After"), time.monotonic() - began)


def wait_until(is_so: Callable[[], bool], seconds: float) -> float | None:
    """Return after how many seconds something became so, None when it did not in time."""
    began = time.monotonic()
    while True:
        if is_so():
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            return None
        time.sleep(0.02)
