"""What `zhiyin evaluate` says for protocols about what has never been seen."""

import json
import sys

import pytest

from zhiyin.cli.main import main


def command(capsys, *words) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["zhiyin", *map(str, words)])
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        else:
            code = 0
    said = capsys.readouterr()
    return int(code), said.out, said.err


def test_cold_items_are_told_beside_all_users(capsys, shop, tmp_path):
    settings = ["--set", "new_items.slots=1", "--set", "new_items.most_lost=1"]
    words = ["evaluate", shop, "--recipe", "fast", "--protocol", "cold-items", *settings]
    code, out, _ = command(capsys, *words, "--json", tmp_path / "cold.json")
    assert code == 0
    assert "all users, no place kept" in out
    assert "Places for new items change recall_at_10 of all users by" in out
    told = json.loads((tmp_path / "cold.json").read_text())
    assert told["protocol"] == "cold-items"
    assert told["n_queries"] < told["everybody"]["n_queries"]
    assert told["n_targets_unseen_in_training"] == told["n_queries"]


def test_cold_users_are_told_step_by_step(capsys, shop, tmp_path):
    words = ["evaluate", shop, "--recipe", "fast", "--protocol", "cold-users", "--at", "10"]
    code, out, _ = command(capsys, *words, "--json", tmp_path / "few.json")
    assert code == 0
    table = [line.split() for line in out.splitlines()]
    assert ["items", "known", "0", "1", "3", "5", "10"] in table
    told = json.loads((tmp_path / "few.json").read_text())["few_shots"]
    assert told["known"] == [0, 1, 3, 5, 10]
    steps = told["curves"]["fast"]["recall_at_10"]
    halves = [f"±{(step['high'] - step['low']) / 2:.3f}".replace("±0.", "±.") for step in steps]
    values = [f"{step['value']:.4f}".removeprefix("0") for step in steps]
    assert ["fast", *(word for told_step in zip(values, halves, strict=True) for word in told_step)] in table
    assert (tmp_path / "few.svg").read_text().startswith("<svg")


def test_zero_shot_needs_a_bundle_that_reads(capsys, shop, bundle):
    code, _, err = command(capsys, "evaluate", shop, "--recipe", "fast", "--protocol", "zero-shot")
    assert code == 1
    assert "judges a bundle that was trained on other data" in err
    code, _, err = command(capsys, "evaluate", shop, "--bundle", bundle, "--protocol", "zero-shot")
    assert code == 1
    assert "on another catalogue all of it is silent" in " ".join(err.split())
