"""The living whole: a bundle, a store and everything that happened since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zhiyin.online.answering import Answering, Observe
from zhiyin.online.catalogue import LiveCatalogue
from zhiyin.online.histories import LiveHistories
from zhiyin.online.impressions import ImpressionLog
from zhiyin.online.intake import Intake
from zhiyin.online.kinds import EventKinds
from zhiyin.stores.events import EventStore

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline


def _unobserved(stage: str, seconds: float) -> None:
    """Listen to nothing."""


class LiveEngine:
    """Accepts events, items and users, and recommends from the state of this moment.

    At the start everything the store holds is brought in, so a restart loses nothing.

    Args:
        pipeline: Trained; the engine changes it from now on.
        store: Where everything durable goes; `close` closes it.
        bundle: Version of the bundle, for answers and impressions.
        impression_capacity: Shown slates that may wait to be stored.
        observe: Told how long each stage of a request took.

    Attributes:
        intake: Events, items and users come in here.
        answering: Recommendations go out here.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        store: EventStore,
        *,
        bundle: str,
        impression_capacity: int = 10_000,
        observe: Observe = _unobserved,
    ) -> None:
        pipeline.skip_failing_sources = True
        _ = pipeline.content  # Indexed now, not by the first request, nor by two at once.
        self.store = store
        self.bundle = bundle
        self.histories = LiveHistories(
            pipeline.users,
            pipeline.histories,
            EventKinds(pipeline.event_kinds, pipeline.histories),
            pipeline.catalogue_or_raise().items.ids.to_list(),
        )
        self.catalogue = LiveCatalogue(pipeline, self.histories)
        self._bring_in()
        self.impressions = ImpressionLog(store, capacity=impression_capacity)
        self.intake = Intake(store, self.histories, self.catalogue, self.impressions)
        self.answering = Answering(
            self.catalogue, self.histories, self.impressions, bundle=bundle, observe=observe
        )

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline at this moment."""
        return self.catalogue.pipeline

    def close(self) -> None:
        """Finish what was accepted, and close the store."""
        self.impressions.close()
        self.store.close()
        self.catalogue.close()  # Last, because what the store made durable still goes there.

    def _bring_in(self) -> None:
        self.catalogue.take_in(self.store.items())
        for user_id in self.store.deleted_users():
            self.histories.forget(user_id)
        self.histories.describe(user.user_id for user in self.store.users())
        for batch in self.store.event_batches():
            self.histories.record_batch(batch)
