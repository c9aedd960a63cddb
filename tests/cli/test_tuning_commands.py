"""Searching and comparing as a user types it."""

import json
import sys
import tomllib

import polars as pl
import pytest

from zhiyin.cli.main import main
from zhiyin.pipeline.recipes import RECIPES
from zhiyin.pipeline.registry import SOURCES
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import WORDS, word_shop


@pytest.fixture
def zhiyin(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zhiyin", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return int(ended.value.code or 0), told.out, " ".join(told.err.split())

    return run


def test_what_was_found_can_be_trained_and_compared(zhiyin, shop, tmp_path):
    out, search = tmp_path / "tuned", "sources.item_graph.window=1..9"
    code, told, err = zhiyin("tune", shop, "--out", out, "--search", search, "--trials", 2, "--final")
    assert code == 0
    assert "trial 2/2: NDCG@10" in err
    assert "as it stands" in told
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["recipe"] == "fast"
    figures = json.loads((out / "tuning.json").read_text())
    assert ("item_graph" in best.get("sources", {})) is (figures["best"] is not None)
    assert (out / "final.json").is_file() is (figures["best"] is not None)
    other = tmp_path / "other.toml"
    other.write_text('recipe = "popular"\n')
    code, told, _ = zhiyin(
        "compare", shop, "--recipe", "fast", "--settings", other, "--json", tmp_path / "c.json"
    )
    assert code == 0
    assert "ndcg_at_10" in told
    pair = json.loads((tmp_path / "c.json").read_text())["pairs"][0]
    assert pair["value"] == pytest.approx(pair["first"] - pair["second"])
    assert pair["low"] > 0


def test_a_search_that_is_stopped_says_how_it_goes_on(zhiyin, shop, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("zhiyin.cli.tuning.tune_subject", stopped)
    code, _, err = zhiyin("tune", shop, "--out", tmp_path / "tuned", "--trials", 2)
    assert code == 130
    assert err.endswith("Stopped. What was finished is kept, and the same command goes on.")


def test_what_was_found_for_fine_tuning_is_fine_tuned_with(zhiyin, tmp_path):
    pytest.importorskip("torch")
    base, data, out = tmp_path / "base", tmp_path / "words", tmp_path / "tuned"
    save_bert(WORDS, base, hidden_size=16, num_hidden_layers=1)
    data.mkdir()
    shop = word_shop("word", n_users=15)
    events = shop.histories
    columns = {"user_id": events.row_of_event, "item_id": events.item_index, "value": events.value}
    pl.DataFrame({**columns, "timestamp": events.timestamp}).write_csv(data / "interactions.csv")
    shop.catalogue.table.with_columns(item_id=pl.int_range(pl.len())).write_csv(data / "items.csv")
    (data / "dataset.toml").write_text("[values]\npositive = 1\n")
    sets = (
        "wording.state=[hour,weekday]",
        "wording.max_tokens=32",
        "method.name=full",
        "training.max_epochs=1",
    )
    search = ("--search", "training.learning_rate=1e-7,0.02", "--trials", 2, "--final")
    given = [word for one in sets for word in ("--set", one)]
    code, told, err = zhiyin(
        "tune", data, "--finetune", "--task", "click", "--base", base, "--out", out, *given, *search
    )
    assert code == 0
    assert "trial 2/2: skill" in err
    assert "2 trials; skill of 15 validation users" in told
    assert f"zhiyin finetune DATA --settings {out}/best.toml --out MODEL" in " ".join(told.split())
    assert '--set \'wording.state=["hour", "weekday"]\'' in told
    assert "On test rows, best against as it stands" in told
    figures, model = tmp_path / "figures.json", tmp_path / "model"
    code, _, _ = zhiyin("finetune", data, "--settings", out / "best.toml", "--out", model, "--json", figures)
    assert code == 0
    record, tuned = (json.loads(file.read_text()) for file in (figures, out / "tuning.json"))
    assert record["best_validation"] == pytest.approx(tuned["best"]["value"], abs=1e-9)
    assert tuned["best"]["settings"] == {"training.learning_rate": "0.02"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("tune", "{shop}", "--out", "{out}", "--search", "sources.item_graph.windw=1..3"),
            "Did you mean 'window'",
        ),
        (("tune", "{shop}", "--out", "{out}", "--recipe", "fats"), "Did you mean 'fast'"),
        (("tune", "{shop}", "--out", "{out}", "--finetune", "--recipe", "fast"), "are two searches"),
        (("tune", "{shop}", "--out", "{out}", "--task", "click"), "--task says nothing about a recipe"),
        (("tune", "{shop}", "--out", "{out}", "--base", "bert"), "--base says nothing about a recipe"),
        (("tune", "{shop}", "--out", "{out}", "--protocol", "by-user"), "--protocol says nothing about a"),
        (
            ("tune", "{shop}", "--out", "{out}", "--finetune", "--protocol", "by-usr"),
            "Did you mean 'by-user'",
        ),
        (("tune", "{shop}", "--out", "{out}", "--finetune", "--set", "methd=lora"), "Did you mean 'method'"),
        (
            ("tune", "{shop}", "--out", "{out}", "--finetune", "--search", "training.learning_rate=0..1"),
            "Setting 'finetune.training.learning_rate' cannot be '0",
        ),
        (
            ("tune", "{shop}", "--out", "{out}", "--finetune", "--search", "holding.test=0.1,0.2"),
            "judged by other rows",
        ),
        (("tune", "{shop}", "--out", "{out}", "--finetune", "--task", "clik"), "Did you mean 'click'"),
        (("compare", "{shop}", "--recipe", "fast", "--seeds", "one"), "--seeds 0,1,2"),
        (("compare", "{shop}", "{shop}", "--recipe", "fast"), "name the data and nothing else"),
        (("compare", "{shop}", "--recipe", "fast"), "nothing to compare with"),
        (("compare", "{out}/a.json", "{out}/b.json"), "cannot be read: No such file or directory"),
        (("compare", "{shop}", "--recipe", "fast", "--recipe", "fast"), "Two of them"),
        (("compare", "{shop}"), "is data: say what to compare"),
        (("compare", "a.json", "b.json", "--seeds", "0,1"), "--seeds says nothing here"),
        (("compare", "a.json", "b.json", "--protocol", "by-user"), "--protocol says nothing here"),
        (
            ("compare", "{shop}", "--recipe", "fast", "--recipe", "popular", "--metric", "ndgc_at_10"),
            "Did you mean 'ndcg'",
        ),
        (
            ("compare", "{shop}", "--recipe", "fast", "--recipe", "popular", "--metric", "gini_at_10"),
            "No user has a value of 'gini_at_10'",
        ),
        (
            ("compare", "{shop}", "--recipe", "fast", "--recipe", "popular", "--metric", "ndcg_at_5"),
            "not cut where slates are: --at 10",
        ),
        (("evaluate", "{shop}", "--recipe", "fast", "--json", "{shop}"), "it is a folder"),
        (("evaluate", "{shop}", "--recipe", "fast", "--protocol", "zero-shot"), "Name it with --bundle"),
        (
            ("evaluate", "{shop}", "--bundle", "{out}/b", "--set", "sources.item_graph.window=3"),
            "a bundle is trained already",
        ),
        (("train", "{shop}", "--out", "{out}/b", "--settings", "{out}/absent.toml"), "cannot be read"),
        (
            ("evaluate", "{shop}", "--recipe", "fast", "--per-user", "{out}/no/a.parquet"),
            "there is no folder",
        ),
    ],
)
def test_what_cannot_be_done_is_said(zhiyin, shop, tmp_path, arguments, said):
    code, _, err = zhiyin(*(argument.format(shop=shop, out=tmp_path) for argument in arguments))
    assert code == 1
    assert said in err


