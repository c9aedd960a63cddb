"""Other libraries and our recipes on the same data: quality, time, memory.

Each row is a fresh process in an environment of its own; it gets the same arrays of leave-last-out and writes
the 50 best items of every test user, histories left out, from the whole catalogue. Our evaluator judges all
lists. Settings and epochs are chosen on validation. Each result is a file, and rows that are there are not
run again. Usage::

    python benchmarks/peers/run.py --data FOLDER [--only zhiyin recbole/sasrec ...] [--minutes 60]
    python benchmarks/peers/run.py --data FOLDER --report
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("zhiyin") is None:
    sys.exit("This Python has no zhiyin: run it with that of an environment where it is installed.")

sys.path.insert(0, str(Path(__file__).parent))

from environments import python_of
from exporting import export_split, sampled_folder
from judging import judge_lists
from rows import OURS, PEERS, Row, chosen_rows
from table import read_results, report, result_file
from watching import watched

from zhiyin.data.splits import Split

RUNNERS = Path(__file__).parent / "runners"
METRICS = ("recall_at_10", "ndcg_at_10")
LENGTH = 50


def main() -> None:
    """Measure what was asked for and is not there yet, then write the table."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the running row is ended too
    rows = chosen_rows(asked.only)
    if asked.list:
        print("\n".join(f"{row.name:24} about {row.minutes:g} min" for row in rows))
        return
    data, name = asked.data, asked.data.name
    if asked.every > 1:
        name = f"{name}-every-{asked.every}"
        data = sampled_folder(data, asked.every, asked.work / "data" / name)
    # Rows of different lengths or seeds are no rows of one table.
    if asked.length != LENGTH:
        name = f"{name}-length-{asked.length}"
    if asked.seed:
        name = f"{name}-seed-{asked.seed}"
    results = asked.work / "results" / name
    if not asked.report:
        results.mkdir(parents=True, exist_ok=True)
        _measure(
            [row for row in rows if asked.again or not result_file(results, row.name).is_file()],
            data,
            results,
            asked,
        )
    page = report(read_results(results))
    if results.is_dir():
        (results / "table.md").write_text(page + "\n", "utf-8")
    print(page)


def _measure(rows: list[Row], data: Path, results: Path, asked: argparse.Namespace) -> None:
    pythons = {
        library: python_of(library, asked.work / "venvs")
        for library in (OURS, *PEERS)
        if _needs(rows, library)
    }
    minutes = sum(min(row.minutes, asked.minutes) for row in rows)
    print(f"{len(rows)} rows, about {minutes:.0f} minutes on amazon-beauty with two quiet cores.", flush=True)
    split_file = asked.work / "splits" / f"{results.name}.npz"
    split = export_split(data, split_file)
    failed = []
    for number, row in enumerate(rows, start=1):
        print(f"[{number}/{len(rows)}] {row.name} …", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [str(pythons[row.library]), str(RUNNERS / f"{row.library}_rows.py"), row.model]
            command += ["--split", str(split_file), "--out", folder, "--data", str(data.resolve())]
            command += ["--minutes", str(asked.minutes), "--max-epochs", str(asked.max_epochs)]
            command += ["--seed", str(asked.seed), "--length", str(asked.length)]
            told = measured(row.name, command, split, Path(folder), results)
        if told is None:
            failed.append(row.name)
            continue
        told |= {"dataset": results.name, "seed": asked.seed, "cap_minutes": asked.minutes}
        result_file(results, row.name).write_text(json.dumps(told, indent=2))
        ndcg = told["metrics"]["ndcg_at_10"]["value"]
        print(
            f"    NDCG@10 {ndcg:.4f}, fit {told['fit_seconds']:.1f} s, rank {told['rank_seconds']:.1f} s, "
            f"{told['peak_memory_mb']:,.0f} MB",
            flush=True,
        )
    if failed:
        print(f"Failed: {', '.join(failed)}; what they said stands in {results}/*.log", file=sys.stderr)


def measured(
    name: str, command: list[str], split: Split, folder: Path, results: Path
) -> dict[str, Any] | None:
    """Run one row in a fresh process and judge its lists; None when it failed."""
    log = result_file(results, name).with_suffix(".log")
    # An empty cache, so that our encoding of texts is paid for.
    quiet = {"PYTHONUNBUFFERED": "1", "ZHIYIN_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    used = watched(command, log, os.environ | quiet)
    if used.code != 0:
        return None
    evaluation = judge_lists(split, folder / "lists.npz")
    metrics = {}
    for metric in METRICS:
        interval = evaluation.interval(metric)
        metrics[metric] = {"value": interval.value, "interval": [interval.low, interval.high]}
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told | {
        "row": name,
        "metrics": metrics,
        "queries_digest": evaluation.queries_digest,
        "wall_seconds": used.wall_seconds,
        "processor_seconds": used.processor_seconds,
        "peak_memory_mb": used.peak_memory_mb,
        "load_average": os.getloadavg()[0],
    }


def _needs(rows: list[Row], library: str) -> bool:
    return any(row.library == library for row in rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a data folder; --list needs none")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows, or libraries; --list names them")
    parser.add_argument("--minutes", type=float, default=60.0, help="cap on the fit of a row with epochs")
    parser.add_argument("--max-epochs", type=int, default=300, help="cap on its epochs")
    parser.add_argument("--every", type=int, default=1, help="take every n-th user only, to try it out")
    parser.add_argument("--seed", type=int, default=0, help="of every row")
    parser.add_argument(
        "--length", type=int, default=LENGTH, help="newest items that the peers' sequence models read"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "peers",
        help="folder of environments, splits and results; %(default)s",
    )
    parser.add_argument("--again", action="store_true", help="run rows again that have a result")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--report", action="store_true", help="write the table of what is there and stop")
    asked = parser.parse_args()
    if not asked.list and asked.data is None:
        parser.error("name a data folder with --data")
    if not asked.list and not asked.data.is_dir():
        sys.exit(f"{asked.data} is not there: name a data folder with --data.")
    return asked


if __name__ == "__main__":
    main()
