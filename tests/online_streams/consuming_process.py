"""A process that stores the events of a stream, until it is killed; arguments: URL of the stream, store.

The store is a URL, or the path of a file that several processes may write to at once.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future

from shared_file import append

from zhiyin.online.streams.opening import open_stream
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event

stream, store = sys.argv[1:]


def append_to_file(events: Sequence[Event]) -> Future[None]:
    return append(store, events)


accept = open_database(store).store().append_events if "://" in store else append_to_file
consumer = open_stream(stream, accept)
consumer.start()
time.sleep(120)
