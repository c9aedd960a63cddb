"""What runs beside the requests: streams that are read, rules that are watched, a model that is learned."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from zhiyin.experiments.refreshing.loop import LearningLoop
from zhiyin.experiments.refreshing.settings import LoopConfig
from zhiyin.online.asked import Accepted
from zhiyin.online.streams.consumer import StreamConsumer
from zhiyin.online.streams.opening import open_stream
from zhiyin.serving.alerts.rules import load_alerts
from zhiyin.serving.alerts.watch import AlertWatch
from zhiyin.serving.service import Service
from zhiyin.stores.events import DEFAULT_TENANT
from zhiyin.stores.records import Event


class Background:
    """Starts and stops what the settings ask for.

    Args:
        service: Whose events are taken in and whose bundles learn.

    Raises:
        ConfigError: when the URL of a stream or the rules of alerts cannot be read.
        MissingExtra: when the client of a stream is not installed.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopping = threading.Event()
        self.streams: list[StreamConsumer] = [
            open_stream(url, self._accept) for url in service.settings.sharing.streams
        ]
        self._watch = AlertWatch(service.metrics, load_alerts(service.settings.alerts))
        self._learners: list[threading.Thread] = []
        for stream in self.streams:
            name = f"stream {stream.settings.stream}"
            service.metrics.watch_queue(name, lambda stream=stream: stream.counts.lag or 0)  # type: ignore[misc]

    def start(self) -> None:
        """Begin."""
        for stream in self.streams:
            stream.start()
        self._watch.start()
        if self._service.settings.learn_every_minutes:
            config = LoopConfig(every_minutes=self._service.settings.learn_every_minutes)
            for tenant, engine in self._service.engines.items():
                loop = LearningLoop(engine.store, config)
                thread = threading.Thread(
                    target=loop.run, args=(self._stopping,), name=f"zhiyin-loop-{tenant}", daemon=True
                )
                thread.start()
                self._learners.append(thread)

    def stop(self) -> None:
        """Let streams finish what they hold, and end the rest."""
        self._stopping.set()
        for stream in self.streams:
            stream.stop()
        self._watch.close()

    def _accept(self, events: Sequence[Event]) -> Future[Accepted]:
        """Take in events of a stream, under the names that the store knows people by."""
        border = self._service.border
        people = border.people(DEFAULT_TENANT, [event.user_id for event in events])
        named = [
            replace(event, user_id=user_id, context=border.attributes(DEFAULT_TENANT, event.context))
            for event, user_id in zip(events, people, strict=True)
        ]
        return self._service.engine(DEFAULT_TENANT).intake.accept(named)
