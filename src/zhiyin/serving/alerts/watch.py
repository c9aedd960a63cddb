"""Looks at the rules every few seconds, beside the service."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from zhiyin.serving.alerts.rules import DEFAULT_RULES, AlertSettings, Rule
from zhiyin.serving.alerts.signals import SIGNALS, Reading, Window, take_reading
from zhiyin.serving.alerts.states import Alert, News, State
from zhiyin.serving.alerts.usual import Usual, usual_by
from zhiyin.serving.alerts.webhook import Webhook
from zhiyin.serving.metrics import Metrics

_LOG = logging.getLogger(__name__)
_WHOLE_ENOUGH = 0.5
"""Share of its window that must have passed before a rule says anything."""


@dataclass
class _Watched:
    rule: Rule
    alert: Alert
    usual: Usual | None
    learned: float = float("-inf")
    facts: dict[str, Any] = field(default_factory=dict)


class AlertWatch:
    """Evaluates rules on the metrics of this process and tells a webhook what changed.

    Each process watches itself; messages name the process, and `key` is the same for the same alert of all.

    Args:
        metrics: Of the service; they also show which alerts fire.
        settings: Rules, and where to tell.
        clock: Seconds of a clock that never goes back.
        wall: UTC seconds.
        tell: Takes messages; the webhook of the settings otherwise.
    """

    def __init__(
        self,
        metrics: Metrics,
        settings: AlertSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        tell: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._webhook: Webhook | None = None
        if tell is None and settings.webhook.url is not None:
            self._webhook = Webhook(settings.webhook, count=metrics.count_delivery)
            tell = self._webhook.send
        self._tell = tell
        rules = DEFAULT_RULES if settings.rules is None else settings.rules
        self._instance = f"{socket.gethostname()}:{os.getpid()}"
        self._watched = [_watched(rule, settings.repeat_seconds) for rule in rules]
        self._longest = max((rule.window_seconds for rule in rules), default=0.0)
        self._past: deque[Reading] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look every few seconds."""
        self._thread = threading.Thread(target=self._look_forever, name="zhiyin-alerts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and finish what is being told."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._webhook is not None:
            self._webhook.close()

    def look(self) -> None:
        """Evaluate every rule once."""
        now = self._clock()
        new = take_reading(self._metrics.registry, now)
        self._past.append(new)
        while len(self._past) > 1 and self._past[1].time <= now - self._longest:
            self._past.popleft()
        for watched in self._watched:
            self._look_at(watched, new)

    def firing(self) -> list[str]:
        """Return the names of the alerts that fire."""
        return [watched.rule.name for watched in self._watched if watched.alert.state is State.FIRING]

    def _look_at(self, watched: _Watched, new: Reading) -> None:
        rule = watched.rule
        old = self._beginning(new.time - rule.window_seconds)
        is_whole = new.time - old.time >= _WHOLE_ENOUGH * rule.window_seconds
        value = SIGNALS[rule.signal].read(Window(old, new, rule.where)) if is_whole else None
        is_so = None if value is None else self._judge(watched, value, new.time)
        news = watched.alert.update(is_so, new.time)
        self._metrics.set_alert(rule.name, firing=watched.alert.state is State.FIRING)
        if news is not None:
            self._announce(watched, news, new.time)

    def _judge(self, watched: _Watched, value: float, now: float) -> bool | None:
        rule = watched.rule
        watched.facts = {"value": value}
        if watched.usual is None:
            is_above = rule.above is not None and value > rule.above
            return is_above or (rule.below is not None and value < rule.below)
        z = watched.usual.score(value, self._wall())
        if now - watched.learned >= rule.window_seconds:  # Overlapping windows tell the same thing twice.
            watched.usual.learn(value, self._wall())
            watched.learned = now
        if z is None:
            return None
        watched.facts["z"] = round(z, 2)
        is_high = rule.unusual != "low" and z > rule.z
        return is_high or (rule.unusual != "high" and z < -rule.z)

    def _beginning(self, wanted: float) -> Reading:
        """Return the newest reading that is old enough, or the oldest there is."""
        found = self._past[0]
        for past in self._past:
            if past.time > wanted:
                break
            found = past
        return found

    def _announce(self, watched: _Watched, news: News, now: float) -> None:
        rule = watched.rule
        _LOG.warning("alert %s: %s", rule.name, news.value, extra={"alert": rule.name})
        if self._tell is None:
            return
        at = self._wall()
        self._tell(
            {
                "alert": rule.name,
                "key": f"zhiyin/{rule.name}",
                "state": "resolved" if news is News.RESOLVED else "firing",
                "is_repeat": news is News.STILL_FIRING,
                "severity": rule.severity,
                "signal": rule.signal,
                "meaning": SIGNALS[rule.signal].meaning,
                **watched.facts,
                **rule.model_dump(include={"above", "below", "unusual", "window_seconds"}, exclude_none=True),
                "where": rule.where or {},
                "summary": rule.summary,
                "since": _text(at - (now - watched.alert.since)),
                "at": _text(at),
                "instance": self._instance,
            }
        )

    def _look_forever(self) -> None:
        while not self._stopping.wait(self._settings.every_seconds):
            try:
                self.look()
            except Exception:  # Watching must not stop because one reading failed.
                _LOG.exception("the rules of alerts could not be looked at")


def _watched(rule: Rule, repeat_seconds: float) -> _Watched:
    usual = None if rule.unusual is None else usual_by(rule.compared_with)
    return _Watched(rule, Alert(rule.for_seconds, repeat_seconds), usual)


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
