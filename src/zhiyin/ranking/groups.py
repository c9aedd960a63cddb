"""Which tasks are learned together: chosen by users whose rows stopped no training.

Tasks that contradict each other are better learned apart (Standley et al., "Which tasks should be learned
together in multi-task learning?", 2020). Four kinds of networks are learned: one of all tasks; one for each
task alone; one of the tasks that stay with the others, because their own network is not better; and one of
those that leave. Each task is then answered by the network that foretells it best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, LongArray
from zhiyin.domain.errors import TrainingError
from zhiyin.ranking.batches import Rows
from zhiyin.ranking.learning import Learned, learn_network
from zhiyin.ranking.reading import Material, RankerData
from zhiyin.ranking.settings import BalanceConfig, RankerConfig
from zhiyin.ranking.trained import Part, TrainedRanker, raw_answers

TOGETHER, ALONE, STAYED, LEFT = KINDS = ("together", "alone", "stayed", "left")
"""Networks: of all tasks, of one, of those that stay with each other, of those that leave them."""


def halves_by_user(
    validation: LabelledExamples, *, seed: int = 0
) -> tuple[LabelledExamples, LabelledExamples]:
    """Deal validation rows out by user: rows to stop training by, and rows to choose groups by.

    A network looks better on the rows that chose its epoch than it is, and the more so the more epochs there
    were to choose from; other users judge all networks alike.

    Raises:
        TrainingError: when there are fewer than two users.
    """
    users = np.unique(validation.user_index)
    if len(users) < 2:
        raise TrainingError(
            "Groups of tasks are chosen on validation rows of users that stopped no training, "
            f"and the validation rows are of {len(users)} user{'' if len(users) == 1 else 's'}.",
            remedy="Hold back rows of more users, or set groups to 'one'.",
        )
    stopping = np.random.default_rng(seed).permutation(users)[: len(users) // 2]
    is_stopping = np.isin(validation.user_index, stopping)
    return validation.take(np.flatnonzero(is_stopping)), validation.take(np.flatnonzero(~is_stopping))


def alone_config(config: RankerConfig) -> RankerConfig:
    """Return the settings of a task that is learned alone.

    With one task the scale of its loss only says how strong shrinkage is, and there is nothing to mix.
    """
    return config.model_copy(
        update={"groups": "one", "balance": BalanceConfig(name="scaled"), "n_experts": 1}
    )


def learn_groups(config: RankerConfig, data: RankerData, name: str) -> TrainedRanker:
    """Learn tasks together, alone and in two groups, and answer each as did best.

    A killed run goes on from its checkpoints, of which each network has one of its own.

    Raises:
        TrainingError: when there are no validation rows of at least two users, or the loss is not a number.
    """
    if data.validation is None or not len(data.validation):
        raise TrainingError(
            "Groups of tasks are chosen on validation rows, and there are none.",
            remedy="Give validation rows, or set groups to 'one'.",
        )
    stopping, judging = halves_by_user(data.validation, seed=data.seed)
    material = Material.of(config, replace(data, validation=stopping))
    choice = _Choice(config, material, material.reader.rows(judging), name)
    places = np.arange(len(data.train.tasks))
    choice.learn(TOGETHER, places)
    for place in places:
        choice.learn(ALONE, places[place : place + 1])
    leaves = choice.is_answered_by(ALONE)
    for group, is_in in ((STAYED, ~leaves), (LEFT, leaves)):
        if 1 < is_in.sum() < len(places):
            choice.learn(group, places[is_in])
    return choice.chosen()


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the held-back users say of a network and a task.

    Attributes:
        by_user: (U,) float64, the loss of each user, summed up.
        n_rows: (U,) int64, how many rows that is.
    """

    by_user: npt.NDArray[np.float64]
    n_rows: LongArray

    @classmethod
    def of(cls, losses: FloatArray, user: LongArray) -> Verdict:
        """Sum up the (N,) losses of rows, NaN where nothing is known, of users numbered from 0."""
        is_known = ~np.isnan(losses)
        by_user = np.bincount(user, np.where(is_known, losses, 0.0))
        return cls(by_user.astype(np.float64), np.bincount(user, is_known).astype(np.int64))

    @property
    def loss(self) -> float:
        """The mean of all rows."""
        return float(self.by_user.sum() / max(self.n_rows.sum(), 1))

    def gain_over(self, other: Verdict) -> tuple[float, float]:
        """Return how much less is lost than by another network, and the standard error over users."""
        less, n_users, n = other.by_user - self.by_user, len(self.by_user), max(int(self.n_rows.sum()), 1)
        gain = float(less.sum()) / n
        around = less - gain * self.n_rows
        return gain, float(np.sqrt((around**2).sum() * n_users / max(n_users - 1, 1))) / n


