"""What the figures of one task say in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind, Part
from zhiyin.evaluation.labels.run_report import TaskReport, lower_is_better
from zhiyin.evaluation.labels.sentences import Sentence, good, plain, worry
from zhiyin.evaluation.labels.words import between, figure_name, main_figure, share
from zhiyin.evaluation.plots import figure

RARE = 0.1
"""Share of a class below which accuracy says little."""
FEW = 100
"""Rows of a class below which every figure of it is shaky."""
MISCALIBRATED = 0.02
"""Mean distance between told and true that is worth mending."""
_OF_RARE_CLASS = 0.25
"""Of a rare class, so much of its share is worth mending too."""
_OF_ERROR = 0.1
"""Share of the typical error that a mean error must have to be told."""


def read_task(task: TaskReport) -> Iterator[Sentence]:
    """Say how good the predictions of a task are, whom they are good for, and how they do against others."""
    figures = task.figures
    readers = {LabelKind.CHANCE: _read_chances, LabelKind.VALUE: _read_values}
    yield from readers.get(figures.kind, _read_rankings)(figures)
    yield from _read_history(figures)
    yield from _read_others(task)


def _read_chances(figures: LabelFigures) -> Iterator[Sentence]:
    area = figures.figures["roc_auc"]
    if math.isnan(area.value):
        yield worry(f"Nothing can be said about yes and no: {figures.reasons['roc_auc']}.")
        return
    pairs = f"a yes gets a higher chance than a no in {share(area.value)} of the pairs"
    told = f"{pairs}, ROC-AUC {figure(area.value)}{_within(area)}"
    if area.low > 0.5 or (math.isnan(area.low) and area.value > 0.5):
        yield good(f"It tells yes from no: {told}; guessing gives 50 %.")
    elif area.high < 0.5:
        yield worry(f"It is worse than guessing: {told}. Are yes and no the wrong way round?")
    else:
        yield worry(f"It cannot be told from guessing: {told}.")
    yield from _read_loss(figures)
    yield from _read_calibration(figures)
    yield from _read_classes(figures)


def _read_loss(figures: LabelFigures) -> Iterator[Sentence]:
    happened, loss = figures.figures["share_of_yes"].value, figures.figures["log_loss"]
    known = -(happened * math.log(happened) + (1 - happened) * math.log(1 - happened))
    if loss.value >= known:
        yield worry(
            f"Its chances are worth less than telling everybody {share(happened)}: log-loss "
            f"{figure(loss.value)} against {figure(known)}."
        )


def _read_calibration(figures: LabelFigures) -> Iterator[Sentence]:
    error, happened = figures.figures["calibration_error"], figures.figures["share_of_yes"].value
    told = figures.figures["mean_chance"].value
    limit = min(MISCALIBRATED, _OF_RARE_CLASS * min(happened, 1 - happened))
    off = f"chances are off by {share(error.value)} on average"
    lowest = error.value if math.isnan(error.low) else error.low
    if lowest <= limit:
        yield good(f"Its chances can be taken at their word: {off}.")
    elif abs(told - happened) > error.value / 2:
        much = "too much" if told > happened else "too little"
        yield worry(
            f"Miscalibrated: {off}. It promises {much}: {share(told)} were told on average, and "
            f"{share(happened)} happened. The order does not suffer from that; chances need a "
            "correction fitted on validation rows."
        )
    else:
        yield worry(
            f"Miscalibrated: {off}, though the mean is right: look at the calibration plot for chances that "
            "are too bold or too timid. A temperature fitted on validation rows mends that."
        )


def _read_classes(figures: LabelFigures) -> Iterator[Sentence]:
    happened, accuracy = figures.figures["share_of_yes"].value, figures.figures["accuracy"].value
    rare, rarer = ("yes", happened) if happened <= 0.5 else ("no", 1 - happened)
    if rarer < RARE:
        precision = figure(figures.figures["average_precision"].value)
        instead = f"PR-AUC ({precision}; guessing gives {figure(happened)})" if rare == "yes" else "ROC-AUC"
        yield worry(
            f"Rare class: only {share(rarer)} of the rows are {rare}, so that answering otherwise everywhere "
            f"is right in {share(1 - rarer)} of them. Judge by {instead}, not by accuracy."
        )
    elif accuracy <= 1 - rarer:
        yield worry(
            f"At the threshold {figures.threshold:g} it is right in {share(accuracy)} of the rows, no more "
            f"than one answer for all ({share(1 - rarer)})."
        )
    if figures.figures["recall_yes"].value == 0:
        yield worry(f"It finds no yes at the threshold {figures.threshold:g}.")
    n_rare = round(rarer * figures.whole.n_rows)
    if n_rare < FEW:
        yield worry(f"Few rows: {n_rare} are {rare}. Read the intervals, not the figures.")


def _read_values(figures: LabelFigures) -> Iterator[Sentence]:
    explained, error = figures.figures["r_squared"], figures.figures["rmse"]
    typical = f"the typical error (RMSE) is {figure(error.value)}{_within(error)}"
    if math.isnan(explained.value):
        yield worry(f"Nothing is explained: {figures.reasons['r_squared']}; {typical}.")
    elif explained.value > 0 and not explained.low <= 0:
        squared = f"R² {figure(explained.value)}{_within(explained)}"
        yield good(f"It explains {share(explained.value)} of the variance, {squared}; {typical}.")
    else:
        yield worry(f"It is no better than telling everybody the mean; {typical}.")
    shifted = figures.figures["mean_error"]
    if (shifted.low > 0 or shifted.high < 0) and abs(shifted.value) > _OF_ERROR * error.value:
        word = "high" if shifted.value > 0 else "low"
        yield worry(
            f"Predictions are too {word} by {figure(abs(shifted.value))} on average. When test rows are "
            "newer than training rows, tastes may have moved; else subtract it."
        )


def _read_rankings(figures: LabelFigures) -> Iterator[Sentence]:
    name = main_figure(figures)
    found = figures.figures[name]
    if math.isnan(found.value):
        yield worry(f"Nothing can be said about the order: {figures.reasons[name]}.")
        return
    rank = 1 / figures.figures["mrr"].value
    told = (
        f"{figure_name(name)} is {figure(found.value)}{_within(found)}; the first relevant row stands at "
        f"about place {rank:.1f}."
    )
    above = figures.figures[name.replace("ndcg", "ndcg_over_chance")]
    if above.low > 0 or (math.isnan(above.low) and above.value > 0):
        yield good(f"It orders better than chance, by {figure(above.value)}{_within(above)}: {told}")
    elif above.high < 0:
        yield worry(f"It orders worse than chance, by {figure(-above.value)}: {told}")
    else:
        yield worry(
            f"Its order cannot be told from a random one, {figure(above.value)}{_within(above)}: {told}"
        )


def _read_history(figures: LabelFigures) -> Iterator[Sentence]:
    name = main_figure(figures)
    known = [part for part in figures.by_history if not math.isnan(part.figures[name].low)]
    if len(known) < 2:
        return
    short, long = known[0], known[-1]
    a, b = short.figures[name], long.figures[name]
    parts = " and ".join(_of_part(part, name, figures.counted) for part in (short, long))
    told = f"{figure_name(name)} is {parts}"
    is_worse = a.low > b.high if lower_is_better(name) else a.high < b.low
    is_better = a.high < b.low if lower_is_better(name) else a.low > b.high
    if is_worse:
        yield plain(f"It does less well for those it hardly knows: {told}.")
    elif is_better:
        yield good(f"It does best for those it hardly knows: {told}.")
    else:
        yield plain(f"No certain difference between those it hardly knows and the others: {told}.")


def _read_others(task: TaskReport) -> Iterator[Sentence]:
    name = main_figure(task.figures)
    for other, differences in task.against.items():
        found = next((one for one in differences if one.metric == name), None)
        if found is None:
            continue
        told = f"{figure_name(name)} {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        if not found.is_certain:
            yield plain(f"It cannot be told from {other}: {told}.")
        elif (found.value < 0) == lower_is_better(name):
            yield good(f"It is better than {other}: {told}.")
        else:
            yield worry(f"It is worse than {other}: {told}.")


def _of_part(part: Part, name: str, counted: str) -> str:
    return f"{figure(part.figures[name].value)} with {part.label} known events ({part.n_rows:,} {counted})"


def _within(interval: Interval) -> str:
    return f" ({between(interval)})" if between(interval) else ""
