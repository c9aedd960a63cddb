"""The commands as a user types them, in process."""

import json
import re
import sys

import pytest

from zhiyin.cli.main import main


@pytest.fixture
def zhiyin(monkeypatch, capsys):
    """Run a command line; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zhiyin", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return int(ended.value.code or 0), told.out, told.err

    return run


def test_check_tells_what_the_data_holds(zhiyin, shop):
    code, out, _ = zhiyin("check", shop)
    assert code == 0
    assert "200" in out
    report = json.loads(zhiyin("check", shop, "--json")[1])
    assert report["usable"] is True


def test_check_of_broken_data_fails(zhiyin, tmp_path):
    (tmp_path / "interactions.csv").write_text("user,thing\n1,2\n")
    code, out, _ = zhiyin("check", tmp_path)
    assert code == 1
    assert "item_id" in out


def test_evaluate_writes_one_object(zhiyin, shop, tmp_path):
    figures = tmp_path / "figures.json"
    code, out, _ = zhiyin("evaluate", shop, "--recipe", "popular", "--at", "3,7", "--json", figures)
    assert code == 0
    assert "recall_at_7" in out
    told = json.loads(figures.read_text())
    assert told["recipe"] == "popular"
    assert told["protocol"] == "leave-last-out"
    low, high = told["metrics"]["recall_at_7"]["interval"]
    assert low <= told["metrics"]["recall_at_7"]["value"] <= high
    assert told["command"].startswith("zhiyin evaluate")


def test_a_bundle_can_be_evaluated_again(zhiyin, shop, bundle):
    code, out, _ = zhiyin("evaluate", shop, "--bundle", bundle)
    assert code == 0
    trained = json.loads((bundle / "metrics.json").read_text())["metrics"]["recall_at_10"]["value"]
    assert f"{trained:.4f}".removeprefix("0") in out


def test_recommend_shows_history_items_and_reasons(zhiyin, bundle):
    code, out, _ = zhiyin("recommend", bundle, "--user", "user-0007", "-n", "4", "--explain")
    assert code == 0
    assert len(re.findall(r"^ +\d  \w", out, flags=re.MULTILINE)) == 4
    assert "goes with" in out
    assert " had " in out


def test_somebody_new_is_served_and_told_so(zhiyin, bundle):
    code, out, err = zhiyin("recommend", bundle, "--user", "nobody", "-n", "3")
    assert code == 0
    assert "somebody new" in err
    assert len(re.findall(r"^ +\d  \w", out, flags=re.MULTILINE)) == 3


def test_recipes_lists_every_setting(zhiyin):
    assert "hybrid" in zhiyin("recipes")[1]
    out = zhiyin("recipes", "fast")[1]
    assert "sources.item_graph.history_decay" in out
    assert "merge.n_candidates" in out


def test_doctor_looks_at_this_machine(zhiyin):
    code, out, _ = zhiyin("doctor")
    assert code == 0
    assert "polars" in out


def test_the_version_is_told(zhiyin):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", zhiyin("--version")[1])


TRAIN = ["train", "{shop}", "--out", "{tmp}/b"]
EVALUATE = ["evaluate", "{shop}", "--recipe", "popular"]
WRONG = {
    "no such folder": (["check", "nowhere"], "nowhere"),
    "no such recipe": ([*TRAIN, "--recipe", "fats"], "Did you mean 'fast'"),
    "no such setting": ([*TRAIN, "--set", "sources.item_graph.windo=3"], "Did you mean 'window'"),
    "setting without value": ([*TRAIN, "--set", "merge.penalty"], "has no value"),
    "out is not a bundle": (["train", "{shop}", "--out", "{shop}"], "is not a bundle"),
    "neither recipe nor bundle": (["evaluate", "{shop}"], "either a recipe, with --recipe or --settings"),
    "both recipe and bundle": ([*EVALUATE, "--bundle", "x"], "either a recipe, with --recipe or --settings"),
    "no such protocol": ([*EVALUATE, "--protocol", "random"], "protocols are"),
    "cuts that are none": ([*EVALUATE, "--at", "5,x"], "list of positive numbers"),
    "json into nowhere": ([*EVALUATE, "--json", "{tmp}/no/f.json"], "no folder"),
    "bundle that is none": (["evaluate", "{shop}", "--bundle", "{tmp}"], "is not a bundle"),
    "no such bundle": (["recommend", "{tmp}/none", "--user", "u"], "zhiyin train DATA"),
    "serving no bundle": (["serve", "{tmp}/none"], "does not exist"),
    "unknown recipe listed": (["recipes", "hybird"], "Did you mean 'hybrid'"),
    "unknown source listed": (["recipes", "lightgnc"], "Did you mean 'lightgcn'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_command_is_answered_in_words(zhiyin, shop, tmp_path, kind):
    arguments, message = WRONG[kind]
    code, out, err = zhiyin(*[argument.format(shop=shop, tmp=tmp_path) for argument in arguments])
    assert code != 0
    assert message in " ".join((out + err).split())
    assert not list(tmp_path.iterdir())


def test_a_fault_of_ours_is_called_one(zhiyin, shop, monkeypatch):
    monkeypatch.setattr("zhiyin.cli.learning.split_by", lambda *_, **__: 1 / 0)
    code, _, err = zhiyin("evaluate", shop, "--recipe", "popular")
    assert code == 1
    assert "This is a fault in Zhiyin" in " ".join(err.split())


@pytest.mark.parametrize("option", ["--seed=3", "--shuffle-ties=3", "--set=merge.penalty=1"])
def test_options_that_say_nothing_to_a_trained_bundle_are_refused(zhiyin, shop, bundle, option):
    code, _, err = zhiyin("evaluate", shop, "--bundle", bundle, option)
    told = " ".join(err.split())
    assert code == 1
    assert f"{option.split('=')[0]} changes" in told
    assert "name a recipe with --recipe" in told


def test_ties_are_shuffled_where_there_are_any(zhiyin, shop, tmp_path):
    """The simulated shop knows seconds, so hardly any do; the figures say which order they are of."""
    file = tmp_path / "figures.json"
    code, _, err = zhiyin("evaluate", shop, "--recipe", "popular", "--shuffle-ties", 3, "--json", file)
    assert code == 0
    assert "shuffled, seed 3" in err
    assert json.loads(file.read_text())["ties_seed"] == 3


def test_a_shop_of_the_first_day_is_trained_and_not_judged(zhiyin, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\n1,Red shirt\n2,Blue shirt\n3,Boots\n")
    code, out, err = zhiyin("train", tmp_path / "shop", "--out", tmp_path / "bundle")
    assert code == 0
    assert "Not evaluated: nobody has met three different items yet" in out
    assert "report" not in out
    assert "1 warning about the data" in err
    assert zhiyin("recommend", tmp_path / "bundle", "--user", "anybody", "-n", 2)[1].count("shirt") == 2
    code, _, err = zhiyin("evaluate", tmp_path / "shop", "--recipe", "fast")
    assert code == 1
    assert "leaves nothing to test on" in err


def test_what_one_process_of_several_says_comes_after_the_first(monkeypatch, capsys, tmp_path):
    waited = []
    monkeypatch.setattr("zhiyin.cli.main.time.sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, told in (("0", "Error: "), ("1", "Error: In a process that is not the first of 2: ")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(sys, "argv", ["zhiyin", "evaluate", str(tmp_path / "nothing")])
        with pytest.raises(SystemExit):
            main()
        assert capsys.readouterr().err.startswith(told)
    assert len(waited) == 1
