"""How cost grows with the catalogue and with the interactions: fitting, ranking, memory.

    python benchmarks/scaling.py [--recipe fast] [--items 10000 100000 1000000]
        [--interactions 100000 1000000 10000000] [--max-minutes 60] [--out reports/scaling]

Each cell is a simulated shop (Zipf popularity, topics, titles of four words) in a fresh process. What is
finished is kept under ``--out``, and not measured again; a cell that took longer than ``--max-minutes`` is
marked as not finished, and tried again when it is given more. ``--recipe sequence`` trains the transformer
alone, for one epoch and without texts. The picture needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.experiments.training import fit_pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig

ITEMS = (10_000, 100_000, 1_000_000)
INTERACTIONS = (100_000, 1_000_000, 10_000_000)
EVENTS_OF_USER = 20
ITEMS_OF_TOPIC = 200
N_WORDS = 30_000
USERS_RANKED = 1_000
START, SECONDS_A_YEAR = 1_600_000_000, 31_536_000
COLUMNS = {
    "fit_cpu_seconds": "fitting, s of processor",
    "fit_seconds": "fitting, s",
    "rank_cpu_ms": "ranking, ms of processor a user",
    "rank_ms": "ranking, ms a user",
    "peak_gib": "largest memory, GiB",
}
SEQUENCE = {
    "use_text": False,
    "training": {"max_epochs": 1, "epochs_without_validation": 1, "max_minutes": 600},
}


def shop(n_items: int, n_interactions: int, seed: int = 0) -> Dataset:
    """Simulate a shop without a loop over users or items.

    Every user has two topics, every topic about 200 items whose popularity follows Zipf's law with exponent
    1; one event of ten falls anywhere. A title is the word of its topic and three words, Zipf as well.
    """
    random = np.random.default_rng(seed)
    n_topics, n_users = max(1, n_items // ITEMS_OF_TOPIC), max(1, n_interactions // EVENTS_OF_USER)
    n_of_topic = n_items // n_topics
    topics = zipf(random, n_topics, (n_users, 2))
    lengths = np.maximum(3, random.geometric(1 / (EVENTS_OF_USER - 2), n_users) + 2)
    row = np.repeat(np.arange(n_users), lengths)
    topic = topics[row, random.integers(0, 2, len(row))]
    topic = np.where(random.random(len(row)) < 0.1, random.integers(0, n_topics, len(row)), topic)
    item = topic + n_topics * zipf(random, n_of_topic, len(row))
    histories = Histories(
        np.concatenate([[0], np.cumsum(lengths)]),
        item.astype(np.int32),
        np.zeros(len(row), dtype=np.int16),
        moments(random, row),
        np.full(len(row), np.nan, dtype=np.float32),
    )
    users = Vocabulary(pl.Series(np.arange(n_users)).cast(pl.String))
    return Dataset("simulated", titled(random, n_items, n_topics), users, histories)


def moments(random: np.random.Generator, row: np.ndarray) -> np.ndarray:
    """Draw when each event happened, within a year, rising within a user."""
    moment = random.integers(0, SECONDS_A_YEAR, len(row))
    return START + moment[np.lexsort((moment, row))]


def zipf(random: np.random.Generator, n: int, size: Any) -> np.ndarray:
    """Draw from 0 to n - 1 with probability about 1 / (rank + 1)."""
    return np.minimum(((n + 1.0) ** random.random(size)).astype(np.int64) - 1, n - 1)


def titled(random: np.random.Generator, n_items: int, n_topics: int) -> Catalogue:
    """Make a catalogue whose items have short titles."""
    words = zipf(random, N_WORDS, (n_items, 3))
    table = pl.DataFrame(
        {
            "item_id": pl.Series(np.arange(n_items)).cast(pl.String),
            "topic": np.arange(n_items) % n_topics,
            **{f"word{place}": words[:, place] for place in range(3)},
        }
    )
    title = pl.format("topic{} w{} w{} w{}", "topic", "word0", "word1", "word2").alias("title")
    return Catalogue.from_table(table.select("item_id", title))


def configuration(name: str) -> PipelineConfig:
    """Return the recipe, or the transformer alone with one epoch."""
    if name != "sequence":
        return recipe(name)
    plain = recipe("popular").model_dump() | {"sources": {"sequence": SEQUENCE, "popularity": {}}}
    return PipelineConfig.parse(plain, where="pipeline")


def measure(name: str, n_items: int, n_interactions: int) -> dict[str, float]:
    """Fit and rank in this process."""
    split = leave_last_out(shop(n_items, n_interactions))
    before = peak_gib()
    started, started_cpu = time.perf_counter(), time.process_time()
    pipeline = fit_pipeline(configuration(name), split).pipeline
    fitted, fitted_cpu = time.perf_counter(), time.process_time()
    queries = split.test.queries.take(np.arange(min(USERS_RANKED, len(split.test))))
    pipeline.recommend(queries, 10)
    per_user = 1000 / len(queries)
    return {
        "fit_seconds": fitted - started,
        "fit_cpu_seconds": fitted_cpu - started_cpu,
        "rank_ms": (time.perf_counter() - fitted) * per_user,
        "rank_cpu_ms": (time.process_time() - fitted_cpu) * per_user,
        "data_gib": before,
        "peak_gib": peak_gib(),
    }


def peak_gib() -> float:
    """Return the largest memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cell(name: str, n_items: int, n_interactions: int, out: Path, max_minutes: float) -> dict[str, Any]:
    """Measure in a fresh process, unless that was done, or given up after as much time, before."""
    file = out / f"{name}-{n_items}-{n_interactions}.json"
    told = json.loads(file.read_text()) if file.is_file() else {}
    if told.get("finished") or told.get("max_minutes", 0) >= max_minutes:
        return told
    told = {"recipe": name, "items": n_items, "interactions": n_interactions, "finished": False}
    command = [sys.executable, __file__, "--recipe", name, "--cell", str(n_items), str(n_interactions)]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=max_minutes * 60)
        told |= {"finished": True, **json.loads(done.stdout.decode().splitlines()[-1])}
    except subprocess.TimeoutExpired:
        told |= {"max_minutes": max_minutes, "why": f"not finished in {max_minutes:g} minutes"}
    except subprocess.CalledProcessError as error:
        told |= {"max_minutes": max_minutes, "why": f"ended with {error.returncode}"}
    file.write_text(json.dumps(told, indent=2))
    return told


