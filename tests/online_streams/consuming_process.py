"""A process that stores the events of a stream, until it is killed; arguments: URL of both."""

import sys
import time

from zhiyin.online.streams.opening import open_stream
from zhiyin.stores.opening import open_database

store = open_database(sys.argv[2]).store()
consumer = open_stream(sys.argv[1], store.append_events)
consumer.start()
time.sleep(120)
