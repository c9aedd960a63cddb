"""Training before anybody has done enough to test on: texts speak, and nothing is claimed."""

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import SCORE, TrainingData
from zhiyin.data.reading import read_dataset
from zhiyin.domain import Histories, Queries
from zhiyin.experiments.training import train
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.registry import SOURCES
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.testing.toy_language import ToyLanguage

ITEMS = """item_id,title,categories
red,Red cotton shirt,shirts
boots,Leather boots,shoes
blue,Blue cotton shirt,shirts
rain,Rain boots of rubber,shoes
hat,Wool hat,hats
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def asked(pipeline, *items):
    queries = Queries.of_histories(Histories.of_items([pipeline.catalogue.items.indices(list(items))]))
    return pipeline.explain(queries, pipeline.recommend(queries, 3))[0]


@pytest.mark.parametrize("name", ["popular", "fast"])
def test_a_catalogue_alone_makes_a_bundle(folder, name):
    outcome = train(read_dataset(folder), recipe(name), folder / "bundle")
    assert outcome.evaluation is None
    assert outcome.evaluations == {}
    assert not (folder / "bundle" / "metrics.json").exists()
    assert not (folder / "bundle" / "report.html").exists()
    told = asked(load_bundle(folder / "bundle"))
    assert len({one.item_id for one in told}) == 3


def test_what_reads_alike_is_proposed(folder):
    train(read_dataset(folder), recipe("fast"), folder / "bundle")
    told = asked(load_bundle(folder / "bundle"), "boots")
    assert told[0].item_id == "rain"
    assert told[0].reasons == ("goes with “Leather boots”",)


def test_nobody_is_told_that_an_item_is_popular_which_nobody_took(folder):
    train(read_dataset(folder), recipe("fast"), folder / "bundle")
    for one in asked(load_bundle(folder / "bundle")):
        assert one.reasons == ()


def test_a_few_events_are_learned_from_whole(folder):
    (folder / "interactions.csv").write_text("user_id,item_id\nanna,red\nanna,boots\nben,hat\n")
    dataset = read_dataset(folder)
    outcome = train(dataset, recipe("fast"), folder / "bundle")
    assert outcome.evaluation is None
    assert outcome.pipeline.histories.n_events == 3
    told = asked(load_bundle(folder / "bundle"))
    assert {one.item_id for one in told} == {"red", "boots", "hat"}
    assert {one.reasons for one in told} == {("popular with everybody",)}
    assert outcome.pipeline.users.ids.to_list() == ["anna", "ben"]


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"two_tower"}))
def test_every_source_bears_a_shop_without_events(folder, name):
    dataset = read_dataset(folder)
    pipeline = Pipeline(PipelineConfig(sources={name: {}}), ToyLanguage())
    pipeline.fit(TrainingData(dataset, pipeline.language))
    histories = Histories.of_items([np.array([], dtype=np.int32), np.array([1]), np.array([4, 0])])
    slates = pipeline.recommend(Queries.of_histories(histories), 5)
    assert len(slates) == 3
    assert not np.isnan(slates.column(SCORE)[slates.is_item]).any()
    pipeline.add_items(pl.DataFrame({"item_id": ["scarf"], "title": ["Wool scarf"]}))
    pipeline.similar(np.array([5]), 3)
