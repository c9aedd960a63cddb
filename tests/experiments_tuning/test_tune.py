"""Tuning a recipe on a shop: no test event is looked at, and what is left behind can be trained."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from zhiyin.contracts import Between, Silent
from zhiyin.data.reading import read_dataset
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import simulate_shop
from zhiyin.data.splits import leave_last_out
from zhiyin.domain.errors import ConfigError, RequestError
from zhiyin.experiments.settings_file import read_settings, with_settings, written_settings
from zhiyin.experiments.tuning import recipes
from zhiyin.experiments.tuning.final import judge_finally
from zhiyin.experiments.tuning.objective import judged, validation_halves
from zhiyin.experiments.tuning.page import tuning_page, write_page
from zhiyin.experiments.tuning.recipes import RecipeSubject
from zhiyin.experiments.tuning.search import Budget
from zhiyin.experiments.tuning.subject import Judged
from zhiyin.experiments.tuning.tune import Plan, tune
from zhiyin.pipeline import pipeline as pipeline_module
from zhiyin.pipeline.recipes import recipe

SPACE = {"sources.item_graph.window": Between(1, 12), "sources.item_graph.text_exponent": Between(0.3, 2.0)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    simulate_shop(ShopConfig(n_items=200, n_users=120, n_days=60)).write(folder)
    return read_dataset(folder)


def poisoned(dataset):
    """Another item, at another time, for every test event and for all that the user did after it."""
    histories = dataset.histories
    test = leave_last_out(dataset).test
    first = histories.offsets[test.queries.user_index] + test.queries.histories.lengths
    item_index, timestamp = histories.item_index.copy(), histories.timestamp.copy()
    for user, position in zip(test.queries.user_index, first, strict=True):
        end = histories.offsets[user + 1]
        never_met = np.setdiff1d(np.arange(dataset.n_items), item_index[histories.offsets[user] : end])
        item_index[position:end] = never_met[user % len(never_met)]
        timestamp[position:end] += 10_000_000
    assert (item_index != histories.item_index).sum() >= len(first)
    return replace(dataset, histories=replace(histories, item_index=item_index, timestamp=timestamp))


@pytest.fixture(scope="module")
def tuned(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "out"
    return tune(dataset, Plan(RecipeSubject("fast"), SPACE, budget=Budget(8)), out), out


def test_fitting_and_judging_users_are_not_the_same(dataset):
    halves, split = validation_halves(dataset), leave_last_out(dataset)
    fitting, judging = (set(part.queries.user_index) for part in (halves.validation, halves.test))
    assert not fitting & judging
    assert fitting | judging == set(split.validation.queries.user_index)
    assert abs(len(fitting) - len(judging)) <= 1
    np.testing.assert_array_equal(halves.train.histories.item_index, split.train.histories.item_index)


def test_poisoned_test_events_change_nothing(dataset, tuned, tmp_path):
    other = poisoned(dataset)
    # One source alone; and two that are no fallbacks, so that weights are fitted too.
    for settings in ({}, {"sources.item_neighbours.n_neighbours": "20"}):
        config = recipe("fast", settings)
        before, after = (judged(config, validation_halves(data), seed=0) for data in (dataset, other))
        np.testing.assert_array_equal(before.per_user, after.per_user)
    again = tune(other, Plan(RecipeSubject("fast"), SPACE, budget=Budget(8)), tmp_path / "out")
    assert [(a.settings, a.value) for a in again.attempts] == [
        (a.settings, a.value) for a in tuned[0].attempts
    ]
    assert again.unchanged == tuned[0].unchanged


def test_poisoned_validation_events_of_judging_users_change_no_weights(dataset):
    config = recipe("fast", {"sources.item_neighbours.n_neighbours": "20"})
    halves = validation_halves(dataset)
    targets = (halves.test.targets.values + 7) % dataset.n_items
    other = replace(halves, test=replace(halves.test, targets=replace(halves.test.targets, values=targets)))
    fits = [tuning_fit(config, part) for part in (halves, other)]
    np.testing.assert_array_equal(*(fit.pipeline.merge.weights for fit in fits))
    assert judged(config, halves, seed=0).value != judged(config, other, seed=0).value


def tuning_fit(config, halves):
    from zhiyin.experiments.training import fit_pipeline

    return fit_pipeline(config, halves, seed=0)


def test_the_figures_are_those_of_the_settings(dataset, tuned):
    result, out = tuned
    values = [attempt.value for attempt in result.attempts]
    assert len(values) == 8
    assert result.best is not None
    assert result.best.value == max(values) > result.unchanged
    read = read_settings(out / "best.toml")
    assert read.recipe == "fast"
    config = recipe(read.recipe, read.settings)
    again = judged(config, validation_halves(dataset), seed=0)
    assert again.value == pytest.approx(result.best.value, abs=1e-12)
    assert result.gain.value == pytest.approx(result.best.value - result.unchanged, abs=1e-6)
    told = json.loads((out / "tuning.json").read_text())
    assert told["best"]["value"] == result.best.value
    assert [trial["value"] for trial in told["trials"]] == values


def test_the_line_to_set_makes_the_same_pipeline(tuned):
    result, out = tuned
    pairs = re.findall(r"--set (\S+)=(\S+)", result.set_line)
    by_line = recipe("fast", dict(pairs))
    by_file = recipe("fast", read_settings(out / "best.toml").settings)
    for config in (by_line, by_file):
        assert float(config.sources["item_graph"]["text_exponent"]) == float(
            result.best.settings["sources.item_graph.text_exponent"]
        )
        assert int(config.sources["item_graph"]["window"]) == int(
            result.best.settings["sources.item_graph.window"]
        )


def test_the_page_shows_every_trial_and_loads_nothing(tuned):
    result, out = tuned
    page = (out / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=.https?:", page)
    assert page.count('<th scope="row">') == len(result.attempts)
    assert page.count("<svg") == 2
    assert "Which settings mattered" in page
    assert f"{result.best.value:.4f}" in page


def test_going_on_repeats_nothing(dataset, tuned, tmp_path, monkeypatch):
    plan, out = Plan(RecipeSubject("fast"), SPACE, budget=Budget(3)), tmp_path / "out"
    first = tune(dataset, plan, out)
    calls = []

    def counted(*arguments, **named):
        calls.append(arguments)
        return judged(*arguments, **named)

    monkeypatch.setattr(recipes, "judged", counted)
    tune(dataset, plan, out)
    assert not calls
    longer = tune(dataset, replace(plan, budget=Budget(8)), out)
    assert len(calls) == 5
    assert longer.attempts[:3] == first.attempts
    assert [a.settings for a in longer.attempts] == [a.settings for a in tuned[0].attempts]


def test_a_search_takes_the_place_of_nothing_else(dataset, tmp_path):
    """The report of a bundle is part of its checksums: one overwritten page and it counts as damaged."""
    (tmp_path / "report.html").write_text("of a bundle")
    with pytest.raises(RequestError, match=r"holds report\.html, but there is no study"):
        tune(dataset, Plan(RecipeSubject("fast"), SPACE, budget=Budget(1)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "of a bundle"


def test_nothing_better_leaves_the_recipe_as_it_stands(dataset, tmp_path, monkeypatch):
    def worse_when_changed(config, _halves, **_named):
        value = 0.5 - 0.1 * ("window" in config.sources["item_graph"])
        return Judged(value, np.full(4, value, np.float32), 0.0)

    monkeypatch.setattr(recipes, "judged", worse_when_changed)
    result = tune(dataset, Plan(RecipeSubject("fast"), SPACE, budget=Budget(2)), tmp_path / "out")
    assert (result.best, result.gain, result.best_value, result.set_line) == (None, None, 0.5, "")
    assert read_settings(tmp_path / "out" / "best.toml").settings == {}
    assert "No trial was better" in (tmp_path / "out" / "report.html").read_text()
    assert judge_finally(dataset, result, tmp_path / "out", progress=Silent()) is None
    assert not (tmp_path / "out" / "final.json").exists()


def test_test_events_are_looked_at_once(dataset, tuned, monkeypatch):
    result, out = tuned
    final = judge_finally(dataset, result, out, progress=Silent())
    assert final.is_new
    assert final.record["runs"] == ["best", "as it stands"]
    assert "On new events" not in tuning_page(result)
    write_page(result, out, "zhiyin tune")
    told, pair = (out / "report.html").read_text(), final.record["pairs"][0]
    section = told.partition("On new events")[2].partition("</section>")[0]
    assert pair["metric"] in section.replace("<wbr>", "")
    assert f"{pair['value']:+.4f}" in section
    assert "--final" not in told
    monkeypatch.setattr(recipes, "judged_runs", None)
    again = judge_finally(dataset, result, out, progress=Silent())
    assert not again.is_new
    assert again.record == json.loads(json.dumps(final.record))


def test_too_few_users_are_refused(dataset):
    few = dataset.with_events(dataset.histories.row_of_event < 6)
    with pytest.raises(RequestError, match="have a validation event"):
        validation_halves(few)


def test_settings_follow_a_source_that_was_taken_with_its_defaults(tmp_path):
    file = tmp_path / "best.toml"
    given = {"sources.ease": "{}", "sources.als": '{"n_factors": 8}', "sources.bpr": {}}
    found = {"sources.ease.l2": "50", "sources.als.iterations": "3", "sources.bpr.history_decay": "0.9"}
    file.write_text(written_settings("fast", given | found))
    assert given["sources.bpr"] == {}
    assert dict(read_settings(file).settings) == {
        "sources.ease.l2": 50,
        "sources.als.n_factors": 8,
        "sources.als.iterations": 3,
        "sources.bpr.history_decay": 0.9,
    }


def test_settings_are_read_as_they_were_written(tmp_path):
    settings = {"sources.item_graph.window": "5", "merge.penalty": "0.01", "absorb": "false", "encoder": "x"}
    file = tmp_path / "best.toml"
    file.write_text(written_settings("hybrid", settings, ["why"]))
    read = read_settings(file)
    assert read.recipe == "hybrid"
    assert dict(read.settings) == {
        "sources.item_graph.window": 5,
        "merge.penalty": 0.01,
        "absorb": False,
        "encoder": "x",
    }
    assert recipe("hybrid", dict(read.settings)).merge.penalty == 0.01
    (tmp_path / "best.json").write_text(json.dumps({"merge": {"n_candidates": 7}}))
    name, joined = with_settings(None, tmp_path / "best.json", {"merge.penalty": "2"}, otherwise="fast")
    assert (name, joined) == ("fast", {"merge.n_candidates": 7, "merge.penalty": "2"})
    assert with_settings("hybrid", file, {"encoder": "y"}, otherwise="fast")[1]["encoder"] == "y"
    assert with_settings(None, file, {}, otherwise="fast")[0] == "hybrid"
    with pytest.raises(ConfigError, match="those of the recipe 'hybrid', and the command names 'popular'"):
        with_settings("popular", file, {}, otherwise="fast")


@pytest.mark.parametrize("text", ["recipe = ", "recipe = 5", "[1, 2]"])
def test_a_file_of_settings_that_is_none_is_refused(tmp_path, text):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_settings(file)
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory") as absent:
        read_settings(tmp_path / "absent.toml")
    assert "Errno" not in str(absent.value)


def test_a_ranker_is_learned_only_where_it_moves_slates(dataset, monkeypatch):
    """What is predicted beside a slate costs time in every trial and changes none of them."""
    halves, learned = validation_halves(dataset), []

    def learning(config, *_):
        learned.append(config)
        raise Learned

    class Learned(Exception):
        pass

    monkeypatch.setattr(pipeline_module, "fit_ranker_stage", learning)
    bought = {"ranker.tasks.bought.column": "event", "ranker.tasks.bought.yes_words": '["purchase"]'}
    plain, idle = (judged(recipe("popular", given), halves, seed=0) for given in (None, bought))
    assert idle.value == plain.value
    assert not learned
    with pytest.raises(Learned):
        judged(recipe("popular", bought | {"ranker.tasks.bought.worth": 1.0}), halves, seed=0)
