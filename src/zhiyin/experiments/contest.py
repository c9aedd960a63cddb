"""Training and judging several recommenders on the same events, so that they can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split
from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.per_user import PerUser
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.comparing import Run
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, split_by
from zhiyin.experiments.training import Trained, fit_pipeline, judge, load_trained
from zhiyin.pipeline.settings import PipelineConfig


@dataclass(frozen=True)
class Contest:
    """Who takes part.

    Attributes:
        configs: Name → pipeline to train.
        bundles: Folders of bundles trained on the same data under the same protocol.
        seeds: Every pipeline is trained once with each.
        protocol: How the data is divided.
    """

    configs: Mapping[str, PipelineConfig] = field(default_factory=dict)
    bundles: tuple[Path, ...] = ()
    seeds: tuple[int, ...] = (0,)
    protocol: str = LEAVE_LAST_OUT

    @property
    def names(self) -> tuple[str, ...]:
        """What the runs will be called, in order."""
        return (*(bundle.name for bundle in self.bundles), *self.configs)


def refuse_indistinct(names: Sequence[str]) -> None:
    """Raise when there are not two to compare, or two of them have one name; before long work begins.

    Raises:
        RequestError: with what to name.
    """
    if len(names) < 2:
        raise RequestError(
            "There is nothing to compare with.", remedy="Name two recipes or bundles at least."
        )
    if len(set(names)) < len(names):
        raise RequestError(
            f"Two of them have the same name: {', '.join(names)}.",
            remedy="Name each once; folders of bundles need different names.",
        )


def judged_runs(
    dataset: Dataset, contest: Contest, judging: EvaluationSettings, progress: Progress
) -> list[Run]:
    """Train and judge everybody on the test events of one split.

    Raises:
        RequestError: when fewer than two take part, or two of one name; before anything is trained.
        BundleError: when a bundle was trained on other data or under another protocol.
    """
    refuse_indistinct(contest.names)
    split = split_by(contest.protocol, dataset, repeat=judging.repeat)
    runs = []
    for bundle in contest.bundles:  # first, because one that does not fit is seen without training
        loaded = load_trained(bundle, dataset, contest.protocol, repeat=judging.repeat)
        runs.append(judged_run(bundle.name, [loaded], judging, progress))
    for name, config in contest.configs.items():
        trained = trained_with_seeds(name, config, split, contest.seeds, progress)
        runs.append(judged_run(name, trained, judging, progress))
    return runs


def judged_run(name: str, trained: Iterable[Trained], judging: EvaluationSettings, progress: Progress) -> Run:
    """Judge one recommender, trained once or with several seeds, on the test part of its split.

    The value of a user is the mean over the seeds: what is compared is the method, not its luckiest training.

    Args:
        name: What to call it.
        trained: One a seed, all on the same split; each is judged as it comes.
        judging: How.
        progress: Who listens.
    """
    evaluations: list[Evaluation] = []
    for one in trained:
        evaluations.append(judge(one, judging, progress))
        per_user = PerUser.of(evaluations[-1], one.split.test, one.split.train.users)
    first = evaluations[0]
    values = {
        metric: np.stack([evaluation.values[metric] for evaluation in evaluations]).mean(axis=0)
        for metric in first.values
    }
    spread: dict[str, float] = {}
    if len(evaluations) > 1:
        spread = {
            metric: float(np.std([evaluation.mean(metric) for evaluation in evaluations], ddof=1))
            for metric in first.values
        }
    return Run(name, replace(per_user, values=values), first.queries_digest, spread)


def trained_with_seeds(
    name: str, config: PipelineConfig, split: Split, seeds: Sequence[int], progress: Progress
) -> Iterator[Trained]:
    """Train a pipeline once for each seed, one after the other."""
    for seed in seeds:
        trained = fit_pipeline(config, split, seed=seed, progress=progress)
        progress.say(f"{name}, seed {seed}: trained in {trained.fit_seconds:.1f} s")
        yield trained
