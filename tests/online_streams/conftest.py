"""A store that tests can look into, refuse, and stop."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from zhiyin.domain.errors import RequestError, StoreError
from zhiyin.stores.records import Event

sys.path.append(str(Path(__file__).parent))  # for shared_file


class Shelf:
    """Keeps every event once; durable a moment later, as a store is."""

    def __init__(self) -> None:
        self.stored: dict[str, Event] = {}
        self.handed = Counter[str]()
        self.order: list[str] = []
        self.is_away = False
        self.refused: set[str] = set()
        self.held: list[Future[None]] | None = None
        self.most_under_way = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def accept(self, events: Sequence[Event]) -> Future[None]:
        done: Future[None] = Future()
        if self.is_away:
            raise StoreError("The store is away.")
        with self._lock:
            self._under_way += 1
            self.most_under_way = max(self.most_under_way, self._under_way)
            if any(event.event_id in self.refused for event in events):
                done.set_exception(RequestError("This event is not for us."))
                self._under_way -= 1
                return done
        if self.held is not None:
            self.held.append(done)
            return done
        threading.Timer(0.002, self._store, (list(events), done)).start()
        return done

    def _store(self, events: list[Event], done: Future[None]) -> None:
        with self._lock:
            for event in events:
                self.handed[event.event_id] += 1
                if event.event_id not in self.stored:
                    self.stored[event.event_id] = event
                    self.order.append(event.event_id)
            self._under_way -= 1
        done.set_result(None)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until something is true."""

    def wait(is_true: Callable[[], Any], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_true():
            assert time.monotonic() < deadline, "it never became true"
            time.sleep(0.01)

    return wait
