"""What readers call the figures, and what each says, in one sentence."""

from __future__ import annotations

import math

from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind
from zhiyin.evaluation.plots import figure

FIGURES = {
    "roc_auc": ("ROC-AUC", "how often a yes gets a higher chance than a no; 0.5 is guessing"),
    "gauc": ("AUC within users", "the same among rows of one user: does it order what one person saw (GAUC)"),
    "average_precision": ("PR-AUC", "mean precision over all thresholds; guessing gives the share of yes"),
    "log_loss": ("Log-loss", "surprise at what happened, nats; lower is better, and bold errors cost most"),
    "brier": ("Brier score", "mean squared error of the chances; lower is better"),
    "calibration_error": ("Calibration error", "mean distance of told chances from what happened; 0 is best"),
    "accuracy": ("Accuracy", "share of rows answered right at the threshold"),
    "precision_yes": ("Precision of yes", "of the rows called yes, the share that was"),
    "recall_yes": ("Recall of yes", "of the rows that were yes, the share that was called so"),
    "f1_yes": ("F1 of yes", "harmonic mean of the two"),
    "precision_no": ("Precision of no", "of the rows called no, the share that was"),
    "recall_no": ("Recall of no", "of the rows that were no, the share that was called so"),
    "f1_no": ("F1 of no", "harmonic mean of the two"),
    "share_of_yes": ("Share of yes", "what happened on average"),
    "mean_chance": ("Mean chance", "what was told on average"),
    "rmse": ("RMSE", "typical error in the unit of the labels, large ones weigh more; lower is better"),
    "mae": ("MAE", "mean absolute error in the unit of the labels; lower is better"),
    "r_squared": ("R²", "share of the variance that is explained; 0 is telling everybody the mean"),
    "correlation": ("Correlation", "whether high predictions go with high labels, -1 to 1"),
    "mean_error": ("Mean error", "predicted minus true; above 0 it tells too much"),
    "mrr": ("MRR", "one over the rank of the first relevant row, on average"),
    "ndcg": ("NDCG", "gains of the first places against the best order there could be; 1 is best"),
    "ndcg_over_chance": ("NDCG over chance", "how far NDCG lies above that of a random order; 0 is guessing"),
    "hit_rate": ("Hit rate", "share of groups with something relevant in the first places"),
}
"""Name → what readers call it, and what it says."""


_SHOWN = {
    LabelKind.CHANCE: ("roc_auc", "log_loss", "accuracy", "f1_yes", "f1_no", "calibration_error"),
    LabelKind.VALUE: ("rmse", "mae", "correlation"),
    LabelKind.RANKING: ("ndcg_at_10", "mrr", "hit_rate_at_10"),
}


def figure_name(name: str) -> str:
    """Return what readers call ``roc_auc``, ``ndcg_at_10`` or ``click/roc_auc``."""
    task, _, plain = name.rpartition("/")
    kind, cut = _cut(plain)
    known = FIGURES[kind][0] if kind in FIGURES else plain
    shown = f"{known}@{cut}" if cut else known
    return f"{task}: {shown}" if task else shown


def figure_note(name: str) -> str:
    """Return what a figure says; empty for one that is not known."""
    kind, _ = _cut(name.rpartition("/")[2])
    return FIGURES[kind][1] if kind in FIGURES else ""


def main_figure(figures: LabelFigures) -> str:
    """Return the name of the figure to look at first: ROC-AUC, RMSE, or the first of a ranking."""
    chosen = {LabelKind.CHANCE: "roc_auc", LabelKind.VALUE: "rmse"}
    return chosen.get(figures.kind, next(iter(figures.figures)))


def shown_figures(figures: LabelFigures) -> tuple[str, ...]:
    """Return the names of the figures that fit into a line, the first to look at first."""
    return tuple(name for name in _SHOWN[figures.kind] if name in figures.figures)


def between(interval: Interval) -> str:
    """Write an interval: 0.7812 – 0.7903; empty where there is none."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    return f"{figure(interval.low)} – {figure(interval.high)}"


def share(value: float) -> str:
    """Write a share with the places that a small one needs: 43 %, 1.2 %, 0.07 %; a dash for NaN."""
    if math.isnan(value):
        return "–"
    places = 0 if value >= 0.1 or value == 0 else 1 if value >= 0.01 else 2
    return f"{100 * value:.{places}f} %"


def duration(seconds: float) -> str:
    """Write a time as one would say it: 48 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def memory(mebibytes: float) -> str:
    """Write a size of memory: 812 MiB, 3.1 GiB."""
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"


def count(number: float) -> str:
    """Write a large number shortly: 950, 23.4 k, 22.7 M, 1.1 B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.1f} {letter}"
    return f"{number:,.0f}"


def _cut(name: str) -> tuple[str, str]:
    kind, _, cut = name.rpartition("_at_")
    return (kind, cut) if kind else (name, "")
