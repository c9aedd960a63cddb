"""What a report on a fine-tuning run says in plain words: what is good, and what to worry about."""

from __future__ import annotations

import math
from collections.abc import Iterator

from zhiyin.evaluation.labels.reading_tasks import read_task
from zhiyin.evaluation.labels.run_report import FinetuningEpoch, FinetuningReport, lower_is_better
from zhiyin.evaluation.labels.sentences import Sentence, plain, worry
from zhiyin.evaluation.labels.words import count, duration, figure_name, memory, share
from zhiyin.evaluation.plots import figure

WORSE = 0.002
"""Share of a figure by which it must have fallen, or risen, to be worth a word."""
LEAST_GAIN = 0.001
"""By how much validation must have risen in the last epoch, at least, to promise more from another."""


def read_report(report: FinetuningReport) -> tuple[Sentence, ...]:
    """Return what to know before looking at any figure, the tasks first."""
    sentences = []
    for task in report.tasks:
        name = f"{task.figures.task}: " if len(report.tasks) > 1 else ""
        sentences += [Sentence(said.tone, f"{name}{said.text}") for said in read_task(task)]
    return (*sentences, *_read_learning(report), *_read_costs(report))


def _read_learning(report: FinetuningReport) -> Iterator[Sentence]:
    epochs = report.epochs
    lost = next((epoch.epoch for epoch in epochs if not math.isfinite(epoch.train_loss)), None)
    if lost is not None:
        yield worry(f"The training loss was not a number from epoch {lost} on: lower the learning rate.")
        return
    if len(epochs) < 2:
        return
    first, last = epochs[0], epochs[-1]
    if last.train_loss >= first.train_loss:
        yield worry(
            f"The training loss did not fall ({figure(first.train_loss)} to {figure(last.train_loss)}): the "
            "learning rate is too high or far too low, or too little is trained."
        )
    best = report.best_epoch
    measured = [epoch for epoch in epochs if report.chosen_by in epoch.validation]
    if best is not None and len(measured) > 1:
        yield from _read_validation(report.chosen_by, measured, best)


def _read_validation(name: str, measured: list[FinetuningEpoch], best: FinetuningEpoch) -> Iterator[Sentence]:
    last, before = measured[-1], measured[-2]
    top, end = best.validation[name], last.validation[name]
    sign = -1.0 if lower_is_better(name) else 1.0
    if last is best:
        gained = sign * (end - before.validation[name])
        if gained > max(WORSE * abs(end), LEAST_GAIN):
            yield plain(
                f"Validation {figure_name(name)} was still getting better in the last epoch "
                f"({figure(before.validation[name])} to {figure(end)}): more epochs may help."
            )
        return
    told = f"validation {figure_name(name)} went from {figure(top)} to {figure(end)}"
    kept = f"The weights of epoch {best.epoch} were kept."
    if sign * (top - end) <= WORSE * abs(top):
        yield plain(f"After epoch {best.epoch} nothing was gained any more: {told}. {kept}")
    elif last.train_loss < best.train_loss:
        yield worry(
            f"Over-fitting: after epoch {best.epoch} the training loss went on falling "
            f"({figure(best.train_loss)} to {figure(last.train_loss)}), while {told}. {kept} Fewer epochs, "
            "fewer trained parameters, more dropout or weight decay would learn less by heart."
        )
    else:
        yield worry(f"After epoch {best.epoch} it got worse in training too: {told}. {kept}")


def _read_costs(report: FinetuningReport) -> Iterator[Sentence]:
    costs = report.costs
    used = [f"{duration(costs.seconds)} on {costs.device}"]
    if costs.peak_memory_mb is not None:
        used.append(f"{memory(costs.peak_memory_mb)} at most")
    if costs.tokens_per_second is not None:
        used.append(f"{count(costs.tokens_per_second)} tokens per second")
    yield plain(
        f"Trained were {share(costs.share_trained)} of the parameters ({costs.n_trained:,} of "
        f"{costs.n_parameters:,}): {', '.join(used)}."
    )
