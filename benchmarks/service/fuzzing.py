"""Everything that schemathesis can think of, against every route: no 5xx, and what the description says.

    python benchmarks/service/fuzzing.py BUNDLE [--examples 60] [--seed 0] [--only PART_OF_A_PATH]

The short version runs with the tests (`tests/serving_fuzz`); this one sends as many made-up requests as
wanted. It ends with 1 where anything was wrong, and prints how to repeat it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from schemathesis.python import asgi

sys.path.append(str(Path(__file__).parents[2] / "tests" / "serving_fuzz"))
from described_fuzzing import CHECKS, fuzz, service_and_key


def main() -> None:
    """Fuzz a bundle, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--examples", type=int, default=60, help="made-up requests for each operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the paths to test")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        app, key = service_and_key(options.bundle, f"sqlite:///{folder}/store.db")
        found = fuzz(app, key, n_examples=options.examples, seed=options.seed, only=options.only)
        asgi.shutdown_lifespans()
    n_failed = sum(n for status, n in found.statuses.items() if status >= 500)
    n_requests, n_checks = sum(found.n_requests.values()), sum(found.n_checks.values())
    print(f"{len(found.n_requests)} operations, {n_requests:,} requests, {time.perf_counter() - start:.0f} s")
    print(f"{len(CHECKS)} kinds of checks, {n_checks:,} in all")
    print(f"answers: {dict(sorted(found.statuses.items()))}; 5xx: {n_failed}")
    print(f"findings that are excused: {sum(found.n_excused.values()):,}; failures: {len(found.failures)}")
    for where, what in found.failures.items():
        print(f"\n{where}\n{what}")
    for error in found.errors:
        print(f"\nnot tested: {error}")
    sys.exit(bool(n_failed or found.failures or found.errors))


if __name__ == "__main__":
    main()
