"""Events on their way into an engine, counted by whichever road they come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future

from zhiyin.online.asked import Accepted
from zhiyin.online.intake import Intake
from zhiyin.serving.metrics import Metrics
from zhiyin.stores.records import Event


def take_events(intake: Intake, events: Sequence[Event], metrics: Metrics, tenant: str) -> Future[Accepted]:
    """Hand events over; when the future is done, they are durable, reflected and counted."""
    start = time.perf_counter()

    def count(done: Future[Accepted]) -> None:
        if done.exception() is None:
            accepted = done.result()
            metrics.observe_freshness(tenant, time.perf_counter() - start)
            metrics.count_events(tenant, accepted.stored_kinds.items(), accepted.n_duplicates)

    taken = intake.accept(events)
    taken.add_done_callback(count)
    return taken
