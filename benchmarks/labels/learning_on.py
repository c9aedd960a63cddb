"""What does a ranker gain that learns on, and what does it cost beside training anew?

    python benchmarks/labels/learning_on.py movielens-100k --seed 0 --seed 1 --seed 2

The log in time order: a ranker of likes (a rating of 4 or more) is trained on the first half; equal periods
follow. Before each, one ranker stays as it is (*kept*), one learns on from where it stands (*going on*), one
is trained anew on everything (*anew*). Each answers the rows of the period, and reads what users did up to
each row. Differences are paired over users.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from measuring import differences, judged

from zhiyin.contracts import Continuing, Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.data.order import carried_forward
from zhiyin.data.reading import read_dataset
from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.language.catalogue import Language
from zhiyin.pipeline.ranker_continuing import continued
from zhiyin.pipeline.ranker_files import fit_ranker_stage, labelled
from zhiyin.pipeline.ranker_stage import RankerStage
from zhiyin.pipeline.recipes import recipe

FIRST = 0.5
WAYS = ("kept", "going on", "anew")
FIGURES = ("roc_auc", "log_loss")


def main() -> None:
    """Print one row for each seed and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ZHIYIN_DATA", "../shared/data")))
    parser.add_argument("--liked-from", type=float, default=4.0)
    parser.add_argument("--periods", type=int, default=5)
    parser.add_argument("--texts", action="store_true", help="read texts, too")
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--epochs", type=int, default=Continuing().epochs)
    parser.add_argument("--rate", type=float, default=Continuing().learning_rate_share)
    parser.add_argument("--replay", type=float, default=Continuing().replay_share)
    given = parser.parse_args()
    dataset = read_dataset(given.data / given.dataset)
    vectors = Language().vectors(dataset.catalogue) if given.texts else None
    how = Continuing(epochs=given.epochs, learning_rate_share=given.rate, replay_share=given.replay)
    print("| seed | ranker | ROC-AUC | log-loss | AUC, minus kept | log-loss, minus kept | s a period |")
    print("| --- | --- | --- | --- | --- | --- | ---: |")
    for seed in given.seed or [0]:
        _replay(Replay(dataset, vectors, given.liked_from, given.periods, how, seed))


class Replay:
    """A log that is let go by, period after period.

    Args:
        dataset: Everything.
        vectors: (I, D) of the texts, or None.
        liked_from: Ratings from here on are a yes.
        n_periods: After the first half.
        how: How the one goes on that does.
        seed: Of every training.
    """

    def __init__(
        self,
        dataset: Dataset,
        vectors: FloatArray | None,
        liked_from: float,
        n_periods: int,
        how: Continuing,
        seed: int,
    ) -> None:
        settings = {"ranker.tasks.liked.column": "value", "ranker.tasks.liked.yes_from": liked_from}
        self.config = recipe("fast", settings).ranker
        self.vectors, self.how, self.seed = vectors, how, seed
        self.dataset = replace(dataset, context={}, impressions=None)
        histories = dataset.histories
        moments = carried_forward(histories.row_of_event.astype(np.int32), histories.timestamp)
        place = np.empty(len(moments), dtype=np.int64)
        place[np.argsort(moments, kind="stable")] = np.arange(len(moments))
        ends = np.linspace(FIRST, 1.0, n_periods + 1) * len(moments)
        self.period = np.searchsorted(ends, place, side="right")
        self.n_periods = n_periods

    def asked(self) -> tuple[LabelledExamples, LongArray]:
        """Return the rows from the second period on, each with what was known at its moment, and its period.

        In the first one all rankers are the same.
        """
        rows, _ = labelled(self.config, self.dataset)
        period = self.period[rows.events.offsets[:-1][rows.user_index] + rows.n_known]
        late = np.flatnonzero(period > 1)
        return rows.take(late), period[late]

    def training(self, until: int) -> tuple[TrainingData, BoolArray]:
        """Return what is known before a period ends, and which of it the last period brought."""
        is_known = self.period <= until
        known = replace(self.dataset.with_events(is_known), first_hidden=None)
        return TrainingData(known, Language(), seed=self.seed), self.period[is_known] == until

    def anew(self, until: int) -> RankerStage:
        """Train on everything before a period ends."""
        return fit_ranker_stage(self.config, self.training(until)[0], self.vectors)

    def on(self, stage: RankerStage, until: int) -> RankerStage:
        """Learn on from what a period brought."""
        training, is_new = self.training(until)
        return continued(stage, training, Growth(is_new, self.how))


def _replay(replay: Replay) -> None:
    stages = dict.fromkeys(WAYS, replay.anew(0))
    asked, period_of_row = replay.asked()
    told = {way: np.empty(len(asked), dtype=np.float32) for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    for period in range(2, replay.n_periods + 1):
        for way, learn in (("going on", partial(replay.on, stages["going on"])), ("anew", replay.anew)):
            started = time.process_time()
            stages[way] = learn(period - 1)
            seconds[way] += time.process_time() - started
        rows = np.flatnonzero(period_of_row == period)
        for way in WAYS:
            told[way][rows] = stages[way].ranker.predict(asked.take(rows))[:, 0]
    verdicts = {way: judged(asked, "liked", told[way]) for way in WAYS}
    for way, verdict in verdicts.items():
        figures = " | ".join(f"{verdict.figures[name].value:.4f}" for name in FIGURES)
        apart = differences(verdict, verdicts["kept"])
        gains = " | ".join(
            "" if way == "kept" else "{value:+.4f} [{low:+.4f}, {high:+.4f}]".format(**apart[name])
            for name in FIGURES
        )
        each = seconds[way] / (replay.n_periods - 1)
        print(f"| {replay.seed} | {way} | {figures} | {gains} | {each:.1f} |", flush=True)


if __name__ == "__main__":
    main()
