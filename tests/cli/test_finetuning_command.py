"""`zhiyin finetune` as somebody types it."""

import json
import sys

import pytest

from zhiyin.cli.main import main
from zhiyin.data.dataset import Dataset
from zhiyin.language.encoder import load_encoder
from zhiyin.language.finetuning.saving import load_finetuned
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.two_processes import run_two
from zhiyin.testing.word_shop import WORDS, word_shop

SMALL = (
    *("--set", "training.max_epochs=8"),
    *("--set", "training.learning_rate=0.003"),
    *("--set", "training.tokens_per_batch=256"),
    *("--set", "wording.max_tokens=48"),
    *("--set", "wording.history_items=2"),
)


@pytest.fixture
def base(tmp_path):
    """A small BERT that knows the words of the shop."""
    save_bert(WORDS, tmp_path / "base", max_position_embeddings=64)
    return tmp_path / "base"


@pytest.fixture
def clicks(tmp_path):
    """A folder in which red and blue things are liked."""
    return written(word_shop("word"), tmp_path / "clicks")


def written(dataset: Dataset, folder):
    """Write a shop of words as files that a user brings."""
    import polars as pl

    folder.mkdir()
    histories = dataset.histories
    users = pl.Series(dataset.users.ids).gather(histories.row_of_event)
    items = pl.Series(dataset.catalogue.items.ids).gather(histories.item_index)
    table = {"user_id": users, "item_id": items, "value": histories.value, "timestamp": histories.timestamp}
    pl.DataFrame(table).write_parquet(folder / "interactions.parquet")
    dataset.catalogue.table.write_parquet(folder / "items.parquet")
    (folder / "dataset.toml").write_text("[values]\npositive = 1\n")
    return folder


