"""One bundle in use: what it answers with, and how far it has followed the change log."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from zhiyin.data.kinds import EventKinds
from zhiyin.domain import Vocabulary
from zhiyin.online.answering import Answering
from zhiyin.online.catalogue import LiveCatalogue
from zhiyin.online.fallback import Fallback
from zhiyin.online.histories import LiveHistories
from zhiyin.pipeline.stages import Stages
from zhiyin.pipeline.timing import Observe, unobserved
from zhiyin.policy.filters import FilterMasks
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Changes, Event

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline


Renamed = Callable[[str, list[str]], list[str]]
"""Turns user ids of a bundle into those of the store, for one tenant."""


def as_they_are(tenant: str, user_ids: list[str]) -> list[str]:  # noqa: ARG001
    """Users are called the same in bundles and in the store."""
    return user_ids


class Live:
    """A pipeline with the histories, items and users of this moment.

    Args:
        pipeline: Trained; it belongs to this object from now on.
        version: Of the bundle, for answers and impressions.
        position: Place in the change log up to which the bundle's training data reach.
        observe: Told how long each stage of a request took.
        stage_seconds: What a source or the ranker may take for a batch of requests.
        users: Ids of the pipeline's users as the store knows them, where they differ.

    Attributes:
        applied: Position in the change log up to which everything is reflected.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        version: str,
        position: int = 0,
        observe: Observe = unobserved,
        stage_seconds: float = math.inf,
        users: Vocabulary | None = None,
    ) -> None:
        pipeline.stages = Stages(is_tolerant=True, observe=observe, budget_seconds=stage_seconds)
        _ = pipeline.content  # Indexed now, not by the first request, nor by two at once.
        self.version = version
        self.trained_until = position
        self.applied = position
        self.histories = LiveHistories(
            pipeline.users if users is None else users,
            pipeline.histories,
            EventKinds(pipeline.event_kinds, pipeline.histories),
            pipeline.catalogue_or_raise().items.ids.to_list(),
            reads=pipeline.reads_of_users,
        )
        self.catalogue = LiveCatalogue(pipeline, self.histories)
        self._arriving: list[Future[None]] = []
        self._changing_arriving = threading.Lock()
        if pipeline.early.height:
            self.catalogue.absorb(self.histories.record_batch(pipeline.early))
        masks = FilterMasks()  # of both: an answer in a hurry finds the masks of those before
        self.answering = Answering(self.catalogue, self.histories, masks, bundle=version, observe=observe)
        self.fallback = Fallback(self.catalogue, self.histories, masks)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline at this moment."""
        return self.catalogue.pipeline

    def catch_up(self, store: EventStore, until: int) -> None:
        """Read the change log up to a position, at least; see `take`.

        Raises:
            StoreError: when it cannot be read.
        """
        while self.applied < until:
            self.take(store.changes_after(self.applied))

    def take(self, changes: Changes) -> None:
        """Reflect what changed since `applied`; items come a little later, see `await_items`."""
        for user_id in changes.forgotten:
            self.forget(user_id)
        if changes.items:
            coming = [self.catalogue.put(item) for item in changes.items]
            with self._changing_arriving:
                self._arriving = [*self._arriving, *coming]
        self.histories.describe(changes.described)
        if changes.events.height:
            self.catalogue.absorb(self.histories.record_batch(changes.events))
        self.applied = changes.position

    def await_items(self, seconds: float | None = None) -> bool:
        """Wait until items that were taken have arrived, or failed to; return whether all have.

        Args:
            seconds: How long at most; None for as long as it takes.
        """
        if not self._arriving:
            return True
        _, missing = wait(self._arriving, seconds)
        with self._changing_arriving:
            self._arriving = [future for future in self._arriving if not future.done()]
        return not missing

    def record(self, events: Sequence[Event]) -> None:
        """Reflect events that became durable in this process."""
        self.catalogue.absorb(self.histories.record(events))

    def forget(self, user_id: str) -> None:
        """Drop everything about a user."""
        self.histories.forget(user_id)
        self.fallback.forget(user_id)

    def close(self) -> None:
        """Finish the changes that were handed over."""
        self.catalogue.close()
