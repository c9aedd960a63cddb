"""A running service, seen from outside."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from zhiyin.experiments.doctor.findings import Finding, Mark, judged

_PATIENCE_SECONDS = 5
_SLOW_MS = 100.0
_LONGEST = 100_000


def look_at_service(url: str) -> Iterator[Finding]:
    """Ask a service whether it is alive and ready, and which bundle it serves."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        remedy = "It should be such as http://127.0.0.1:8000"
        yield Finding("service", Mark.BAD, f"'{url}' is no address of a service", remedy)
        return
    base = url.rstrip("/")
    start = time.perf_counter()
    status, body = _get(f"{base}/healthz")
    milliseconds = (time.perf_counter() - start) * 1_000
    if status is None:
        remedy = "Start it:  zhiyin serve BUNDLE. Or mend host and port."
        yield Finding("service", Mark.BAD, f"{base} does not answer: {body}", remedy)
        return
    if status != 200:
        remedy = "Is this a Zhiyin service, and does the gateway before it let /healthz through?"
        yield Finding("service", Mark.BAD, f"{base}/healthz answers {status}", remedy)
        return
    yield judged(
        "service",
        f"{base} is alive, answered in {milliseconds:.0f} ms",
        is_well=milliseconds <= _SLOW_MS,
        remedy="Look at zhiyin_requests_in_progress and at the load of its machine.",
    )
    yield _readiness(base)


def _readiness(base: str) -> Finding:
    status, body = _get(f"{base}/readyz")
    document = _document(body)
    if status == 200:
        told = ", ".join(f"{name} {value}" for name, value in document.items() if name != "status")
        return Finding("readiness", Mark.GOOD, told or "ready")
    said = document.get("detail") or body or f"status {status}"
    remedy = str(document.get("remedy") or "The log of the service says more.")
    return Finding("readiness", Mark.BAD, f"not ready: {said}", remedy)


def _get(url: str) -> tuple[int | None, str]:
    """Return status and body, or None and what went wrong."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as answer:
            return answer.status, answer.read(_LONGEST).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_LONGEST).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return None, str(getattr(error, "reason", error))


def _document(body: str) -> dict[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
