"""What is tried: declared beside the settings, or written down; always something the settings accept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.contracts import AnyOf, Between
from zhiyin.domain.errors import ConfigError
from zhiyin.experiments.tuning.space import (
    combinations,
    default_space,
    n_combinations,
    parsed_space,
    short_names,
    shown,
    text_of,
)
from zhiyin.pipeline.recipes import RECIPES, recipe
from zhiyin.pipeline.registry import SOURCES, source_class


def fast(tried):
    return recipe("fast", dict(tried))


def ends(tried):
    values = tried.values if isinstance(tried, AnyOf) else (tried.low, tried.high)
    return [text_of(value, tried) for value in values]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_tuned_as_it_is(name):
    space = default_space(RECIPES[name], {})
    assert space
    for path, tried in space.items():
        for end in ends(tried):
            recipe(name, {path: end})


def test_settings_are_called_by_what_tells_them_apart():
    paths = ["sources.bpr.dimension", "sources.sequence.dimension", "merge.n_candidates", "sources.bpr.decay"]
    assert list(short_names(paths).values()) == [
        "bpr.dimension",
        "sequence.dimension",
        "n_candidates",
        "decay",
    ]
    assert short_names(["window", "sources.window"]) == {
        "window": "window",
        "sources.window": "sources.window",
    }


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_source_declares_it_accepts(name):
    for setting, tried in source_class(name).config_class.search_space.items():
        for end in ends(tried):
            config = recipe("fast", {f"sources.{name}.{setting}": end})
            source_class(name)(**config.sources[name])


def test_a_source_that_fills_gaps_is_left_alone():
    assert not [path for path in default_space(recipe("fast"), {}) if "popularity" in path or "merge" in path]
    assert list(default_space(recipe("popular"), {})) == ["sources.popularity.half_life_days"]
    assert "merge.penalty" in default_space(recipe("hybrid"), {})


def test_what_is_given_is_not_searched():
    given_settings = {"sources.item_graph.window": "4"}
    assert "sources.item_graph.window" not in default_space(recipe("fast", given_settings), given_settings)
    half_life = {"sources.popularity.half_life_days": "9"}
    with pytest.raises(ConfigError, match="nothing to search that is not given"):
        default_space(recipe("popular", half_life), half_life)


def test_the_setting_says_whether_numbers_are_whole():
    space = parsed_space(
        [
            "sources.item_graph.window=2..20",
            "sources.item_graph.decay=0..1",
            "sources.item_graph.n_text_neighbours=10..300:log",
            "sources.popularity.half_life_days=auto,7,30",
        ],
        fast,
    )
    assert space == {
        "sources.item_graph.window": Between(2, 20),
        "sources.item_graph.decay": Between(0.0, 1.0),
        "sources.item_graph.n_text_neighbours": Between(10, 300, by_ratio=True),
        "sources.popularity.half_life_days": AnyOf(("auto", "7", "30")),
    }
    assert space["sources.item_graph.window"].is_whole
    assert not space["sources.item_graph.decay"].is_whole
    again = parsed_space([f"{path}={shown(tried)}" for path, tried in space.items()], fast)
    assert again == space


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources.item_graph.window", "cannot be read"),
        ("sources.item_graph.window=", "does not say what to try"),
        ("sources.item_graph.window=20..2", "20 is not below 2"),
        ("sources.item_graph.window=two..three", "are not two numbers"),
        ("sources.item_graph.window=2..20:loud", "':loud' is not known"),
        ("sources.item_graph.decay=0..1:log", "must be above 0"),
        ("sources.item_graph.window=5", "leaves no choice"),
        ("sources.item_graph.window=0..30", "cannot be '0'"),
        ("sources.item_graph.windw=2..20", "Did you mean 'window'"),
        ("sources.item_grph.window=2..20", "Did you mean 'item_graph'"),
        ("sources.item_graph.window=3,three", "cannot be 'three'"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_trained(text, said):
    with pytest.raises(ConfigError, match=said):
        parsed_space([text], fast)


def test_a_setting_is_searched_once():
    with pytest.raises(ConfigError, match=r"names 'sources\.item_graph\.window' twice"):
        parsed_space(["sources.item_graph.window=2..4", "sources.item_graph.window=2..9"], fast)


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-6, 1e6),
    share=st.floats(0, 1),
)
def test_a_shortened_number_stays_inside_its_range(low, width, share):
    tried = Between(low, low + width)
    value = float(text_of(low + share * width, tried))
    assert low <= value <= low + width
    assert abs(value - (low + share * width)) <= 1e-3 * max(abs(low), abs(low + width))


def test_combinations_are_counted_as_they_are_listed():
    space = {"a": Between(1, 4), "b": AnyOf(("x", "y", True))}
    listed = list(combinations(space))
    assert len(listed) == n_combinations(space) == 12
    assert {"a": "4", "b": "true"} in listed
    assert n_combinations({**space, "c": Between(0.0, 1.0)}) == float("inf")
