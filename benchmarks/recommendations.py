"""Quality and cost of the recipes on real data, as a Markdown table.

Each cell is one fresh process of ``zhiyin evaluate``, so that time runs from files to metrics and memory is
that of one run. Usage::

    python benchmarks/recommendations.py [--data FOLDER] [--out FOLDER] [--only amazon-beauty:fast ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = (
    "amazon-beauty:popular",
    "amazon-beauty:fast",
    "amazon-beauty:hybrid",
    "amazon-sports:fast",
    "movielens-1m:fast",
    "movielens-1m:hybrid",
)
DATA = Path(os.environ.get("ZHIYIN_DATA", Path(__file__).parents[2] / "shared" / "data"))
HEAD = "| data | recipe | seed | R@10 | NDCG@10 | files to metrics | fit | rank all | peak memory |"


def measure(run: str, data: Path, out: Path, seed: int) -> dict:
    """Evaluate one recipe on one data set in a process of its own."""
    dataset, recipe = run.split(":")
    figures = out / f"{dataset}-{recipe}-{seed}.json"
    command = ["zhiyin", "evaluate", str(data / dataset), "--recipe", recipe, "--seed", str(seed)]
    command += ["--json", str(figures)]
    with tempfile.TemporaryDirectory() as cache:  # an empty one, so that encoding the texts is paid for
        environment = os.environ | {"ZHIYIN_CACHE": cache, "HF_HUB_OFFLINE": "1"}
        started = time.perf_counter()
        zhiyin = str(Path(sys.executable).parent / "zhiyin")
        subprocess.run([zhiyin, *command[1:]], check=True, stdout=sys.stderr, env=environment)
        seconds = time.perf_counter() - started
    told = json.loads(figures.read_text())
    told["wall_seconds"] = seconds
    figures.write_text(json.dumps(told, indent=2))
    return told


def row(told: dict) -> str:
    """One line of the table; intervals are 95 %, bootstrap over users."""
    cells = []
    for metric in ("recall_at_10", "ndcg_at_10"):
        value, (low, high) = told["metrics"][metric]["value"], told["metrics"][metric]["interval"]
        cells.append(f"{value:.4f} [{low:.4f}, {high:.4f}]")
    return (
        f"| {told['dataset']} | {told['recipe']} | {told['seed']} | {' | '.join(cells)} "
        f"| {told['wall_seconds']:.1f} s | {told['fit_seconds']:.1f} s | {told['scoring_seconds']:.1f} s "
        f"| {told['peak_memory_mb']:,.0f} MB |"
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("reports/recommendations"))
    parser.add_argument("--only", nargs="+", default=RUNS, choices=RUNS, metavar="DATA:RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"{asked.data} is not there: name the folder of real data with --data or ZHIYIN_DATA.")
    asked.out.mkdir(parents=True, exist_ok=True)
    print(HEAD)
    print("|" + " --- |" * (HEAD.count("|") - 1))
    for run in asked.only:
        for seed in asked.seeds:
            print(row(measure(run, asked.data, asked.out, seed)), flush=True)


if __name__ == "__main__":
    main()
