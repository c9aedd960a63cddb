"""One round of the loop: refresh, judge, publish, activate, watch."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zhiyin.contracts import Progress
from zhiyin.domain import Vocabulary
from zhiyin.domain.errors import BundleError, ConfigError, StoreError
from zhiyin.domain.pseudonyms import are_pseudonyms
from zhiyin.experiments.ranker_figures import main_figures, ranker_figures
from zhiyin.experiments.refreshing.detectors import PageHinkley
from zhiyin.experiments.refreshing.drift import DriftReport, measure_drift
from zhiyin.experiments.refreshing.gathering import Grown, News, grow, read_news
from zhiyin.experiments.refreshing.holding import Held, hold_back
from zhiyin.experiments.refreshing.judging import METRIC, Decision, Verdict, judge_candidate
from zhiyin.experiments.refreshing.lease import Lease
from zhiyin.experiments.refreshing.people import attributes_put
from zhiyin.experiments.refreshing.refresh import Refreshed, completed, in_use, refresh
from zhiyin.experiments.refreshing.settings import LoopConfig
from zhiyin.experiments.refreshing.versions import (
    REFUSED,
    Pin,
    active,
    clear_away,
    pin,
    publish,
    refused_since,
)
from zhiyin.pipeline.bundle import load_bundle, read_card, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import EventStore

QUALITY_KIND, DRIFT_KIND = "quality", "drift"
_DRIFT_NAME = "newest"
_OF_ONE_BUNDLE = ("judging", "fingerprint")
"""Facts of a training that say nothing of the next one."""


@dataclass(frozen=True)
class Step:
    """One step of a round, as it is told.

    Attributes:
        name: ``read``, ``refresh``, ``judge``, ``publish``, ``watch``, ``wait`` or ``error``.
        message: What happened, in one line.
        seconds: What it took.
        facts: The same as values.
    """

    name: str
    message: str
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Round:
    """What one round came to.

    Attributes:
        decision: What became of the candidate; None when there was none.
        version: Of the bundle that was published, refused ones included; None when there was none.
        verdict: What the newest events said.
        drift: What was watched.
        steps: Everything in order.
    """

    decision: Decision | None
    version: str | None
    verdict: Verdict | None
    drift: DriftReport | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Customs:
    """What a loop keeps to because of the service that it learns for.

    Attributes:
        activating: Entered with the version that goes live while it does, such as to note it.
        needed: Which versions are not cleared away, however old, such as those that experiments answer with.
        named: Turns the user ids of a bundle into those of the store, where they differ.
    """

    activating: Callable[[str], AbstractContextManager[object]] = nullcontext
    needed: Callable[[EventStore], Collection[str]] = lambda _: ()
    named: Callable[[list[str]], list[str]] = list


@dataclass(eq=False)
class OneRound:
    """One round, with what its steps hand on to each other.

    Attributes:
        store: Of the tenant.
        config: Settings.
        customs: What the service keeps to.
        listen: Told of every step.
        progress: Told how long work gets on.
        lease: Says whether another loop took over.
        stop: Asked between two steps.
        folder: Where bundles are unpacked.
        steps: Everything that was done, in order.
    """

    store: EventStore
    config: LoopConfig
    customs: Customs
    listen: Callable[[Step], None]
    progress: Progress | None
    lease: Lease
    stop: threading.Event
    folder: Path
    steps: list[Step] = field(default_factory=list)
    _parent: str = ""
    _was_read: dict[str, Any] = field(default_factory=dict)
    _pin: Pin | None = None
    _training: dict[str, Any] = field(default_factory=dict)
    _has_removed: bool = False
    _predictions: dict[str, dict[str, float]] = field(default_factory=dict)

    def go(self) -> Round:
        """Do it."""
        grown = self._read()
        if grown is None:
            return self._end(None, None, None, None)
        held = hold_back(grown, self.config.refresh, seed=self.config.refresh.seed)
        drift = self._watch_data(grown)
        n_test = len(held.split.test)
        if n_test < self.config.judging.fewest_events and not self._has_removed:
            told = f"{n_test} events to judge by, fewer than {self.config.judging.fewest_events}"
            self._tell("wait", f"{told}: waiting for more", 0.0, {"n_events": n_test})
            return self._end(Decision.UNDECIDED, None, None, drift)
        if self.stop.is_set():
            return self._end(None, None, None, drift)
        serving = in_use(grown, held)
        candidate = self._refresh(grown, held)
        verdict = self._judge(candidate, serving)
        if verdict.decision is Decision.UNDECIDED:
            # Too few can say whether it is better; but what is in use still holds somebody who was removed.
            reason = f"{verdict.n_events} events to judge by; it goes live because somebody was removed"
            verdict = replace(verdict, decision=Decision.LIVE, reason=reason)
        drift = self._watch_quality(drift, verdict)
        if self.stop.is_set() or self.lease.is_lost:
            self._tell("wait", "stopped before anything was published", 0.0, {})
            return self._end(verdict.decision, None, verdict, drift)
        version = None if self._was_overtaken() else self._publish(candidate, verdict)
        if version is None:
            told = "another version was put in use meanwhile, or another loop works: nothing is published"
            self._tell("wait", told, 0.0, {})
            return self._end(None, None, verdict, drift)
        return self._end(verdict.decision, version, verdict, drift)

    def _read(self) -> Grown | None:
        started = time.monotonic()
        bundle = active(self.store)
        if bundle is None:
            raise StoreError(
                f"No bundle is in use for the tenant '{self.store.tenant}'.",
                remedy="Put one into the store:  zhiyin publish BUNDLE --store URL --activate",
            )
        self._pin = pin(self.store)
        if self._pin is not None and self._pin.version == bundle.version:
            told = f"somebody went back to version {bundle.version}: `zhiyin loop --release` learns on"
            self._tell("wait", told, 0.0, {"version": bundle.version})
            return None
        news = read_news(self.store, bundle.position)
        facts = {"n_new": news.events.height, "position": news.position, "parent": bundle.version}
        told = f"{news.events.height:,} new events up to position {news.position:,}"
        if news.events.height < self.config.refresh.fewest_new_events and not news.forgotten:
            told += f": waiting for more, {self.config.refresh.fewest_new_events:,} at least"
            self._tell("read", told, time.monotonic() - started, facts)
            return None
        self._was_read = _reading(news, self.config)
        refused = refused_since(self.store, bundle.version, self._was_read)
        if refused is not None:
            told += f": nothing came since version {refused} was refused"
            self._tell("read", told, time.monotonic() - started, facts)
            return None
        place = self.folder / "in-use"
        self.store.fetch_bundle(bundle.version, place)
        self._parent, self._training = bundle.version, dict(read_card(place).get("training", {}))
        pipeline = load_bundle(place)
        pipeline.users = Vocabulary(self.customs.named(pipeline.users.ids.to_list()))
        pipeline.name_early(self.customs.named)
        _refuse_two_names(pipeline.users, news)
        put = attributes_put(self.store, pipeline.reads_of_users)
        grown = grow(pipeline, self._training, news, put)
        told += f", since version {bundle.version}"
        if grown.early.height:
            told += f"; {grown.early.height:,} on unknown items wait for them"
        facts["n_unknown"] = grown.n_unknown
        self._has_removed = bool(news.forgotten)
        self._tell("read", told, time.monotonic() - started, facts)
        return grown

    def _refresh(self, grown: Grown, held: Held) -> Refreshed:
        candidate = refresh(
            grown,
            held,
            self.config.refresh,
            progress=self.progress,
            checkpoints=self.folder / "checkpoints",
        )
        told = f"{self.config.refresh.recipe}: trained on {held.split.train.n_interactions:,} events"
        self._predictions = main_figures(ranker_figures(candidate.pipeline, seed=self.config.refresh.seed))
        for task, figures in self._predictions.items():
            said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "n_rows")
            told += f"; {task}, {figures['n_rows']:,} rows held back: {said or 'all alike'}"
        facts = {"recipe": self.config.refresh.recipe, "predictions": self._predictions}
        self._tell("refresh", told, candidate.seconds, facts)
        return candidate

    def _judge(self, candidate: Refreshed, serving: Pipeline) -> Verdict:
        started = time.monotonic()
        split = candidate.held.split
        verdict = judge_candidate(
            candidate.pipeline,
            serving,
            split.test,
            split.train,
            self.config.judging,
            progress=self.progress,
        )
        self._tell("judge", verdict.reason, time.monotonic() - started, verdict.facts())
        return verdict

    def _was_overtaken(self) -> bool:
        """Whether somebody decided what is in use since this round began, or another loop took over."""
        bundle = active(self.store)
        is_other = bundle is None or bundle.version != self._parent
        return is_other or self.lease.is_lost or self._new_pin() is not None

    def _new_pin(self) -> Pin | None:
        """Return to what somebody goes back since this round began."""
        found = pin(self.store)
        return None if found == self._pin else found

    def _publish(self, candidate: Refreshed, verdict: Verdict) -> str | None:
        """Store the candidate and put it in use where it may; None where somebody was faster."""
        started = time.monotonic()
        place = self.folder / "candidate"
        judging = verdict.facts()
        facts = {
            **{name: told for name, told in self._training.items() if name not in _OF_ONE_BUNDLE},
            "protocol": "newest",
            "seed": self.config.refresh.seed,
            "fit_seconds": round(candidate.seconds, 2),
            "position": candidate.grown.position,
            "parent": self._parent,
            "read": self._was_read,
            "recipe": self.config.refresh.recipe,
            "judging": judging,
            "predictions": self._predictions,
        }
        save_bundle(completed(candidate), place, facts=facts)
        goes_live = verdict.decision is Decision.LIVE
        version = publish(self.store, place, facts={} if goes_live else {REFUSED: verdict.reason})
        if goes_live and not self._puts_in_use(version):
            return None
        needed = self.customs.needed(self.store)
        dropped = clear_away(self.store, self.config.keep_versions, needed=needed)
        told = f"version {version} " + ("is in use" if goes_live else "is kept for inspection, not in use")
        if dropped:
            told += f"; dropped {', '.join(dropped)}"
        self._tell(
            "publish",
            told,
            time.monotonic() - started,
            {"version": version, "is_active": goes_live, "dropped": dropped},
        )
        return version

    def _puts_in_use(self, version: str) -> bool:
        """Put a stored version in use, unless somebody went back meanwhile: storing it took a while.

        Whoever goes back says so first and acts then, so that looking once more afterwards finds them
        whenever they came.
        """
        if self._was_overtaken():
            self.store.drop_bundle(version)
            return False
        try:
            with self.customs.activating(version):
                self.store.activate_bundle(version).result()
        except Exception:
            if (bundle := active(self.store)) is None or bundle.version != version:
                self.store.drop_bundle(version)
            raise
        wanted = self._new_pin()
        if wanted is not None:
            self.store.activate_bundle(wanted.version).result()
            self.store.drop_bundle(version)
        return wanted is None

    def _watch_data(self, grown: Grown) -> DriftReport:
        started = time.monotonic()
        report = measure_drift(grown, self.config.drift)
        self._tell("watch", report.headline, time.monotonic() - started, report.facts())
        return report

    def _watch_quality(self, report: DriftReport, verdict: Verdict) -> DriftReport:
        """Follow the quality of what is in use from round to round."""
        if verdict.of_live is None:
            return report
        started = time.monotonic()
        kept = next((d.body for d in self.store.documents(QUALITY_KIND) if d.name == METRIC), None)
        detector = PageHinkley.of_facts(kept or {}, self.config.drift)
        error = _standard_error(verdict)
        alarmed = detector.take(verdict.of_live.mean(METRIC), error)
        self.store.put_document(QUALITY_KIND, METRIC, detector.facts()).result()
        report = report.with_quality(verdict.of_live.mean(METRIC), detector.mean, alarmed=alarmed)
        self.store.put_document(DRIFT_KIND, _DRIFT_NAME, report.facts()).result()
        if alarmed:
            self._tell("watch", report.headline, time.monotonic() - started, report.facts())
        return report

    def _end(
        self,
        decision: Decision | None,
        version: str | None,
        verdict: Verdict | None,
        drift: DriftReport | None,
    ) -> Round:
        return Round(decision, version, verdict, drift, tuple(self.steps))

    def _tell(self, name: str, message: str, seconds: float, facts: dict[str, Any]) -> None:
        step = Step(name, message, seconds, facts)
        self.steps.append(step)
        self.listen(step)


def _reading(news: News, config: LoopConfig) -> dict[str, Any]:
    """Tell one reading of a log from the next; its position moves without any news, too."""
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]
    sizes = {"events": news.events.height, "items": len(news.items), "forgotten": len(news.forgotten)}
    return {**sizes, "settings": settings}


def _refuse_two_names(users: Vocabulary, news: News) -> None:
    """Raise where people would stand twice in the next bundle, and nobody who is erased would leave it.

    Raises:
        ConfigError: when the log names people by pseudonyms and the bundle does not.
        BundleError: when the bundle has somebody by both names.
    """
    if users.ids.is_duplicated().any():
        raise BundleError(
            "The bundle in use names people twice, by the ids of the shop and by pseudonyms.",
            remedy="Publish one trained on the shop's own records:  zhiyin publish BUNDLE --activate",
        )
    of_log = news.events["user_id"].unique().to_list() + sorted(news.forgotten)
    if len(users) and are_pseudonyms(of_log) and not are_pseudonyms(users.ids.to_list()):
        raise ConfigError(
            "The log names people by pseudonyms, and the bundle in use by the ids of the shop.",
            possible="The loop can translate them when it knows the secret of the service.",
            remedy="Give it the settings of the service:  zhiyin loop --settings FILE, or ZHIYIN_SECRET and"
            " ZHIYIN_PRIVACY_PSEUDONYMISE in its environment.",
        )


def _standard_error(verdict: Verdict) -> float:
    assert verdict.of_live is not None
    values = verdict.of_live.values[METRIC]
    return float(values.std() / max(len(values), 1) ** 0.5)
