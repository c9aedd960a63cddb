"""The command, with a peer that was made up; and the tables."""

import json
import subprocess
import sys

import numpy as np
import pytest
import run
import table
from environments import REQUIREMENTS, python_of
from rows import PEERS, ROWS, chosen_rows
from watching import resident_mb, watched

from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import leave_last_out

# It has read the answers: the target stands third in every list, after two items that are not in the history.
FAKE = """
import sys
sys.path.insert(0, {exchange!r})
import numpy as np
from exchange import Task

task = Task.of_command_line()
if task.row == "cosine":
    sys.exit("this one does not work")
split, lists = task.split, []
for row in range(len(split.test)):
    target = int(split.test.targets[row])
    known = set(split.test.known.take(np.array([row])).items.tolist()) | {{target}}
    others = [item for item in range(split.n_items) if item not in known]
    lists.append([*others[:2], target, *others[2:9]])
held = bytearray(150 * 2**20)
items = np.array(lists, dtype=np.int32)
scores = np.tile(np.arange(10, 0, -1, dtype=np.float32), (len(items), 1))
curve = [{{"epoch": 1, "seconds": 2.0, "validation": 0.1}}, {{"epoch": 2, "seconds": 4.0, "validation": 0.2}}]
told = {{"fit_seconds": 5.0, "rank_seconds": 1.0, "settings": {{}}, "curve": curve, "versions": {{}}}}
task.answer((items, scores), told)
"""


@pytest.fixture
def command(data, tmp_path, monkeypatch, capsys):
    runners = tmp_path / "runners"
    runners.mkdir()
    fake = FAKE.format(exchange=str(run.RUNNERS))
    (runners / "implicit_rows.py").write_text(fake)
    monkeypatch.setattr(run, "RUNNERS", runners)
    asked_for = []

    def python(library, _folder):
        asked_for.append(library)
        return sys.executable

    monkeypatch.setattr(run, "python_of", python)

    def call(*arguments):
        asked_for.clear()
        monkeypatch.setattr(sys, "argv", ["run.py", "--data", str(data), "--work", str(tmp_path), *arguments])
        run.main()
        return capsys.readouterr().out, list(asked_for)

    call.results = tmp_path / "results" / "toy"
    return call


def test_a_made_up_peer_from_end_to_end(data, command):
    out, made = command("--only", "implicit/als", "implicit/cosine")
    assert made == ["implicit"]
    told = json.loads((command.results / "implicit--als.json").read_text())
    split = leave_last_out(read_dataset(data))
    seen = np.isin(split.test.targets.values, split.train.histories.item_index).mean()
    recall, gain = told["metrics"]["recall_at_10"], told["metrics"]["ndcg_at_10"]
    assert recall["value"] == pytest.approx(seen, abs=1e-6)
    assert gain["value"] == pytest.approx(seen / np.log2(4), abs=1e-6)
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    assert told["peak_memory_mb"] > 150
    assert told["processor_seconds"] > 0
    assert f"| implicit, ALS | {recall['value']:.4f} [" in out
    # One that fails leaves what it said, and no result.
    assert "this one does not work" in (command.results / "implicit--cosine.log").read_text()
    assert not (command.results / "implicit--cosine.json").exists()
    # What is there is not run again, and the report needs nothing to run.
    again, made = command("--only", "implicit/als")
    assert made == []
    assert again.endswith(table.report([told]) + "\n")
    assert command("--report")[0] == table.report([told]) + "\n"
    assert command("--only", "implicit/als", "--again")[1] == ["implicit"]
    # Another seed, or another length, is another table.
    assert command("--only", "implicit/als", "--seed", "1", "--length", "20")[1] == ["implicit"]
    assert (command.results.with_name("toy-length-20-seed-1") / "implicit--als.json").is_file()


def test_lists_with_items_of_the_history_are_refused(command):
    runner = run.RUNNERS / "implicit_rows.py"
    runner.write_text(
        runner.read_text()
        .replace("*others[:2], target", "*split.test.known.take(np.array([row])).items[:1], target")
        .replace("*others[2:9]", "*others[:8]")
    )
    with pytest.raises(Exception, match="already"):
        command("--only", "implicit/als")


def test_a_python_without_zhiyin_is_told_so():
    told = subprocess.run(
        [sys.executable, "-I", "-S", run.__file__, "--list"], capture_output=True, check=False
    )
    assert told.returncode == 1
    assert told.stderr.decode().startswith("This Python has no zhiyin")


