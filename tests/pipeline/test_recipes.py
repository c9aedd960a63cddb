"""Recipes and their settings."""

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import RECIPES, recipe
from zhiyin.pipeline.registry import SOURCES, source_class


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_built(name):
    pipeline = Pipeline(recipe(name))
    assert [source.name for source in pipeline.sources] == list(RECIPES[name].sources)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_calls_itself_what_it_is_called(name):
    assert source_class(name).name == name


def test_a_setting_is_changed_by_its_path():
    config = recipe("fast", {"sources.item_graph.window": "5", "merge.n_candidates": "50"})
    assert Pipeline(config).sources[0].config.window == 5
    assert config.merge.n_candidates == 50
    assert RECIPES["fast"].sources["item_graph"] == {}


def test_a_setting_of_the_training_loop_is_changed_by_its_path():
    config = recipe("hybrid", {"sources.sequence.training.max_epochs": "3"})
    sequence = next(source for source in Pipeline(config).sources if source.name == "sequence")
    assert sequence.config.training.max_epochs == 3


def test_a_source_is_added_by_naming_one_of_its_settings():
    config = recipe("fast", {"sources.item_neighbours.shrinkage": "5"})
    assert list(config.sources) == ["item_graph", "popularity", "item_neighbours"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources.item_graf.window": "5"}, "no source 'item_graf'. Did you mean 'item_graph'"),
        ({"sources.item_graph.windw": "5"}, "'sources.item_graph.windw' is not known. Did you mean 'window'"),
        (
            {"sources.item_graph.window": "0"},
            "'sources.item_graph.window' cannot be '0': .*greater than or equal",
        ),
        ({"sources.item_graph.decay": "much"}, "'sources.item_graph.decay' cannot be 'much'"),
        (
            {"sources.sequence.training.epochs": "5"},
            "training.epochs' is not known. Did you mean 'max_epochs'",
        ),
        ({"sources.item_graph.window.x": "5"}, "sources.item_graph.window' cannot be"),
        (
            {"sources.sequence.dimension": "0"},
            "'sources.sequence.dimension' cannot be '0': .*greater than 0, or .*'auto'",
        ),
        ({"sources.sequence.learns_repeats": "Auto"}, "'sources.sequence.learns_repeats' cannot be 'Auto'"),
        ({"merge.candidates": "5"}, "'pipeline.merge.candidates' is not known"),
        ({"merje.n_candidates": "5"}, "'merje.n_candidates' is not known. Did you mean 'merge'"),
        ({"window": "5"}, "'window' is not known"),
        ({"recipe.name": "x"}, "'recipe.name' is not known"),
        (
            {"sources.als": "64"},
            r"'sources.als' cannot be '64': a source is a table(.|\n)*sources.als=\{\} takes it",
        ),
        ({"sources.alss": "{}"}, "Did you mean 'als'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_possible(settings, message):
    with pytest.raises(ConfigError, match=message):
        recipe("fast", settings)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'hybrid'"):
        recipe("hybird")


@pytest.mark.parametrize("text", ["{}", " { } "])
def test_a_source_is_added_with_its_defaults(text):
    assert recipe("fast", {"sources.als": text}).sources["als"] == {}
    written = recipe("fast", {"sources.als": '{"n_factors": 8}'}).sources["als"]
    assert written == {"n_factors": 8}


@pytest.mark.parametrize(("text", "days"), [("[]", ()), ("[15, 60]", (15.0, 60.0))])
def test_several_values_stand_in_brackets(text, days):
    assert recipe("fast", {"merge.trend_days": text}).merge.trend_days == days


@pytest.mark.parametrize("text", ["15", "[15,", "[fifteen]", "[0]"])
def test_a_list_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=r"merge\.trend_days"):
        recipe("fast", {"merge.trend_days": text})
