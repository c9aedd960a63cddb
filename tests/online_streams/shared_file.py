"""Events in one file that several processes write to at once, each event once."""

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing

from zhiyin.stores.records import Event


def append(path: str, events: Sequence[Event]) -> Future[None]:
    done: Future[None] = Future()
    with closing(sqlite3.connect(path, timeout=20)) as file, file:
        file.execute("CREATE TABLE IF NOT EXISTS events (event_id TEXT PRIMARY KEY, item_id TEXT)")
        rows = [(event.event_id, event.item_id) for event in events]
        file.executemany("INSERT OR IGNORE INTO events VALUES (?, ?)", rows)
    done.set_result(None)
    return done


def item_ids(path: str) -> list[str]:
    with closing(sqlite3.connect(path, timeout=20)) as file:
        return [row[0] for row in file.execute("SELECT item_id FROM events")]
