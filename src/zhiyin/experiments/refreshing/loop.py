"""The loop: round after round, one tenant at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from zhiyin.contracts import Progress
from zhiyin.domain.errors import ZhiyinError
from zhiyin.experiments.refreshing.lease import Lease, LeaseHeld
from zhiyin.experiments.refreshing.rounds import DRIFT_KIND, QUALITY_KIND, Customs, OneRound, Round, Step
from zhiyin.experiments.refreshing.settings import FULL, INCREMENTAL, LoopConfig
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.events import EventStore
from zhiyin.stores.unpacking import unpacking_folder

_LOG = logging.getLogger(__name__)


def refuse_unknown_recipe(config: LoopConfig) -> None:
    """Raise before a loop begins that could train nothing.

    Raises:
        ConfigError: when bundles are to be of a recipe that is not there.
    """
    if config.refresh.recipe not in (INCREMENTAL, FULL):
        recipe(config.refresh.recipe)


def _nobody_listens(_: Step) -> None:
    pass


class LearningLoop:
    """Keeps the bundle of one tenant learning.

    The bundle in use is touched by one act only, its activation: a loop that is killed at any moment leaves
    it as it was. It needs the store alone, and may run in the process of the service, in one of its own, or
    on another machine.

    Args:
        store: Of the tenant, with an active bundle.
        config: Settings.
        listen: Told of every step.
        progress: Told how long work gets on.
        folder: Where bundles are unpacked and training keeps its checkpoints; a temporary one when None.
        customs: What the service that it learns for keeps to.

    Raises:
        ConfigError: when there is no such recipe.
    """

    def __init__(
        self,
        store: EventStore,
        config: LoopConfig | None = None,
        *,
        listen: Callable[[Step], None] | None = None,
        progress: Progress | None = None,
        folder: Path | None = None,
        customs: Customs | None = None,
    ) -> None:
        self.config = config or LoopConfig()
        refuse_unknown_recipe(self.config)
        self._store = store
        self._listen = listen or _nobody_listens
        self._progress = progress
        self._folder = folder
        self._customs = customs or Customs()

    def run(self, stop: threading.Event) -> None:
        """Do round after round until asked to stop; a round that fails is told, and the next waits longer."""
        n_failures = 0
        while not stop.is_set():
            started = time.monotonic()
            try:
                self.round(stop)
                n_failures = 0
            except LeaseHeld as error:
                self._listen(Step("wait", " ".join(str(error).split()), time.monotonic() - started))
            except Exception as error:
                n_failures += 1
                told = " ".join(str(error).split())
                if not isinstance(error, ZhiyinError):
                    _LOG.exception("a round of the learning loop failed")
                    # Its words may quote an id.
                    told = f"an unexpected {type(error).__name__}; the log says where"
                self._listen(Step("error", told, time.monotonic() - started))
            stop.wait(max(0.0, self._seconds_between(n_failures) - (time.monotonic() - started)))

    def round(self, stop: threading.Event | None = None) -> Round:
        """Do one round.

        Args:
            stop: Asked between two steps; when it is set nothing more is begun.

        Raises:
            LeaseHeld: when another loop works for this tenant.
            StoreError: when the store fails, or holds no active bundle.
            ZhiyinError: when training fails.
        """
        stop = stop or threading.Event()
        with (
            Lease(self._store, self.config.lease_seconds) as lease,
            unpacking_folder(self._folder) as folder,
        ):
            surroundings = (self._customs, self._listen, self._progress, lease, stop, folder)
            return OneRound(self._store, self.config, *surroundings).go()

    def _seconds_between(self, n_failures: int) -> float:
        every = self.config.every_minutes * 60
        if not n_failures:
            return every
        return min(every * 2.0**n_failures, max(self.config.longest_backoff_minutes * 60, every))


__all__ = ["DRIFT_KIND", "QUALITY_KIND", "Customs", "LearningLoop", "LeaseHeld", "Round", "Step"]
