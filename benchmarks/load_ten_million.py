"""Ten million simulated interactions: what loading, checking and indexing cost, against reading alone.

    python benchmarks/load_ten_million.py [--rows 10000000] [--csv]

Each measurement runs in a fresh process on 2 threads; the table shows seconds, processor seconds (which a
busy machine does not lengthen) and the largest memory held.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_READ_ALONE = """
import polars as pl
frame = {read}
"""
_READ_AND_GROUP = """
import polars as pl
frame = {read}
frame = frame.sort("user_id", "timestamp", maintain_order=True)
frame = frame.group_by("user_id", maintain_order=True).agg("item_id", "timestamp")
"""
_ZHIYIN = """
from zhiyin.data.reading import read_checked
dataset, report = read_checked({folder!r})
assert dataset.n_interactions == {rows}, dataset.n_interactions
"""
_MEASURE = """
import json, resource, time
start = time.perf_counter()
exec(compile({code!r}, "measured", "exec"))
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20]))
"""


def write_interactions(folder: Path, n_rows: int, *, as_csv: bool) -> None:
    """Write interactions of users and items whose activity follows a power law, in the order of time."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    n_users, n_items = max(10, n_rows // 20), max(10, n_rows // 100)
    users = (n_users * random.random(n_rows) ** 2).astype(np.int64)
    items = (n_items * random.random(n_rows) ** 3).astype(np.int64)
    kinds = np.array(["view", "cart", "purchase", "rating"])
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(users).cast(pl.String).str.pad_start(8, "0").str.replace("^", "customer-"),
            "item_id": pl.Series(items).cast(pl.String).str.pad_start(7, "0").str.replace("^", "item-"),
            "timestamp": 1_600_000_000 + np.sort(random.integers(0, 100_000_000, n_rows)),
            "event": kinds[random.choice(4, n_rows, p=[0.8, 0.1, 0.06, 0.04])],
            "value": random.integers(1, 6, n_rows).astype(np.float32),
        }
    )
    ids = frame["item_id"].unique().sort()
    titles = [f"Item number {i}" for i in range(len(ids))]
    pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
    if as_csv:
        frame.write_csv(folder / "interactions.csv")
    else:
        frame.write_parquet(folder / "interactions.parquet")


def measure(code: str) -> tuple[float, float, float]:
    """Return seconds, processor seconds and the peak memory in GiB of code that runs in a fresh process."""
    environment = {**os.environ, "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", _MEASURE.format(code=code)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, processor, memory = json.loads(answer.stdout.splitlines()[-1])
    return seconds, processor, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--csv", action="store_true", help="a csv file instead of parquet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        writing = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from load_ten_million import write_interactions
write_interactions(Path({temporary!r}), {arguments.rows}, as_csv={arguments.csv})
"""
        measure(writing)
        file = next(folder.glob("interactions.*"))
        read = f"pl.read_{file.suffix[1:]}({str(file)!r})"
        rows = {
            "polars reads the file": measure(_READ_ALONE.format(read=read)),
            "polars reads, sorts, groups by user": measure(_READ_AND_GROUP.format(read=read)),
            "zhiyin reads, checks, indexes": measure(_ZHIYIN.format(folder=temporary, rows=arguments.rows)),
        }
        mebibytes = file.stat().st_size / 2**20
        print(f"{arguments.rows:,} interactions, {file.name}, {mebibytes:.0f} MiB, 2 threads\n")
        print("| what | seconds | processor seconds | peak GiB |\n| --- | ---: | ---: | ---: |")
        for what, (seconds, processor, memory) in rows.items():
            print(f"| {what} | {seconds:.1f} | {processor:.1f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
