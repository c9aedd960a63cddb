"""Nearest neighbours: recall against comparing one and all, milliseconds per query, seconds to build, memory.

    python benchmarks/vectors.py [--sizes 10000 100000 1000000] [--indexes exact: usearch: ...] [--spread 0.3]

Vectors of 64 numbers in clusters of about 500, their lengths spread by a lognormal factor, as in trained
models; queries lie near the clusters. Every index is measured in a process of its own. Memory is what the
process grew by while the index was built; the time of a query is the median of many.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np

from zhiyin.domain.arrays import FloatArray
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.opening import open_index
from zhiyin.testing.vector_contract import recall

DIMENSION = 64
N_QUERIES = 256
N_SINGLE = 100
K = 100
PER_CLUSTER = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--indexes", nargs="+", default=["exact:", "usearch:", "usearch:?dtype=i8"])
    parser.add_argument(
        "--spread", type=float, default=0.3, help="standard deviation of the logarithm of lengths"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.indexes[0], arguments.sizes[0], arguments.spread)))
        return
    print(
        f"{'index':28} {'vectors':>10} {'recall':>7} {'ms B=1':>8} {'ms B=32':>8} {'build s':>8} {'MiB':>7}"
    )
    for size in arguments.sizes:
        for url in arguments.indexes:
            command = [sys.executable, __file__, "--one", "--sizes", str(size), "--indexes", url]
            command += ["--spread", str(arguments.spread)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{shown(url):28} {size:10,} {result['recall']:7.4f} {result['single_ms']:8.3f} "
                f"{result['batch_ms']:8.3f} {result['build_s']:8.1f} {result['mib']:7.0f}",
                flush=True,
            )


def measure(url: str, n_vectors: int, spread: float) -> dict[str, float]:
    vectors, queries = clustered(n_vectors, spread)
    before = resident_mib()
    index = open_index(url, name=f"benchmark {time.time_ns()}", dimension=DIMENSION)
    start = time.perf_counter()
    index.put(np.arange(n_vectors, dtype=np.int32), vectors)
    build_s = time.perf_counter() - start
    mib = resident_mib() - before
    found, _ = index.search(queries, K)
    exact = ExactIndex(DIMENSION)
    exact.put(np.arange(n_vectors, dtype=np.int32), vectors)
    right, _ = exact.search(queries, K)
    single = [seconds(lambda row=row: index.search(queries[row : row + 1], K)) for row in range(N_SINGLE)]
    batches = [
        seconds(lambda row=row: index.search(queries[row : row + 32], K)) for row in range(0, N_QUERIES, 32)
    ]
    index.close()
    return {
        "recall": recall(found, right),
        "single_ms": 1000 * float(np.median(single)),
        "batch_ms": 1000 * float(np.median(batches)) / 32,
        "build_s": build_s,
        "mib": mib,
    }


def clustered(n_vectors: int, spread: float) -> tuple[FloatArray, FloatArray]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(n_vectors // PER_CLUSTER, DIMENSION)).astype(np.float32)
    of = random.integers(0, len(centres), n_vectors + N_QUERIES)
    points = centres[of] + np.float32(0.5) * random.standard_normal((len(of), DIMENSION), np.float32)
    points[:n_vectors] *= random.lognormal(0, spread, size=(n_vectors, 1)).astype(np.float32)
    return points[:n_vectors], points[n_vectors:]


def seconds(action: object) -> float:
    start = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - start


def shown(url: str) -> str:
    """Return the URL without user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"[:28] if rest else url


def resident_mib() -> float:
    """Return the memory this process holds; Linux only."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
