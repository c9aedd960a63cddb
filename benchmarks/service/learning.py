"""Quality over time of a bundle that is frozen, one that learns on, and one trained anew each time.

Real data are replayed in time order: the first 60 % train the first bundle, the rest is cut into periods of
equally many events. Each period asks for events of users that are new to them, knowing all that came before;
then its events are learned from. Differences between ways to keep up are paired, event by event, with 95 %
intervals from drawing users anew. Usage::

    python benchmarks/service/learning.py [--data FOLDER] [--only amazon-beauty:fast ...] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from zhiyin.contracts import Continuing, Steps
from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_checked
from zhiyin.data.splits import first_meetings, next_events
from zhiyin.domain import Examples
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.intervals import percentile_interval, resampled_weights
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings
from zhiyin.evaluation.replay import Curve, curves_svg
from zhiyin.experiments.refreshing.gathering import Grown
from zhiyin.experiments.refreshing.holding import hold_back
from zhiyin.experiments.refreshing.refresh import completed, refresh
from zhiyin.experiments.refreshing.settings import FULL, RefreshConfig
from zhiyin.pipeline.absorbing import absorb, twin_of
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig

RUNS = ("amazon-beauty:fast", "movielens-1m:fast", "amazon-beauty:hybrid")
DATA = Path(os.environ.get("ZHIYIN_DATA", Path(__file__).parents[3] / "shared" / "data"))
BEFORE, N_PERIODS, PORTIONS = 0.6, 8, 5
FEW_EPOCHS = {
    "sources.sequence.training.max_epochs": "10",
    "sources.sequence.training.patience": "10",  # validation on the newest events dips before it rises
    "sources.sequence.training.max_minutes": "40",
}
HEAD = (
    "| period | "
    + " | ".join(("frozen", "frozen, counting", "refreshed", "refreshed, counting", "full"))
    + " |"
)
COMPARED = (
    ("refreshed", "frozen"),
    ("full", "refreshed"),
    ("frozen, counting", "frozen"),
    ("refreshed, counting", "frozen, counting"),
)
JUDGE = EvaluationSettings(at=(10,), credit_unseen=True)


@dataclass
class Line:
    """One way to keep up: its quality in each period and what it cost."""

    name: str
    of_events: list[np.ndarray] = field(default_factory=list)
    """Per period from the second on, NDCG@10 of each event that was asked for."""
    users: list[np.ndarray] = field(default_factory=list)
    """Of whom, alike."""
    ndcg: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    absorb_seconds: float = 0.0
    n_absorbed: int = 0


def timed(dataset: Dataset, name: str) -> Dataset:
    """Give movielens-1m a clock: this copy has none, but users are numbered from the newest to the oldest.

    Whole users follow each other, from the last number to the first; within a user the order of the rows
    is that of time.
    """
    if dataset.has_timestamps:
        return dataset
    histories = dataset.histories
    number = dataset.users.ids.cast(int).to_numpy()
    rank = np.argsort(np.argsort(-number, kind="stable"), kind="stable")
    within = np.arange(histories.n_events) - np.repeat(histories.offsets[:-1], histories.lengths)
    moments = np.repeat(rank, histories.lengths) * 10_000 + within
    print(f"{name}: no timestamps; users follow each other in falling order of their number", file=sys.stderr)
    return replace(dataset, histories=replace(histories, timestamp=moments.astype(np.int64)))


def grown(dataset: Dataset, until: float, since: float, pipeline: Pipeline) -> Grown:
    """What there is to learn from before a moment; what is not older than another is new."""
    known = dataset.with_events(dataset.histories.timestamp < until)
    is_new = known.histories.timestamp >= since
    return Grown(known, is_new, 0, pipeline, 0)


def learned(
    dataset: Dataset, cuts: tuple[float, float], pipeline: Pipeline, config: RefreshConfig
) -> tuple[Pipeline, float]:
    """Train on everything before the second cut; seconds of the processor, whatever else runs."""
    there_is = grown(dataset, cuts[1], cuts[0], pipeline)
    held = hold_back(there_is, config)
    started = time.process_time()
    after = refresh(there_is, held, config)
    return completed(after), time.process_time() - started


def quality(pipeline: Pipeline, examples: Examples, known: Dataset) -> tuple[np.ndarray, float]:
    """Return NDCG@10 of each example, and the mean recall@10."""
    judged = evaluate(pipeline, examples, facts=CatalogueFacts(known.item_counts), settings=JUDGE)
    return judged.values["ndcg_at_10"], judged.mean("recall_at_10")


@dataclass
class Replay:
    """A data set in the order of time, and the events that are asked for."""

    dataset: Dataset
    edges: np.ndarray
    order: np.ndarray
    asked: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, n_examples: int) -> Replay:
        """Cut time into periods, and draw what is asked in each."""
        moments = dataset.histories.timestamp
        edges = np.quantile(moments, np.linspace(BEFORE, 1.0, N_PERIODS * PORTIONS + 1), method="lower")
        edges = edges.astype(np.float64)
        edges[-1] = np.inf
        row = dataset.histories.row_of_event
        has_history = np.arange(len(moments)) > dataset.histories.offsets[:-1][row]
        can_be_asked = np.flatnonzero(first_meetings(dataset.histories) & has_history & (moments >= edges[0]))
        random = np.random.default_rng(0)
        period = np.searchsorted(edges[::PORTIONS], moments[can_be_asked], side="right") - 1
        asked = [random.permutation(can_be_asked[period == place])[:n_examples] for place in range(N_PERIODS)]
        return cls(dataset, edges, np.argsort(moments, kind="stable"), np.sort(np.concatenate(asked)))

    def portions(self, period: int):
        """Yield, for each portion of a period, what is asked in it and the steps it brings."""
        moments = self.dataset.histories.timestamp
        for portion in range(period * PORTIONS, (period + 1) * PORTIONS):
            low, high = self.edges[portion], self.edges[portion + 1]
            asked = self.asked[(moments[self.asked] >= low) & (moments[self.asked] < high)]
            rows = self.dataset.histories.row_of_event[asked] if len(asked) else asked
            in_order = self.order[(moments[self.order] >= low) & (moments[self.order] < high)]
            examples = next_events(self.dataset, rows, asked) if len(asked) else None
            yield examples, Steps.of_histories(self.dataset.histories, in_order)


def judge_period(replay: Replay, period: int, line: Line, pipeline: Pipeline, *, absorbs: bool) -> None:
    is_known = replay.dataset.histories.timestamp < replay.edges[period * PORTIONS]
    known = replay.dataset.with_events(is_known)
    serving = twin_of(pipeline)
    ndcg, recalls, users = [], [], []
    for examples, steps in replay.portions(period):
        if examples is not None:
            of_examples, recall = quality(serving, examples, known)
            ndcg.append(of_examples)
            recalls.append(recall)
            users.append(examples.queries.user_index)
        if absorbs:
            started = time.perf_counter()
            absorb(serving, steps)
            line.absorb_seconds += time.perf_counter() - started
            line.n_absorbed += len(steps)
    line.ndcg.append(float(np.concatenate(ndcg).mean()))
    line.recall.append(float(np.average(recalls, weights=[len(part) for part in ndcg])))
    if period:
        line.of_events.append(np.concatenate(ndcg))
        line.users.append(np.concatenate(users))


def run(name: str, data: Path, n_examples: int) -> dict:
    data_name, recipe_name = name.split(":")
    dataset, _ = read_checked(str(data / data_name))
    dataset = timed(dataset, data_name)
    replay = Replay.of(dataset, n_examples)
    config: PipelineConfig = recipe(recipe_name, FEW_EPOCHS if recipe_name == "hybrid" else None)
    begin = replay.edges[0]
    refreshing = RefreshConfig(held_back_share=0.2, continuing=Continuing())
    blank = Pipeline(config)
    first_config = refreshing.model_copy(update={"recipe": FULL, "held_back_share": 0.1})
    first, seconds = learned(dataset, (-np.inf, begin), _untrained(blank, dataset), first_config)
    print(f"{name}: first training {seconds:.1f} s", file=sys.stderr)
    lines = {
        key: Line(key) for key in ("frozen", "frozen, counting", "refreshed", "refreshed, counting", "full")
    }
    refreshed, full, absorbing = first, first, twin_of(first)
    for period in range(N_PERIODS):
        start = replay.edges[period * PORTIONS]
        if period:
            before = replay.edges[(period - 1) * PORTIONS]
            refreshed, seconds = learned(dataset, (before, start), refreshed, refreshing)
            lines["refreshed"].seconds.append(seconds)
            full, seconds = learned(dataset, (-np.inf, start), full, first_config)
            lines["full"].seconds.append(seconds)
        judge_period(replay, period, lines["frozen"], first, absorbs=False)
        judge_period(replay, period, lines["frozen, counting"], absorbing, absorbs=True)
        for _, steps in replay.portions(period):
            absorb(absorbing, steps)
        judge_period(replay, period, lines["refreshed"], refreshed, absorbs=False)
        judge_period(replay, period, lines["refreshed, counting"], refreshed, absorbs=True)
        judge_period(replay, period, lines["full"], full, absorbs=False)
        told = ", ".join(f"{key} {line.ndcg[-1]:.4f}" for key, line in lines.items())
        print(f"{name}: period {period + 1}: {told}", file=sys.stderr)
    told = {
        key: {k: v for k, v in vars(line).items() if k not in ("of_events", "users")}
        for key, line in lines.items()
    }
    return {
        "run": name,
        "n_examples": n_examples,
        "lines": told,
        "differences": [difference(lines[one], lines[other]) for one, other in COMPARED],
    }


def difference(one: Line, other: Line) -> dict:
    """Return by how much one line is better, NDCG@10 over periods 2 and later, with a 95 % interval."""
    better = np.concatenate(one.of_events) - np.concatenate(other.of_events)
    _, who = np.unique(np.concatenate(one.users), return_inverse=True)
    totals, counts = np.bincount(who, better), np.bincount(who)
    drawn = [
        (weights @ totals) / (weights @ counts) for weights in resampled_weights(len(totals), 1_000, seed=0)
    ]
    found = percentile_interval(float(better.mean()), np.concatenate(drawn))
    return {"one": one.name, "other": other.name, "mean": found.value, "low": found.low, "high": found.high}


def _untrained(pipeline: Pipeline, dataset: Dataset) -> Pipeline:
    pipeline.catalogue = dataset.catalogue
    pipeline.removed = np.zeros(len(dataset.catalogue), dtype=np.bool_)
    return pipeline


def table(told: dict) -> str:
    lines = told["lines"]
    rows = [f"\n### {told['run']}\n", HEAD, "| --- " * 6 + "|"]
    for period in range(N_PERIODS):
        cells = " | ".join(
            f"{line['ndcg'][period]:.4f} / {line['recall'][period]:.4f}" for line in lines.values()
        )
        rows.append(f"| {period + 1} | {cells} |")
    means = " | ".join(
        f"{np.mean(line['ndcg'][1:]):.4f} / {np.mean(line['recall'][1:]):.4f}" for line in lines.values()
    )
    rows.append(f"| mean of 2 to {N_PERIODS} | {means} |")
    seconds = " | ".join(f"{np.mean(line['seconds'] or [0]):.1f} s" for line in lines.values())
    rows.append(f"| training a period | {seconds} |")
    rows += ["\n| NDCG@10 of | less that of | difference |", "| --- | --- | --- |"]
    rows += [
        f"| {one['one']} | {one['other']} | {one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] |"
        for one in told["differences"]
    ]
    counted = lines["refreshed, counting"]
    rows.append(
        f"\nCounting: {counted['absorb_seconds'] / max(counted['n_absorbed'], 1) * 1e6:.1f} µs an event."
    )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=RUNS)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        told = run(name, options.data, options.examples)
        stem = f"learning-{name.replace(':', '-')}"
        (options.out / f"{stem}.json").write_text(json.dumps(told, indent=1))
        curves = [Curve(key, line["ndcg"]) for key, line in told["lines"].items()]
        (options.out / f"{stem}.svg").write_text(curves_svg(f"NDCG@10, {name}", curves))
        print(table(told), flush=True)


if __name__ == "__main__":
    main()
