"""Cold items beside everybody, cold users step by step, and a bundle on a catalogue it has never seen."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split, cold_items, cold_users
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.domain.errors import BundleError
from zhiyin.evaluation.evaluation import RunRecord
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.cold_start import judge_everybody, judge_steps
from zhiyin.experiments.training import fit_pipeline, judge
from zhiyin.experiments.transferring import adopted, judge_zero_shot
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.testing.toy_language import ToyLanguage

N_TOPICS, PER_TOPIC = 8, 20
AT = EvaluationSettings(at=(10,), n_resamples=100)


def topic_world(n_users: int = 300, n_events: int = 14, seed: int = 0) -> Dataset:
    """Each user takes items of one topic, in any order; titles are made of the words of the topic."""
    random = np.random.default_rng(seed)
    n_items = N_TOPICS * PER_TOPIC
    topic = np.arange(n_items) % N_TOPICS
    words = [[f"topic{t}word{w}" for w in range(4)] for t in range(N_TOPICS)]
    titles = [" ".join(random.permutation(words[t])[:3]) for t in topic]
    rows = [
        random.permutation(np.flatnonzero(topic == user % N_TOPICS))[:n_events] for user in range(n_users)
    ]
    table = pl.DataFrame({"item_id": [f"i{i}" for i in range(n_items)], "title": titles, "made": 1999})
    users = Vocabulary([f"u{user}" for user in range(n_users)])
    return Dataset("topics", Catalogue.from_table(table), users, Histories.of_items(rows))


@pytest.fixture(scope="module")
def split() -> Split:
    return cold_items(topic_world(n_events=5), test_share=0.1)


def hardly_reading(**new_items: object) -> PipelineConfig:
    """Items of the same topic that were touched come before those that only read like them."""
    graph = {"text_weight": 0.001, "choose_on_validation": False}
    return PipelineConfig(sources={"item_graph": graph, "popularity": {}}, new_items=new_items)


@pytest.fixture(scope="module")
def kept(split):
    return fit_pipeline(hardly_reading(slots=2, most_lost=1.0), split)


def test_a_kept_place_finds_cold_items_and_says_what_it_costs(split, kept):
    plain = fit_pipeline(hardly_reading(), split)
    cold, cold_without = (judge(trained, AT).mean("recall_at_10") for trained in (kept, plain))
    # Two cold items a topic on average: two places hold most of them, whoever asks.
    assert cold > 0.5
    assert cold_without < 0.3
    everybody = judge_everybody(kept, AT)
    assert everybody.without_slots is not None
    assert everybody.difference is not None
    alone = judge_everybody(plain, AT)
    assert alone.without_slots is alone.difference is None
    assert everybody.without_slots.mean("recall_at_10") == alone.judged.mean("recall_at_10")
    change = everybody.judged.mean("recall_at_10") - alone.judged.mean("recall_at_10")
    assert everybody.difference.value == pytest.approx(change)
    warm, before = everybody.warm
    assert before is not None
    assert warm.value < before.value, "the others lose what stood on these places"
    seen = split.train.item_counts[split.everybody.targets.values] > 0
    assert warm.n_queries == seen.sum() < len(seen)


def test_cold_targets_count_for_everybody_too(split, kept):
    everybody = judge_everybody(kept, AT).judged
    is_cold = np.isin(everybody.ranked.item_index, np.unique(split.test.targets.values))
    assert everybody.values["recall_at_10"][is_cold].mean() == pytest.approx(
        judge(kept, AT).mean("recall_at_10")
    )


def test_the_figures_of_everybody_can_be_written(kept):
    run = RunRecord("topics", "fast", "cold-items")
    told = json.loads(json.dumps(judge_everybody(kept, AT).record(run), allow_nan=False))
    assert set(told) == {
        "everybody",
        "everybody_without_slots",
        "warm_targets",
        "warm_targets_without_slots",
        "slots_change",
    }
    assert told["slots_change"]["metric"] == "recall_at_10"


def test_who_says_more_gets_more_but_popularity_does_not_listen():
    split = cold_users(topic_world(), n_known=(0, 1, 5))
    shots = judge_steps(fit_pipeline(recipe("fast"), split), AT)
    assert shots.known == (0, 1, 5)
    learned, floor = ([each.mean("recall_at_10") for each in steps] for steps in shots.judged.values())
    assert list(shots.judged) == ["fast", "popularity"]
    assert learned[1] > 3 * learned[0], "one item tells the topic"
    # After one of twenty items of a topic, ten places hold ten of the nineteen others.
    assert learned[1] == pytest.approx(10 / 19, abs=0.25)
    assert learned[0] == pytest.approx(floor[0], abs=0.1)
    assert max(floor) < 0.3
    told = json.loads(json.dumps(shots.record(), allow_nan=False))
    assert [step["value"] for step in told["curves"]["fast"]["recall_at_10"]] == pytest.approx(learned)
    picture = shots.picture("recall_at_10")
    assert "items known of the user" in picture
    assert ">5</text>" in picture


def reading_pipeline(sources) -> Pipeline:
    """Trained on the topics, with a language whose vectors are the words themselves."""
    world = topic_world()
    pipeline = Pipeline(PipelineConfig(sources=sources), language=ToyLanguage())
    split = cold_items(world, test_share=0.1)
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline


def test_a_bundle_reads_a_catalogue_it_has_never_seen(monkeypatch):
    pipeline = reading_pipeline({"semantic": {}, "item_graph": {}, "popularity": {}})
    other = topic_world(n_users=60, seed=1)
    monkeypatch.setattr("zhiyin.pipeline.pipeline.Language", lambda _: ToyLanguage())
    transfer = judge_zero_shot(pipeline, other, trained_on="topics", settings=AT)
    assert transfer.silent == {"semantic": 0.0, "item_graph": 1.0, "popularity": 1.0}
    assert transfer.words()[:2] == [
        "semantic speaks for everybody.",
        "item_graph is silent: what it learned are items that are not here.",
    ]
    there = {name: judged.mean("recall_at_10") for name, judged in transfer.trained_there.items()}
    assert transfer.judged.mean("recall_at_10") > 3 * there["popularity"]
    assert transfer.judged.mean("recall_at_10") == pytest.approx(there["semantic"], abs=0.1)
    assert transfer.judged.slates.item_index.max() < len(other.catalogue)
    assert set(transfer.record()["trained_there"]) == {"popularity", "semantic"}


def test_the_same_ids_are_other_items_and_other_types_do_no_harm():
    pipeline = reading_pipeline({"semantic": {}, "popularity": {}})
    other = topic_world(n_users=60, seed=1)
    table = other.catalogue.table.with_columns(made=pl.lit("1999").str.split(" "))
    other = replace(other, catalogue=Catalogue.from_table(table))
    newcomer = adopted(pipeline, other)
    assert newcomer.n_trained == len(other.catalogue)
    assert len(pipeline.catalogue_or_raise()) == 2 * newcomer.n_trained


def test_a_bundle_that_reads_nothing_is_refused():
    pipeline = fit_pipeline(recipe("fast"), cold_items(topic_world(), test_share=0.1)).pipeline
    with pytest.raises(BundleError, match="all of it is silent"):
        adopted(pipeline, topic_world(n_users=20))
