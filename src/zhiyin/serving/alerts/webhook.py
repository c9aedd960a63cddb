"""Messages to a web address, sent by a thread of their own."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from zhiyin import __version__
from zhiyin.serving.alerts.rules import WebhookSettings

_LOG = logging.getLogger(__name__)
SIGNATURE = "X-Zhiyin-Signature"
TIMESTAMP = "X-Zhiyin-Timestamp"
MESSAGE_ID = "X-Zhiyin-Message"
_TRY_AGAIN = frozenset({408, 425, 429})


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return what the header `SIGNATURE` holds: ``sha256=`` and the HMAC of timestamp, a dot and the body.

    A receiver computes the same, compares in constant time, and refuses timestamps that are minutes old.
    """
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def _ignore(outcome: str) -> None:
    """Count nothing."""


class Webhook:
    """Posts JSON; whoever hands a message over never waits.

    A message is tried again after a failure of the network, 408, 425, 429 and 5xx, with growing pauses; any
    other answer is final. Redirects are not followed: a signed message goes where the settings say. Its id is
    the same at each attempt, so that a receiver can drop repeats.

    Args:
        settings: Address and limits.
        count: Told ``delivered``, ``failed`` or ``dropped`` for each message.
        pause: Waits some seconds; returns True to stop. Given by tests.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        count: Callable[[str], None] = _ignore,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._count = count
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(settings.capacity)
        self._thread = threading.Thread(target=self._send_forever, name="zhiyin-webhook", daemon=True)
        self._thread.start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand a message over; it is dropped and counted when too many wait."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._count("dropped")

    def close(self) -> None:
        """Finish the attempt that runs; what still waits gets one attempt, within the time of one."""
        until = time.monotonic() + self._settings.timeout_seconds
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # A full queue is read until it is empty.
            self._waiting.put_nowait(None)
        self._thread.join(max(until - time.monotonic(), 0.0) + 0.5)

    def _send_forever(self) -> None:
        while True:
            try:
                message = self._waiting.get(timeout=None if not self._stopping.is_set() else 0.0)
            except queue.Empty:
                return
            if message is None:
                return
            try:
                delivered = self._deliver(message)
            except Exception:  # A message that cannot be sent must not end the thread.
                _LOG.exception("a message to the webhook could not be made")
                delivered = False
            self._count("delivered" if delivered else "failed")

    def _deliver(self, message: Mapping[str, Any]) -> bool:
        body = orjson.dumps(message)
        message_id = uuid.uuid4().hex
        wait = self._settings.backoff_seconds
        for attempt in range(self._settings.attempts):
            if attempt and self._pause(wait * 2 ** (attempt - 1)):
                return False
            problem, is_final = self._post(body, message_id)
            if not problem:
                return True
            if is_final:
                break
        _LOG.warning("the webhook did not take a message: %s", problem)
        return False

    def _post(self, body: bytes, message_id: str) -> tuple[str, bool]:
        """Return what went wrong, and whether trying again is useless."""
        request = urllib.request.Request(
            self._settings.url or "", data=body, headers=self._headers(body, message_id), method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._settings.timeout_seconds):
                return "", True
        except urllib.error.HTTPError as error:
            error.close()
            return f"status {error.code}", error.code < 500 and error.code not in _TRY_AGAIN
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, False

    def _headers(self, body: bytes, message_id: str) -> dict[str, str]:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"zhiyin/{__version__}",
            MESSAGE_ID: message_id,
            TIMESTAMP: timestamp,
        }
        if self._settings.secret is not None:
            headers[SIGNATURE] = signature(self._settings.secret.get_secret_value(), timestamp, body)
        return headers


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing; the answer stays what it is, an error."""
        return
