"""From the result of each row to the tables of the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import OURS, ROWS

Told = Mapping[str, Any]
LEARNERS = ("rectools", "recbole")
HEAD = "| model | R@10 | NDCG@10 | fit | best epoch after | rank all | peak memory |"


def read_results(folder: Path) -> list[Told]:
    """Return the results of a data set in the order of the rows."""
    held = {file.stem.replace("--", "/"): json.loads(file.read_text()) for file in folder.glob("*.json")}
    return [held[name] for name in ROWS if name in held]


def result_file(folder: Path, name: str) -> Path:
    """Where the result of a row stands."""
    return folder / f"{name.replace('/', '--')}.json"


def report(results: Sequence[Told]) -> str:
    """Render all results of one data set as Markdown."""
    if not results:
        return "There are no results yet."
    lines = [*_main_table(results), "", *_same_quality(results), "", *_ratios(results)]
    notes = [f"- {ROWS[told['row']].shown}: {_settings(told)}" for told in results if told["settings"]]
    return "\n".join([*lines, "", "Settings:", "", *notes])


def _main_table(results: Sequence[Told]) -> list[str]:
    lines = [HEAD, "| --- " + "| ---: " * (HEAD.count("|") - 2) + "|"]
    for told in results:
        cells = [
            ROWS[told["row"]].shown,
            *(_interval(told["metrics"][metric]) for metric in ("recall_at_10", "ndcg_at_10")),
            f"{told['fit_seconds']:,.1f} s",
            f"{seconds_of_best(told):,.1f} s" if told["curve"] else "",
            f"{told['rank_seconds']:,.1f} s",
            f"{told['peak_memory_mb']:,.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def seconds_of_best(told: Told) -> float:
    """Seconds after which the best epoch had ended; the whole fit where there are no epochs."""
    if not told["curve"]:
        return float(told["fit_seconds"])
    return float(max(told["curve"], key=lambda epoch: epoch["validation"])["seconds"])


def seconds_to(told: Told, validation: float) -> float | None:
    """Seconds after which an epoch first had this validation figure; None when none had."""
    return next((e["seconds"] for e in told["curve"] if e["validation"] >= validation), None)


def _same_quality(results: Sequence[Told]) -> list[str]:
    """For each learner with epochs, how soon ours was as good: by test with any row, by validation alone."""
    ours = [told for told in results if told["row"].startswith(f"{OURS}/")]
    alone = next((told for told in ours if told["row"] == f"{OURS}/sequence"), None)
    learners = [told for told in results if told["row"].partition("/")[0] in LEARNERS and told["curve"]]
    if not learners:
        return []
    return [
        "| peer | its NDCG@10: test / validation | after | ours at least as good on test | ratio "
        "| our transformer alone as good on validation | ratio |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
        *(_as_good_as(told, ours, alone) for told in learners),
    ]


def _as_good_as(peer: Told, ours: Sequence[Told], alone: Told | None) -> str:
    test, seconds = _value(peer, "ndcg_at_10"), seconds_of_best(peer)
    validation = max(epoch["validation"] for epoch in peer["curve"])
    cells = [ROWS[peer["row"]].shown, f"{test:.4f} / {validation:.4f}", f"{seconds:,.1f} s"]
    as_good = [own for own in ours if _value(own, "ndcg_at_10") >= test]
    if as_good:
        first = min(as_good, key=lambda own: own["fit_seconds"])
        own_seconds = first["fit_seconds"]
        cells += [f"{ROWS[first['row']].shown}, {own_seconds:,.1f} s", f"{seconds / own_seconds:.1f}"]
    else:
        cells += ["none", ""]
    own_seconds = seconds_to(alone, validation) if alone else None
    cells += [f"{own_seconds:,.1f} s", f"{seconds / own_seconds:.1f}"] if own_seconds else ["not reached", ""]
    return f"| {' | '.join(cells)} |"


def _ratios(results: Sequence[Told]) -> list[str]:
    """Memory and ranking of our rows beside the smallest and the fastest peer."""
    ours = [told for told in results if told["row"].startswith(f"{OURS}/")]
    peers = [told for told in results if told not in ours]
    if not ours or not peers:
        return []
    least = min(peers, key=lambda told: told["peak_memory_mb"])
    said = f"Least memory among peers: {ROWS[least['row']].shown}, {least['peak_memory_mb']:,.0f} MB."
    implicit = [told for told in peers if told["row"].startswith("implicit/")]
    if implicit:
        fastest = min(implicit, key=lambda told: told["rank_seconds"])
        own = ", ".join(f"{ROWS[told['row']].shown} {told['rank_seconds']:.1f} s" for told in ours)
        quickest = f"{ROWS[fastest['row']].shown}, {fastest['rank_seconds']:.1f} s"
        said += f" Fastest ranking of implicit: {quickest}; ours: {own}."
    return [said]


def _value(told: Told, metric: str) -> float:
    return float(told["metrics"][metric]["value"])


def _interval(metric: Mapping[str, Any]) -> str:
    low, high = metric["interval"]
    return f"{metric['value']:.4f} [{low:.4f}, {high:.4f}]"


def _settings(told: Told) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in told["settings"].items())
    epochs = len(told["curve"])
    ended = f"; {epochs} epochs" + (f", ended by {told['stopped_by']}" if told.get("stopped_by") else "")
    search = f"; all settings tried took {told['search_seconds']:.0f} s" if "search_seconds" in told else ""
    used = ", ".join(f"{package} {version}" for package, version in told["versions"].items())
    return f"{settings}{ended if epochs else ''}{search} ({used})"
