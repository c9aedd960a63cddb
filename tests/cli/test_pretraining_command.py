"""`zhiyin pretrain` as somebody types it."""

import csv
import json
import sys

import pytest

from zhiyin.cli.main import main
from zhiyin.language.encoder import load_encoder
from zhiyin.testing.tiny_models import save_bert


@pytest.fixture
def tiny_base(tmp_path):
    """A BERT of a handful of letters, which reads any word."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    save_bert(pieces, tmp_path / "base", **sizes)
    return tmp_path / "base"


def zhiyin(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["zhiyin", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_model_comes_out_that_reads_texts(shop, tiny_base, tmp_path, monkeypatch, capsys):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    options = [
        "--objective",
        "masked",
        "--objective",
        "contrastive",
        "--set",
        "new_words=5",
        "--tracker",
        "csv",
    ]
    brief = [
        "--set",
        "new_words=5",
        "--set",
        "max_tokens=32",
        "--set",
        "training.max_epochs=1",
        "--json",
        figures,
    ]
    assert zhiyin(monkeypatch, "pretrain", shop, "--out", out, "--base", tiny_base, *options, *brief) == 0
    told = capsys.readouterr().out
    assert "pairs_found" in told
    assert "log_likelihood" in told
    facts = json.loads(figures.read_text())
    assert len(facts["new_words"]) == 5
    assert facts["1 masked"]["best_validation"] > facts["1 masked"]["before"]
    assert load_encoder(out).encode(["a book"]).shape == (1, 16)
    (curve,) = (tmp_path / "out.runs").rglob("metrics.csv")
    assert {"log_likelihood", "pairs_found"} <= set(csv.DictReader(curve.open()).fieldnames or [])
    assert not (tmp_path / "out.checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--objective", "causal"], "does not fit"),
        (["--objective", "guessing"], "objectives"),
        (["--set", "max_tokens=1"], "max_tokens"),
        (["--set", "mask=1"], "not known"),
        (["--set", "training.max_epochs.more=1"], "valid integer"),
        (["--tracker", "paper"], "csv, tensorboard, wandb, mlflow"),
        (["--base", "/nowhere/at/all"], "no model folder"),
    ],
)
def test_wrong_words_are_answered_in_words(shop, tiny_base, tmp_path, monkeypatch, capsys, options, said):
    command = ["pretrain", shop, "--out", tmp_path / "out", "--base", tiny_base, *options]
    assert zhiyin(monkeypatch, *command) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
