"""Training and measuring as functions, on a small simulated shop."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from zhiyin.data.reading import read_dataset
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import simulate_shop
from zhiyin.domain.errors import BundleError, RequestError
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.reporting import proposers
from zhiyin.experiments.splitting import PROTOCOLS, split_by
from zhiyin.experiments.training import fingerprint, fit_pipeline, judge, judge_sources, load_trained, train
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    simulate_shop(ShopConfig(n_items=300, n_users=200, n_days=60)).write(folder)
    return read_dataset(folder)


@pytest.fixture(scope="module")
def trained(dataset):
    return fit_pipeline(recipe("fast"), split_by("leave-last-out", dataset))


def test_the_pipeline_beats_the_floor(trained):
    sources = judge_sources(trained)
    assert set(sources) == {"item_graph", "popularity"}
    assert judge(trained).mean("recall_at_10") > 1.5 * sources["popularity"].mean("recall_at_10")


def test_nothing_held_back_is_learned_from(dataset, trained):
    split = trained.split
    assert split.train.n_interactions < dataset.n_interactions
    held = split.validation.queries.user_index
    lengths = split.train.histories.lengths[held]
    np.testing.assert_array_equal(lengths, split.validation.queries.histories.lengths)


def test_the_same_seed_gives_the_same_figures(dataset, trained):
    again = fit_pipeline(recipe("fast"), split_by("leave-last-out", dataset))
    assert judge(again).mean("ndcg_at_10") == judge(trained).mean("ndcg_at_10")


def test_a_bundle_is_what_was_evaluated(dataset, tmp_path):
    outcome = train(dataset, recipe("fast"), tmp_path / "bundle")
    told = json.loads((tmp_path / "bundle" / "metrics.json").read_text())
    assert told["metrics"]["recall_at_10"]["value"] == pytest.approx(outcome.evaluation.mean("recall_at_10"))
    loaded = load_trained(tmp_path / "bundle", dataset, "leave-last-out")
    assert judge(loaded).mean("ndcg_at_10") == pytest.approx(outcome.evaluation.mean("ndcg_at_10"))
    page = (tmp_path / "bundle" / "report.html").read_text()
    assert "item_graph" in page
    assert not re.findall(r"(?:src|href)=.https?:", page)
    served = load_bundle(tmp_path / "bundle")
    assert served.histories.n_events == dataset.n_interactions
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_is_not_judged_on_data_it_may_have_learned(dataset, tmp_path):
    train(dataset, recipe("popular"), tmp_path / "bundle")
    other = dataset.with_events(np.arange(dataset.n_interactions) != 5)
    assert fingerprint(other) != fingerprint(dataset)
    with pytest.raises(BundleError, match="may have learned the very events"):
        load_trained(tmp_path / "bundle", other, "leave-last-out")
    with pytest.raises(BundleError, match="under 'by-time'"):
        load_trained(tmp_path / "bundle", dataset, "by-time")


def test_a_bundle_is_not_asked_for_repeats_it_has_learned(dataset, tmp_path):
    # The first user met two items, the first of them twice: new to them is too little to hold anything back.
    lengths = dataset.histories.lengths
    user = int(np.flatnonzero(lengths >= 3)[0])
    first = int(dataset.histories.offsets[user])
    keep = np.ones(dataset.n_interactions, dtype=bool)
    keep[first + 3 : first + int(lengths[user])] = False
    short = dataset.with_events(keep)
    place = int(short.histories.offsets[user])
    items = short.histories.item_index.copy()
    items[place : place + 3] = [0, 0, 1]
    short = replace(short, histories=replace(short.histories, item_index=items))
    train(short, recipe("popular"), tmp_path / "bundle")
    with pytest.raises(BundleError, match="asked for events it has seen"):
        load_trained(tmp_path / "bundle", short, "leave-last-out", repeat=True)
    load_trained(tmp_path / "bundle", short, "leave-last-out")


def test_the_floor_is_judged_by_the_same_facts(dataset):
    config = PipelineConfig(sources={"item_graph": {"choose_on_validation": False}})
    trained = fit_pipeline(config, split_by("leave-last-out", dataset))
    pipeline = trained.pipeline
    vectors = np.random.default_rng(0).normal(size=(dataset.n_items, 4)).astype(np.float32)
    content = replace(pipeline.content, vectors=vectors)
    pipeline.take_over(dataset.catalogue, content, removed=pipeline.removed)
    assert {name: judged.facts.vectors is vectors for name, judged in judge_sources(trained).items()} == {
        "item_graph": True,
        "popularity": True,
    }


def test_a_foreign_folder_is_refused_before_anything_is_trained(dataset, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("keep")
    monkeypatch.setattr("zhiyin.experiments.training.fit_pipeline", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(BundleError, match="is not a bundle"):
        train(dataset, recipe("fast"), tmp_path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_can_be_evaluated(dataset, protocol):
    split = split_by(protocol, dataset)
    evaluation = judge(fit_pipeline(recipe("fast"), split), EvaluationSettings(at=(10,)))
    few = protocol in {"cold-items", "cold-users"}  # so small a shop has three cold items, 15 cold users
    assert few or evaluation.mean("recall_at_10") > 0
    assert split.name == protocol


def test_repeats_can_be_asked_for(dataset):
    split = split_by("leave-last-out", dataset, repeat=True)
    judged = judge(fit_pipeline(recipe("popular"), split), EvaluationSettings(repeat=True))
    owned = judged.slates.item_index[:, :, None] == split.test.queries.histories.padded_items(200)[:, None, :]
    assert owned.any()


def test_an_unknown_protocol_is_refused(dataset):
    with pytest.raises(RequestError, match="Did you mean 'leave-last-out'"):
        split_by("leave-one-out", dataset)


def test_a_log_too_short_to_test_is_refused(dataset):
    with pytest.raises(RequestError, match="leaves nothing to test on"):
        split_by("leave-last-out", dataset.with_events(np.zeros(dataset.n_interactions, dtype=bool)))


def test_proposers_are_those_with_a_real_share():
    assert proposers({"a": 1.0, "b": 8.0, "c": 0.2, "d": -3.0}) == ("b", "a")