class _Choice:
    """Learns networks one after the other and keeps those that some task is answered by."""

    def __init__(self, config: RankerConfig, material: Material, judging: Rows, name: str) -> None:
        self._config, self._material, self._judging, self._name = config, material, judging, name
        self._user = np.unique(judging.examples.user_index, return_inverse=True)[1]
        n_tasks = len(material.reader.labels.tasks)
        self._by = [TOGETHER] * n_tasks
        self._verdicts: list[Verdict | None] = [None] * n_tasks
        self._told: list[dict[str, dict[str, float]]] = [{} for _ in range(n_tasks)]
        self._networks: dict[str, tuple[LongArray, Learned]] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def is_answered_by(self, kind: str) -> npt.NDArray[np.bool_]:
        """(T,) bool, which tasks a network of this kind answers best so far."""
        return np.array([_kind(run) == kind for run in self._by])

    def learn(self, kind: str, places: LongArray) -> None:
        """Learn the tasks at these places, and let the network answer those that it foretells better."""
        is_alone = kind == ALONE
        config = alone_config(self._config) if is_alone else self._config.model_copy(update={"groups": "one"})
        run = f"{kind}-{places[0]}" if is_alone else kind
        material = self._material.only(places)
        learned = learn_network(config, material, f"{self._name}-{run}")
        self._networks[run] = places, learned
        self._facts[run] = {"tasks": list(material.reader.labels.tasks), **learned.facts}
        losses = self._judged(places, learned)
        for nth in np.flatnonzero(~np.isnan(losses).all(axis=0)):
            self._compare(int(places[nth]), run, Verdict.of(losses[:, nth], self._user))
        self._networks = {run: kept for run, kept in self._networks.items() if run in self._by}

    def _judged(self, places: LongArray, learned: Learned) -> FloatArray:
        """Return the (N, t) losses of rows of held-back users; NaN where all labels of a task are equal."""
        rows, labels = self._judging.only(places), self._material.reader.labels.only(places)
        truth = rows.examples.labels
        part = Part(np.arange(len(places)), learned.network)
        losses = labels.losses_of_rows(labels.told(raw_answers((part,), rows)), truth)
        is_unknown = np.isnan(truth)
        low, high = (
            np.where(is_unknown, np.inf, truth).min(axis=0),
            np.where(is_unknown, -np.inf, truth).max(axis=0),
        )
        judged: FloatArray = np.where(low >= high, np.nan, losses)
        return judged

    def _compare(self, place: int, run: str, verdict: Verdict) -> None:
        told, best = {"loss": verdict.loss}, self._verdicts[place]
        if best is not None:
            told["gain"], told["standard_error"] = verdict.gain_over(best)
        self._told[place][_kind(run)] = told
        if best is None or told["gain"] > 0:
            self._verdicts[place], self._by[place] = verdict, run

    def chosen(self) -> TrainedRanker:
        """Return a ranker of the best networks, each cut to the tasks it answers."""
        parts = []
        for run, (places, learned) in self._networks.items():
            answered = [nth for nth, place in enumerate(places) if self._by[place] == run]
            parts.append(Part(places[answered], learned.network.only(answered)))
        labels = self._material.reader.labels
        found = zip(labels.tasks, self._by, self._told, strict=True)
        facts = {
            **self._facts[TOGETHER],
            "tasks": list(labels.tasks),
            "yes_no": labels.yes_no,
            "groups": {task: {"network": _kind(run), "validation": told} for task, run, told in found},
            "networks": self._facts,
            "n_rows_to_choose_by": len(self._judging),
            "n_weights": sum(weight.numel() for part in parts for weight in part.network.parameters()),
            "training_seconds": sum(facts["training_seconds"] for facts in self._facts.values()),
        }
        return TrainedRanker(self._material.reader, tuple(parts), facts)


def _kind(run: str) -> str:
    return run.split("-", maxsplit=1)[0]