def exponents(cells: list[dict[str, Any]], column: str) -> tuple[float, float]:
    """Fit ``log cost = c + a log items + b log interactions`` by least squares, and return a and b.

    NaN where too few cells are finished, or one of the two never changes.
    """
    done = [told for told in cells if told["finished"]]
    sizes = np.log(np.array([[told["items"], told["interactions"]] for told in done])).reshape(-1, 2)
    varies = [len(set(side)) > 1 for side in sizes.T]
    design = np.column_stack([np.ones(len(done)), *(sizes[:, i] for i in (0, 1) if varies[i])])
    if len(done) < design.shape[1] or not any(varies):
        return float("nan"), float("nan")
    cost = np.log([max(told[column], 1e-9) for told in done])
    slopes = iter(np.linalg.lstsq(design, cost, rcond=None)[0][1:])
    first, second = (float(next(slopes)) if there else float("nan") for there in varies)
    return first, second


def table(cells: list[dict[str, Any]]) -> str:
    """Write cells and exponents as Markdown."""
    lines = [
        f"| items | interactions | {' | '.join(COLUMNS.values())} |",
        "|" + " ---: |" * (len(COLUMNS) + 2),
    ]
    for told in cells:
        numbers = (
            [f"{told[name]:,.3g}" for name in COLUMNS] if told["finished"] else [told["why"]] * len(COLUMNS)
        )
        lines.append(f"| {told['items']:,} | {told['interactions']:,} | {' | '.join(numbers)} |")
    for place, side in enumerate(("items", "interactions")):
        slopes = [exponents(cells, name)[place] for name in COLUMNS]
        written = " | ".join("–" if np.isnan(slope) else f"{slope:.2f}" for slope in slopes)
        lines.append(f"| exponent of {side} | | {written} |")
    return "\n".join(lines)


def draw(cells: list[dict[str, Any]], file: Path, title: str) -> None:
    """Draw what is finished on logarithmic axes, one panel a column and one line a size of the catalogue."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = ("fit_cpu_seconds", "rank_cpu_ms", "peak_gib")
    figure, panels = plt.subplots(1, len(shown), figsize=(13, 4.2), layout="constrained")
    for panel, name in zip(panels, shown, strict=True):
        for n_items in sorted({told["items"] for told in cells}):
            some = [told for told in cells if told["finished"] and told["items"] == n_items]
            some.sort(key=lambda told: told["interactions"])
            where, cost = [told["interactions"] for told in some], [told[name] for told in some]
            panel.loglog(where, cost, marker="o", label=f"{n_items:,} items")
        slopes = ", ".join(
            f"{side} {slope:.2f}"
            for side, slope in zip(("items", "interactions"), exponents(cells, name), strict=True)
            if not np.isnan(slope)
        )
        panel.set_title(COLUMNS[name] + (f"\nexponents: {slopes}" if slopes else ""), fontsize=10)
        panel.set_xlabel("interactions")
        panel.grid(visible=True, which="major", alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Measure what was asked for, and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="fast", help="a recipe, or 'sequence'")
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--interactions", type=int, nargs="+", default=INTERACTIONS)
    parser.add_argument("--max-minutes", type=float, default=60.0, help="of a cell")
    parser.add_argument("--out", type=Path, default=Path("reports/scaling"))
    parser.add_argument("--cell", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        print(json.dumps(measure(asked.recipe, *asked.cell)))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    cells = []
    for n_interactions in asked.interactions:
        for n_items in asked.items:
            told = cell(asked.recipe, n_items, n_interactions, asked.out, asked.max_minutes)
            cells.append(told)
            note = f"{told['fit_seconds']:.0f} s to fit" if told["finished"] else told["why"]
            print(f"{n_items:,} items, {n_interactions:,} interactions: {note}", file=sys.stderr, flush=True)
    print(table(cells))
    if find_spec("matplotlib") is None:
        print("No picture was drawn: it needs matplotlib.", file=sys.stderr)
        return
    draw(cells, asked.out / f"{asked.recipe}.png", f"Cost of '{asked.recipe}' in simulated shops")


if __name__ == "__main__":
    main()
