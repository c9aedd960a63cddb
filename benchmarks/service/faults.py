"""What a service survives: kill -9, swaps, dead databases, full disks, damaged bundles, clocks that go back.

    python benchmarks/service/faults.py --rounds 1000 [--only kill-sqlite,redis] [--state faults.json]

Each kind of fault is made with the real service in processes of its own, while clients of two tenants with
the same user and item ids send events in singles, batches and streams, and send again what was not
acknowledged. `--rounds` are those of kill -9 on SQLite; the others take the share that stands in `FAULTS`.
Counts are kept in a file after every part, and a second call goes on where the first one stopped.

The table holds, for each fault: rounds, acknowledged events, those of them that the log does not hold (lost),
that it holds twice (doubled), that stand where nobody sent them (strange), users whose live history differs
from the log (unlike; for Redis: answers that did not know of an acknowledged event), and answers that should
not have been given (wrong). The slowest wait is that of a client.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "serving_faults"))
FAULTS = {
    "kill-sqlite": 1.0,
    "kill-postgres": 0.2,
    "kill-swapping": 1.0,
    "swap-under-load": 0.2,
    "postgres-killed": 0.02,
    "redis": 0.05,
    "disk-full": 0.02,
    "damaged-bundle": 0.02,
    "clock-back": 0.02,
    "stopping": 0.02,
}
"""Kind of fault → its share of the rounds."""
PART = {"kill-sqlite": 50, "kill-postgres": 50, "kill-swapping": 50, "swap-under-load": 50}
"""Rounds on one store, before a new one is furnished; 5 where nothing is said."""
_COLUMNS = ("rounds", "acknowledged", "lost", "doubled", "strange", "unlike")


def main() -> None:
    """Make the faults that are asked for, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000, help="of kill -9 on SQLite")
    parser.add_argument("--only", default=",".join(FAULTS), help="kinds of fault, separated by commas")
    parser.add_argument("--state", type=Path, default=Path("faults.json"), help="file that keeps the counts")
    given = parser.parse_args()
    known: dict[str, Any] = json.loads(given.state.read_text()) if given.state.exists() else {}
    for name in given.only.split(","):
        rounds = max(1, round(given.rounds * FAULTS[name]))
        while (done := known.get(name, {}).get("rounds", 0)) < rounds:
            began = time.monotonic()
            part = _part(name, min(PART.get(name, 5), rounds - done), seed=done)
            if name in known:
                total = type(part)(**known[name])
                total.add(part)
                part = total
            part.count("seconds", time.monotonic() - began)
            known[name] = part.as_dict()
            given.state.write_text(json.dumps(known, indent=1))
            print(f"{name}: {_line(known[name])}", flush=True)
    _print_table(known)


def _part(name: str, rounds: int, *, seed: int) -> Any:
    """Make some rounds of one fault on a new store."""
    faults = importlib.import_module("faults_by_name")
    conftest = _tests_conftest()
    with tempfile.TemporaryDirectory(prefix="zhiyin-faults-") as folder:
        return faults.make(name, rounds, faults.Workshop(Path(folder), conftest, seed))


def _tests_conftest() -> ModuleType:
    """Load the file that knows how to run real servers."""
    if "servers_of_tests" not in sys.modules:
        spec = importlib.util.spec_from_file_location("servers_of_tests", ROOT / "tests" / "conftest.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules["servers_of_tests"]


def _line(counts: dict[str, Any]) -> str:
    said = ", ".join(f"{counts[name]} {name}" for name in _COLUMNS)
    further = ", ".join(f"{name} {number:g}" for name, number in counts["numbers"].items())
    wrong = counts["wrong"]
    return (
        f"{said}, {len(wrong)} wrong, slowest {counts['slowest_seconds']:.2f} s; {further} {wrong[:2] or ''}"
    )


def _print_table(known: dict[str, Any]) -> None:
    print("\n| fault |", " | ".join(_COLUMNS), "| wrong | slowest wait, s | time, s |")
    print("| --- |", " | ".join("---:" for _ in range(len(_COLUMNS) + 3)), "|")
    for name, counts in known.items():
        cells = [str(counts[column]) for column in _COLUMNS]
        cells += [str(len(counts["wrong"])), f"{counts['slowest_seconds']:.2f}"]
        print(f"| {name} |", " | ".join(cells), f"| {counts['numbers']['seconds']:.0f} |")


if __name__ == "__main__":
    main()
