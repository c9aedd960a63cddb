"""What runs beside the requests: streams are read, rules watched, models learned, memory given back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from zhiyin.domain.errors import StoreError
from zhiyin.experiments.refreshing.loop import Customs, LearningLoop, Step, refuse_unknown_recipe
from zhiyin.online.asked import Accepted
from zhiyin.online.streams.consumer import StreamConsumer
from zhiyin.online.streams.opening import open_stream
from zhiyin.online.trials.running import versions_tried
from zhiyin.serving.access.audit import LOOP, Deed
from zhiyin.serving.alerts.rules import load_alerts
from zhiyin.serving.alerts.watch import AlertWatch
from zhiyin.serving.memory import give_back_regularly
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.running import LOOP_THREAD
from zhiyin.serving.service import Service
from zhiyin.serving.stream_rules import refuse_shared_groups, refuse_unserved
from zhiyin.serving.taking import take_events
from zhiyin.stores.records import Event

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 5.0
"""How often is looked for tenants that are served since."""


class Background:
    """Starts and stops what the settings ask for.

    Args:
        service: Whose events are taken in and whose bundles learn.

    Raises:
        ConfigError: when the URL of a stream or the rules of alerts cannot be read, a stream is for a tenant
            that is not served, or the loop is to train a recipe that is not there.
        MissingExtra: when the client of a stream is not installed.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopping = threading.Event()
        refuse_shared_groups(service.settings.sharing.streams)
        self.streams: list[StreamConsumer] = [self._open(url) for url in service.settings.sharing.streams]
        self._watch = AlertWatch(service.metrics, load_alerts(service.settings.alerts))
        self._learners: dict[str, threading.Thread] = {}
        if service.settings.learning.every_minutes:
            refuse_unknown_recipe(service.settings.learning)
        for stream in self.streams:
            name, tenant = stream.settings.stream, stream.settings.tenant
            lag = service.metrics.streams.add(name, tenant, stream.counts)
            service.metrics.watch_queue(f"stream {name}", lag)

    def start(self) -> None:
        """Begin."""
        for stream in self.streams:
            stream.start()
        self._watch.start()
        threading.Thread(
            target=give_back_regularly, args=(self._stopping,), name="zhiyin-memory", daemon=True
        ).start()
        if self._service.settings.learning.every_minutes:
            threading.Thread(target=self._learn, name="zhiyin-loops", daemon=True).start()

    def stop(self) -> None:
        """Let streams finish what they hold, and end the rest."""
        self._stopping.set()
        for stream in self.streams:
            stream.stop()
        self._watch.close()

    def _open(self, url: str) -> StreamConsumer:
        tenant = refuse_unserved(url, {*self._service.engines, *self._service.unserved.tenants})
        return open_stream(url, partial(self._accept, tenant))

    def _accept(self, tenant: str, events: Sequence[Event]) -> Future[Accepted]:
        """Take in events of a stream, under the names that the store knows people by."""
        border = self._service.border
        people = border.people(tenant, [event.user_id for event in events])
        named = [
            replace(event, user_id=user_id, context=border.attributes(tenant, event.context))
            for event, user_id in zip(events, people, strict=True)
        ]
        metrics = self._service.metrics
        taken = take_events(self._service.engine(tenant).intake, named, metrics, tenant)
        taken.add_done_callback(partial(_count_failure, metrics))
        return taken

    def _learn(self) -> None:
        """Begin a loop for every tenant that is served, those included that come later."""
        config = self._service.settings.learning
        while not self._stopping.is_set():
            for tenant, engine in self._service.engines.items():
                if tenant not in self._learners:
                    loop = LearningLoop(
                        engine.store,
                        config,
                        listen=partial(self._heard, tenant),
                        customs=Customs(
                            activating=partial(self._activating, tenant),
                            needed=versions_tried,
                            named=partial(self._service.border.people_of_bundle, tenant),
                        ),
                    )
                    self._learners[tenant] = threading.Thread(
                        target=loop.run, args=(self._stopping,), name=f"{LOOP_THREAD}{tenant}", daemon=True
                    )
                    self._learners[tenant].start()
            self._stopping.wait(_LOOK_AGAIN_SECONDS)

    def _heard(self, tenant: str, step: Step) -> None:
        """Log what a loop does; only what goes wrong is a warning."""
        level = logging.WARNING if step.name == "error" else logging.INFO
        told = {"tenant": tenant, "step": step.name}
        _LOG.log(level, "learning loop: %s", step.message, extra=told)
        self._service.metrics.count_learning(tenant, step.name)

    def _activating(self, tenant: str, version: str) -> AbstractContextManager[None]:
        return self._service.audit.noted(Deed(tenant, LOOP, "bundle.activate", version))


def _count_failure(metrics: Metrics, taken: Future[Accepted]) -> None:
    if isinstance(taken.exception(), StoreError):
        metrics.count_store_error("database")