def test_a_column_names_what_was_added_to_a_recipe(zhiyin, shop):
    code, told, _ = zhiyin("evaluate", shop, "--recipe", "popular", "--set", "sources.als.n_factors=8")
    assert code == 0
    assert told.split()[:3] == ["popular", "+", "als"]


def test_files_of_one_name_are_called_by_their_places(zhiyin, shop, tmp_path):
    for recipe in ("fast", "popular"):
        (tmp_path / recipe).mkdir()
        figures = tmp_path / recipe / "figures.json"
        zhiyin(
            "evaluate",
            shop,
            "--recipe",
            recipe,
            "--json",
            figures,
            "--per-user",
            figures.with_suffix(".parquet"),
        )
    files = [tmp_path / recipe / "figures.json" for recipe in ("fast", "popular")]
    code, _, _ = zhiyin("compare", *files, "--json", tmp_path / "c.json")
    assert code == 0
    assert json.loads((tmp_path / "c.json").read_text())["runs"] == [str(file) for file in files]


def test_the_list_of_recipes_names_the_other_sources(zhiyin):
    told = zhiyin("recipes")[1].partition("In no recipe:")[2].partition("\n")[0]
    used = {source for config in RECIPES.values() for source in config.sources}
    assert set(told.replace(",", " ").split()) == set(SOURCES) - used
    assert "new_items.slots" in zhiyin("recipes", "fast")[1]


def test_the_settings_of_a_source_are_told_too(zhiyin):
    status, told = zhiyin("recipes", "lightgcn")[:2]
    assert status == 0
    assert "a source, no recipe by itself" in told
    assert "sources.lightgcn.n_layers = 3" in told
    assert "--set 'sources.lightgcn={}'" in told