def zhiyin(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["zhiyin", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_model_a_card_and_a_report_come_out(clicks, base, tmp_path, monkeypatch, capsys):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    words = ("finetune", clicks, "--out", out, "--base", base, "--task", "click", "--method", "full", *SMALL)
    assert zhiyin(monkeypatch, *words, "--json", figures) == 0
    told = capsys.readouterr().out
    assert "ROC-AUC" in told
    assert str(out / "report.html") in told
    record = json.loads(figures.read_text())
    assert record["figures"]["click"]["figures"]["roc_auc"]["value"] > 0.9
    assert record["n_trained"] == record["n_parameters"]
    assert "click" in (out / "README.md").read_text()
    assert "<html" in (out / "report.html").read_text()
    assert not out.with_name("out.checkpoints").exists()


def test_merged_towers_stand_where_an_encoder_is_named(clicks, base, tmp_path, monkeypatch):
    out = tmp_path / "towers"
    words = ("finetune", clicks, "--out", out, "--base", base, "--task", "next", "--reader", "towers")
    assert zhiyin(monkeypatch, *words, *SMALL, "--method", "lora", "--merge") == 0
    before = load_encoder(base).encode(["red lamp", "blue chair"])
    after = load_encoder(out).encode(["red lamp", "blue chair"])
    assert after.shape == before.shape
    assert abs(after - before).max() > 1e-3
    assert locate_model(out).folder == out / "merged"


def test_additions_alone_are_no_encoder(clicks, base, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ("finetune", clicks, "--out", out, "--base", base, *SMALL, "--set", "training.max_epochs=1")
    assert zhiyin(monkeypatch, *words) == 0
    assert zhiyin(monkeypatch, "evaluate", clicks, "--recipe", "hybrid", "--set", f"encoder={out}") == 1
    assert "--merge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--task", "clik"), "Did you mean 'click'"),
        (("--task", "sold", "--set", "tasks.sold.column=sold"), "hold 'sold'"),
        (("--set", "tasks.click.yes_from=-1"), "all"),
        (("--set", "methd=lora"), "Did you mean 'method'"),
        (("--method", "prefix", "--merge"), "cannot be worked into"),
        (
            (
                "--method",
                "lore",
            ),
            "method.name",
        ),
        (("--tracker", "excel"), "no tracker 'excel'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(
    clicks, base, tmp_path, monkeypatch, capsys, options, said
):
    out = tmp_path / "out"
    assert zhiyin(monkeypatch, "finetune", clicks, "--out", out, "--base", base, *options) != 0
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()


def test_nothing_else_is_written_over(clicks, base, tmp_path, monkeypatch, capsys):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    assert zhiyin(monkeypatch, "finetune", clicks, "--out", out, "--base", base) == 1
    assert "no fine-tuned model" in capsys.readouterr().err
    assert (out / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("sharding", ["false", "true"])
def test_two_processes_make_one_model_and_the_first_speaks(sharding, clicks, base, tmp_path):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    words = ("finetune", clicks, "--out", out, "--base", base, "--task", "click", "--method", "full", *SMALL)
    how = ("--set", "training.devices=cpu", "--set", f"steps.sharding={sharding}")
    first, second = run_two(["-m", "zhiyin", *words, "--json", figures, *how])
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "ROC-AUC" in first.out
    assert second.out == ""
    assert "epoch" not in second.err
    record = json.loads(figures.read_text())
    assert record["n_devices"] == 2
    assert record["figures"]["click"]["figures"]["roc_auc"]["value"] > 0.9
    model = load_finetuned(out, Background.of(word_shop("word")))
    assert model.n_trained == record["n_trained"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "clicks", "figures.json", "out"]


def test_a_search_is_not_shared(clicks, base, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ("tune", clicks, "--finetune", "--base", base, "--task", "click", "--out", tmp_path / "study")
    assert zhiyin(monkeypatch, *words) == 1
    assert "cannot be shared by 2 processes" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    assert zhiyin(monkeypatch, "finetune", *words[1:2], "--few-shot", "0,8", *words[3:]) == 1
    assert "cannot be shared by 2 processes" in capsys.readouterr().err


def test_what_to_do_next_depends_on_what_was_read(clicks, base, tmp_path, monkeypatch, capsys):
    words = ("finetune", clicks, "--base", base, "--task", "click", "--method", "full", *SMALL)
    short = ("--set", "training.max_epochs=1")
    assert zhiyin(monkeypatch, *words, *short, "--out", tmp_path / "all") == 0
    told = capsys.readouterr().out
    assert "It has read every row" in told
    assert "zhiyin train" in told
    assert (
        zhiyin(monkeypatch, *words, *short, "--out", tmp_path / "part", "--protocol", "leave-last-out") == 0
    )
    told = capsys.readouterr().out
    assert "It has read every row" not in told
    assert "zhiyin evaluate" in told


def test_a_damaged_model_is_named_and_no_fault_of_ours(clicks, base, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ("finetune", clicks, "--base", base, "--task", "click", "--out", out, *SMALL)
    assert zhiyin(monkeypatch, *words, "--set", "training.max_epochs=1") == 0
    rights = {path.name: path.stat().st_mode for path in out.iterdir()}
    assert len(set(rights.values())) == 1, rights
    asked = ("evaluate", clicks, "--recipe", "popular", "--set", f"rerank.model={out}")
    for name in ("weights.safetensors", "finetuned.json"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[: len(whole) // 2])
        assert zhiyin(monkeypatch, *asked) == 1
        said = capsys.readouterr().err
        assert f"{name}isdamaged" in "".join(said.replace(" ", "").split())
        assert "fault in Zhiyin" not in said
        (out / name).write_bytes(whole)


def test_shares_that_leave_nothing_to_learn_from(clicks, base, tmp_path, monkeypatch, capsys):
    words = ("finetune", clicks, "--base", base, "--task", "click", "--out", tmp_path / "out", *SMALL)
    shares = ("--set", "holding.test=0.6", "--set", "holding.validation=0.6")
    assert zhiyin(monkeypatch, *words, *shares) == 1
    assert "must leave rows to learn from" in " ".join(capsys.readouterr().err.split())


def test_an_order_is_judged_where_most_answers_are_no(clicks, base, tmp_path, monkeypatch, capsys):
    """The median answer is no; a yes is what should stand first."""
    import polars as pl

    rows = pl.read_parquet(clicks / "interactions.parquet")
    is_rare = pl.int_range(pl.len()) % 4 == 0
    rows.with_columns(value=pl.when(is_rare).then(pl.lit(1.0)).otherwise(0.0)).write_parquet(
        clicks / "interactions.parquet"
    )
    figures = tmp_path / "figures.json"
    words = ("finetune", clicks, "--base", base, "--task", "listwise", "--out", tmp_path / "out", *SMALL)
    more = ("--set", "training.max_epochs=1", "--set", "holding.test=0.4", "--json", figures)
    assert zhiyin(monkeypatch, *words, *more) == 0
    found = json.loads(figures.read_text())["figures"]["listwise"]["figures"]
    assert 0 < found["ndcg_at_5"]["value"] < 1
    assert found["mrr"]["value"] < 1
    assert "holds a label" not in capsys.readouterr().out


def test_what_few_labels_do_not_do_is_refused(clicks, base, tmp_path, monkeypatch, capsys):
    words = (
        "finetune",
        clicks,
        "--base",
        base,
        "--task",
        "click",
        "--out",
        tmp_path / "out",
        "--few-shot",
        "0",
    )
    for option in (("--merge",), ("--tracker", "csv")):
        assert zhiyin(monkeypatch, *words, *option) == 1
        assert f"{option[0]} changes nothing with --few-shot" in capsys.readouterr().err


def test_rows_without_times_are_said_to_have_no_history(clicks, base, tmp_path, monkeypatch, capsys):
    import polars as pl

    rows = pl.read_parquet(clicks / "interactions.parquet")
    rows.select("user_id", "item_id", clicked=pl.col("value")).write_parquet(clicks / "impressions.parquet")
    words = ("finetune", clicks, "--base", base, "--task", "seen", "--out", tmp_path / "out", *SMALL)
    seen = ("--set", "tasks.seen.column=clicked", "--set", "training.max_epochs=1")
    assert zhiyin(monkeypatch, *words, *seen) == 0
    assert "no history is read" in capsys.readouterr().err