def test_rows_are_named_by_library_or_one_by_one():
    assert [row.name for row in chosen_rows(["implicit/als", "recbole"])] == [
        "implicit/als",
        "recbole/sasrec",
        "recbole/lightgcn",
    ]
    assert len(chosen_rows(None)) == len(ROWS)
    with pytest.raises(SystemExit, match="Not known: implict"):
        chosen_rows(["implict"])


def test_every_peer_has_pinned_requirements_and_a_runner():
    for library in PEERS:
        lines = (REQUIREMENTS / f"{library}.txt").read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        assert all("==" in line for line in wanted)
        assert (run.RUNNERS / f"{library}_rows.py").is_file()


def test_an_environment_that_is_there_is_not_made_again(tmp_path):
    python = tmp_path / "implicit" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    (tmp_path / "implicit" / "installed.txt").write_text((REQUIREMENTS / "implicit.txt").read_text())
    assert python_of("implicit", tmp_path) == python


def test_memory_of_children_counts(tmp_path):
    child = "x = bytearray(90 * 2**20); import time; time.sleep(.4)"
    parent = (
        "import subprocess, sys; y = bytearray(60 * 2**20); "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    used = watched([sys.executable, "-c", parent], tmp_path / "log", {})
    assert used.code == 0
    assert 150 <= used.peak_memory_mb < 300
    assert used.wall_seconds > 0.3
    assert resident_mb(2**22 + 1) == 0
    assert watched([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log", {}).code == 3


def told(row, ndcg, fit, curve=(), memory=500.0, rank=2.0):
    metric = {"value": ndcg, "interval": [ndcg - 0.01, ndcg + 0.01]}
    return {
        "row": row,
        "metrics": {"recall_at_10": metric, "ndcg_at_10": metric},
        "fit_seconds": fit,
        "rank_seconds": rank,
        "peak_memory_mb": memory,
        "curve": [
            {"epoch": number, "seconds": seconds, "validation": value}
            for number, (seconds, value) in enumerate(curve, start=1)
        ],
        "settings": {"width": 64},
        "versions": {"x": "1"},
    }


def test_the_report_says_how_soon_ours_was_as_good():
    peer = told("recbole/sasrec", 0.05, 900.0, [(100, 0.03), (600, 0.06), (900, 0.05)])
    results = [
        told("zhiyin/fast", 0.07, 10.0, memory=300.0),
        told("zhiyin/sequence", 0.055, 200.0, [(40, 0.05), (80, 0.06), (120, 0.061)]),
        told("implicit/als", 0.02, 4.0, rank=1.5),
        peer,
    ]
    assert table.seconds_of_best(peer) == 600
    assert table.seconds_to(peer, 0.055) == 600
    assert table.seconds_to(peer, 0.5) is None
    page = table.report(results)
    cells = ["RecBole, SASRec", *["0.0500 [0.0400, 0.0600]"] * 2, "900.0 s", "600.0 s", "2.0 s", "500 MB"]
    assert f"| {' | '.join(cells)} |" in page
    # 600 s against 10 s of fit on test, and against 80 s of the transformer on validation.
    assert (
        "| RecBole, SASRec | 0.0500 / 0.0600 | 600.0 s | recipe `fast`, 10.0 s | 60.0 | 80.0 s | 7.5 |"
        in page
    )
    assert "Least memory among peers: implicit, ALS, 500 MB." in page
    assert "Fastest ranking of implicit: implicit, ALS, 1.5 s; ours: recipe `fast` 2.0 s" in page
    assert "- RecBole, SASRec: width 64; 3 epochs (x 1)" in page
    assert table.report([]) == "There are no results yet."


def test_a_peer_that_ours_did_not_reach_is_told_as_such():
    page = table.report([told("zhiyin/fast", 0.01, 5.0), told("rectools/sasrec", 0.05, 60.0, [(50, 0.04)])])
    assert "| RecTools, SASRec | 0.0500 / 0.0400 | 50.0 s | none |  | not reached |  |" in page


def test_rows_are_listed_without_data(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--list", "--only", "implicit"])
    run.main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        row.name for row in chosen_rows(["implicit"])
    ]
    monkeypatch.setattr(sys, "argv", ["run.py", "--report"])
    with pytest.raises(SystemExit):
        run.main()
    assert "name a data folder with --data" in capsys.readouterr().err
