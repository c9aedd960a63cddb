"""Clients that send events until each is acknowledged, and remember what they were told."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 15.0
"""After how long without an answer a request counts as hanging; the longest limit of the service is 10 s."""


class Place:
    """Where the service is; shoppers wait while it is nowhere."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self.address = ""

    def open(self, address: str) -> None:
        """Let shoppers come."""
        self.address = address
        self._there.set()

    def close(self) -> None:
        """Let them wait; requests under way go on."""
        self._there.clear()

    def wait(self, seconds: float) -> bool:
        """Return whether the service is there by then."""
        return self._there.wait(seconds)


@dataclass(frozen=True)
class Tenant:
    """Whose data.

    Attributes:
        name: Of the tenant.
        key: Text of an API key; empty where there are no keys.
        first_item: Its events are on every second item from here on, so a stranger's event shows.
        versions: Bundles that may answer it.
    """

    name: str
    key: str = ""
    first_item: int = 0
    versions: frozenset[str] = frozenset()


@dataclass(eq=False)
class Notes:
    """What one shopper saw.

    Attributes:
        sent: (event id, item) in the order in which they were first sent.
        acknowledged: Event ids that were acknowledged.
        wrong: Answers that should never have been given, in words.
        n_refused: Answers 503.
        n_broken: Requests that got no answer.
        n_cut_off: Of them, those on a connection that had been answered before.
        n_at_the_door: Of them, those on a new connection that was made and then reset.
        n_slates: Recommendations.
        n_stale: Recommendations that said they may be behind.
        slowest_seconds: The longest wait for an answer.
    """

    sent: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    n_refused: int = 0
    n_broken: int = 0
    n_cut_off: int = 0
    n_at_the_door: int = 0
    n_slates: int = 0
    n_stale: int = 0
    slowest_seconds: float = 0.0


class Shopper(threading.Thread):
    """One user of one tenant, who sends events in singles, batches and streams, and asks for slates.

    What was not acknowledged is sent again with the same ids, before anything new.

    Args:
        tenant: Whose user.
        number: Of the user; users of several tenants have the same ids.
        place: Where the service is.
        asks: Share of requests that ask for a slate.

    Attributes:
        notes: What was seen so far.
    """

    def __init__(self, tenant: Tenant, number: int, place: Place, *, asks: float = 0.15) -> None:
        super().__init__(daemon=True, name=f"shopper-{tenant.name}-{number}")
        self.tenant, self.place = tenant, place
        self.user_id = f"shopper-{number}"
        self.notes = Notes()
        self.asks = asks
        self._rng = random.Random(f"{tenant.name} {number}")
        self._leaving = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._connected_to = ""

    def leave(self) -> None:
        """Finish what is not acknowledged yet, then go."""
        self._leaving.set()

    def run(self) -> None:
        """Go shopping."""
        unsure: list[dict[str, Any]] = []
        while unsure or not self._leaving.is_set():
            if not self.place.wait(0.5):
                continue
            if not unsure and self._rng.random() < self.asks:
                self._ask()
                continue
            unsure = unsure or self._new_events()
            if self._send(unsure):
                unsure = []

    def _new_events(self) -> list[dict[str, Any]]:
        n = self._rng.choice([1, 1, 1, 5, 120])
        events = []
        for _ in range(n):
            number = len(self.notes.sent)
            item = f"i{self.tenant.first_item + 2 * self._rng.randrange(15)}"
            event_id = f"{self.user_id}-{number}"
            self.notes.sent.append((event_id, item))
            events.append({"user_id": self.user_id, "item_id": item, "event_id": event_id})
        return events

    def _send(self, events: list[dict[str, Any]]) -> bool:
        if len(events) > 50:
            lines = b"\n".join(json.dumps(event).encode() for event in events)
            answer = self._request("/v1/events/bulk", lines, "application/x-ndjson")
            last = json.loads(answer[1].strip().rsplit(b"\n", 1)[-1]) if answer else {}
            if answer and answer[0] == 200 and last.get("done"):
                return self._acknowledge(events, last["stored"] + last["duplicates"])
            if answer and answer[0] == 200:
                self.notes.n_refused += 1
                time.sleep(0.02)
                return False
        else:
            body = events[0] if len(events) == 1 else {"events": events}
            answer = self._request("/v1/events", json.dumps(body).encode(), "application/json")
            if answer and answer[0] == 202:
                return self._acknowledge(events, json.loads(answer[1])["accepted"])
        return self._refused(answer)

    def _acknowledge(self, events: list[dict[str, Any]], n: int) -> bool:
        if n != len(events):
            self.notes.wrong.append(f"{n} of {len(events)} events acknowledged")
        self.notes.acknowledged.update(event["event_id"] for event in events)
        return True

    def _ask(self) -> None:
        body = {"user_id": self.user_id, "n": 5, "repeat": True}
        answer = self._request("/v1/recommend", json.dumps(body).encode(), "application/json")
        if not answer or answer[0] != 200:
            self._refused(answer)
            return
        slate = json.loads(answer[1])
        self.notes.n_slates += 1
        self.notes.n_stale += slate.get("degraded") == "stale"
        if self.tenant.versions and slate["bundle"] not in self.tenant.versions:
            self.notes.wrong.append(f"tenant {self.tenant.name} was answered by bundle {slate['bundle']}")
        if self.notes.acknowledged and not slate["known_user"]:
            self.notes.wrong.append(f"{self.user_id} has acknowledged events and is not known")

    def _refused(self, answer: tuple[int, bytes, str | None] | None) -> bool:
        if answer is None:
            self.notes.n_broken += 1
            time.sleep(0.005)
        elif answer[0] == 503:
            self.notes.n_refused += 1
            if answer[2] is None:
                self.notes.wrong.append("503 without Retry-After")
            time.sleep(0.02)
        else:
            self.notes.wrong.append(f"{answer[0]}: {answer[1][:300]!r}")
            time.sleep(0.02)
        return False

    def _request(self, path: str, body: bytes, kind: str) -> tuple[int, bytes, str | None] | None:
        began, is_old = time.monotonic(), False
        headers = {"Content-Type": kind} | ({"X-API-Key": self.tenant.key} if self.tenant.key else {})
        try:
            if self._connection is None or self._connected_to != self.place.address:
                self._connected_to = self.place.address
                self._connection = http.client.HTTPConnection(self._connected_to, timeout=PATIENCE_SECONDS)
            is_old = self._connection.sock is not None
            self._connection.request("POST", path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Retry-After")
        except TimeoutError:
            self.notes.wrong.append(f"{path} hung for {PATIENCE_SECONDS:.0f} s")
        except ConnectionRefusedError:
            pass
        except (OSError, http.client.HTTPException):
            # A connection that nobody took yet is reset when the door is closed; one that was taken is not.
            self.notes.n_cut_off += is_old
            self.notes.n_at_the_door += not is_old
        finally:
            self.notes.slowest_seconds = max(self.notes.slowest_seconds, time.monotonic() - began)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return None
