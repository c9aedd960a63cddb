"""Re-ranking by a language model, in a shop where a word decides and the other sources cannot read."""

import shutil
from copy import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import SCORE, Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary
from zhiyin.domain.errors import ConfigError
from zhiyin.experiments.training import fit_pipeline
from zhiyin.pipeline.bundle import load_bundle, save_bundle
from zhiyin.pipeline.pace import Pace
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.refreshing import refreshed
from zhiyin.pipeline.reranking import LANGUAGE, LANGUAGE_PART, OUT_OF_TIME
from zhiyin.pipeline.reranking_files import carried_over
from zhiyin.pipeline.stages import Stages
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import COLOURS, THINGS, WORDS

PAIRS = [f"{one} {other}" for one in THINGS for other in THINGS if one != other][::3]
N_ITEMS = len(COLOURS) * len(PAIRS)
COLOUR = np.arange(N_ITEMS) % len(COLOURS)
MOST_KNOWN = 10


def called(colour, things):
    """A colour that nobody overlooks."""
    return f"{colour} {colour} {colour} {things}"


@pytest.fixture(scope="module")
def split():
    """Every user takes things of one colour; two of three have few events, the third many."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(360):
        own = random.permutation(np.flatnonzero(user % len(COLOURS) == COLOUR))
        rows.append(own[: (4, 8, 14)[user // len(COLOURS) % 3]])
    titles = [called(COLOURS[COLOUR[item]], PAIRS[item // len(COLOURS)]) for item in range(N_ITEMS)]
    table = pl.DataFrame({"item_id": [f"i{item}" for item in range(N_ITEMS)], "title": titles})
    users = Vocabulary([f"u{user}" for user in range(len(rows))])
    histories = Histories.of_items(rows)
    return leave_last_out(Dataset("colours", Catalogue.from_table(table), users, histories))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An encoder that has learned nothing: what shares a word has a like vector all the same."""
    folder = tmp_path_factory.mktemp("models") / "base"
    save_bert(WORDS, folder, initializer_range=0.02, hidden_size=64, num_hidden_layers=1)
    return folder


@pytest.fixture(scope="module")
def model(base, split):
    return saved(base, split, "reads")


@pytest.fixture(scope="module")
def blind(base, split):
    """One that reads no history, so that it says the same to everybody."""
    return saved(base, split, "blind", wording={"history_items": 0, "max_tokens": 32})


def saved(base, split, name, reader="towers", **settings):
    from zhiyin.language.finetuning.model import prepared_model, wording_for
    from zhiyin.language.finetuning.saving import save_finetuned
    from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
    from zhiyin.language.finetuning.wording import Background
    from zhiyin.language.model_files import locate_model
    from zhiyin.language.opened import open_model

    config = FinetuningConfig.model_validate(
        {"reader": reader, "training": {"precision": "float32", "devices": "cpu"}, **settings}
    )
    opened = open_model(locate_model(str(base)))
    wording = wording_for(opened, Background(split.train.catalogue), config)
    made = prepared_model(opened, wording, config, {"other": TaskConfig(), "next": TaskConfig(kind="next")})
    if reader == "cross":
        made.reader.heads.weight.data.normal_(std=0.3)
    folder = base.parent / name
    save_finetuned(made, folder, {"README.md": "A card."})
    return folder


def trained(split, model=None, **settings):
    given = {f"rerank.{name}": value for name, value in settings.items()}
    if model is not None:
        given = {"rerank.model": str(model), "rerank.task": "next", "rerank.n_items": N_ITEMS} | given
    pipeline = Pipeline(recipe("popular", given))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline


@pytest.fixture(scope="module")
def plain(split):
    return trained(split)


@pytest.fixture(scope="module")
def judging(split, model):
    return trained(split, model)


def serving(pipeline):
    """Return a twin that skips what fails and looks at the clock."""
    twin = copy(pipeline)
    twin.stages = Stages(is_tolerant=True)
    return twin


def hits(pipeline, split, rows):
    slate = pipeline.recommend(split.test.queries.take(rows), 10)
    return (slate.item_index == split.test.targets.values[rows][:, None]).any(axis=1).mean()


def cold_and_warm(split):
    is_warm = split.test.queries.histories.lengths > MOST_KNOWN
    return np.flatnonzero(~is_warm), np.flatnonzero(is_warm)


def assert_equal_slates(one, other):
    assert one.item_index.tobytes() == other.item_index.tobytes()
    assert one.column(SCORE).tobytes() == other.column(SCORE).tobytes()


def test_it_finds_for_cold_users_what_popularity_cannot_know(plain, judging, split):
    cold, _ = cold_and_warm(split)
    assert hits(plain, split, cold) < 0.25
    assert hits(judging, split, cold) > 2 * hits(plain, split, cold)
    assert judging.reranking.facts()["weights"].keys() == {"0", "1-3", "4-10"}
    nobody, few, some = judging.reranking.weights
    assert nobody == 0, "there is no example without any event"
    assert few > 0
    assert some > 0


def test_warm_users_are_left_as_they_are_to_the_last_bit(plain, judging, split):
    _, warm = cold_and_warm(split)
    queries = split.test.queries.take(warm)
    slate = judging.recommend(queries, 10)
    assert LANGUAGE not in slate.columns
    assert_equal_slates(plain.recommend(queries, 10), slate)
    cold, _ = cold_and_warm(split)
    mixed = split.test.queries.take(np.concatenate([cold[:5], warm]))
    before, after = plain.recommend(mixed, 10), judging.recommend(mixed, 10)
    assert LANGUAGE in after.columns
    assert after.item_index[5:].tobytes() == before.item_index[5:].tobytes()
    assert after.column(SCORE)[5:].tobytes() == before.column(SCORE)[5:].tobytes()


def test_a_model_that_does_not_help_is_not_listened_to(plain, blind, split):
    pipeline = trained(split, blind)
    assert pipeline.reranking.n_examples[1] > 50
    assert (pipeline.reranking.weights == 0).all()
    assert_equal_slates(plain.recommend(split.test.queries, 10), pipeline.recommend(split.test.queries, 10))


def test_settings_without_a_model_change_nothing(plain, split):
    pipeline = trained(split, most_known=50, n_items=5)
    assert pipeline.reranking is None
    assert_equal_slates(plain.recommend(split.test.queries, 10), pipeline.recommend(split.test.queries, 10))


def test_only_the_first_of_the_merged_order_are_judged(plain, split, model):
    pipeline = trained(split, model, n_items=7)
    pipeline.reranking = replace(pipeline.reranking, weights=np.ones(3, dtype=np.float32))
    cold, _ = cold_and_warm(split)
    queries = split.test.queries.take(cold[:9])
    before = plain.recommend(queries, N_ITEMS)
    after = pipeline.recommend(queries, N_ITEMS)
    judged = ~np.isnan(after.column(LANGUAGE))
    assert (judged.sum(axis=1) == 7).all()
    for row in range(9):
        assert set(after.item_index[row][judged[row]]) == set(before.item_index[row, :7])


def test_a_query_alone_is_judged_as_among_others(judging, split):
    cold, _ = cold_and_warm(split)
    together = judging.recommend(split.test.queries.take(cold[:12]), 10)
    for row in (0, 7):
        alone = judging.recommend(split.test.queries.take(cold[row : row + 1]), 10)
        np.testing.assert_allclose(alone.column(SCORE)[0], together.column(SCORE)[row], rtol=1e-4)
        assert alone.item_index[0].tolist() == together.item_index[row].tolist()


def test_what_the_model_added_is_explained(judging, split):
    cold, _ = cold_and_warm(split)
    queries = split.test.queries.take(cold[:1])
    slate = judging.recommend(queries, 5)
    first = judging.explain(queries, slate)[0][0]
    assert first.sources[LANGUAGE] == pytest.approx(float(slate.column(LANGUAGE_PART)[0, 0]))
    assert sum(first.sources.values()) == pytest.approx(first.score, rel=1e-5)
    assert "its description suits you" in first.reasons


class Slow:
    """A judge that takes a given time a text, by a clock of its own."""

    state_columns = ()

    def __init__(self, milliseconds):
        self.milliseconds, self.now = milliseconds, 0.0

    def texts_to_read(self, items):
        return np.cumsum((items >= 0).sum(axis=0))

    def scores(self, examples, items):
        self.now += self.milliseconds * items.size / 1000
        return np.where(items >= 0, items, np.nan).astype(np.float32)


def slowed(pipeline, milliseconds, judge=Slow):
    slow = judge(milliseconds)
    pipeline.reranking = replace(pipeline.reranking, judge=slow, pace=Pace(clock=lambda: slow.now))
    return pipeline


def n_judged(slate):
    return (~np.isnan(slate.column(LANGUAGE))).sum(axis=1).tolist()


def test_no_more_is_judged_than_there_is_time_for(judging, split):
    pipeline = slowed(serving(judging), 4)
    cold, _ = cold_and_warm(split)
    assert n_judged(pipeline.recommend(split.test.queries.take(cold[:1]), N_ITEMS)) == [12]
    before = pipeline.reranking.judge.now
    assert n_judged(pipeline.recommend(split.test.queries.take(cold[1:2]), N_ITEMS)) == [12]
    assert pipeline.reranking.judge.now - before <= 0.050
    assert not pipeline.stages.failures


def test_the_budget_is_that_of_a_batch(judging, split):
    pipeline = slowed(serving(judging), 4)
    cold, _ = cold_and_warm(split)
    assert n_judged(pipeline.recommend(split.test.queries.take(cold[:4]), N_ITEMS)) == [3] * 4


def test_where_there_is_no_time_for_two_a_request_is_counted_and_later_ones_try_again(plain, judging, split):
    pipeline = slowed(serving(judging), 26)
    cold, _ = cold_and_warm(split)
    queries = split.test.queries.take(cold[:1])
    assert_equal_slates(plain.recommend(queries, 10), pipeline.recommend(queries, 10))
    assert pipeline.stages.failures == {OUT_OF_TIME: 1}
    pipeline.reranking.judge.milliseconds = 1
    pipeline.recommend(queries, 10)
    after_a_while = [n_judged(pipeline.recommend(queries, N_ITEMS))[0] for _ in range(20)]
    assert after_a_while[0] < after_a_while[-1]
    assert after_a_while[-1] >= 12
    assert pipeline.stages.failures == {OUT_OF_TIME: 1}


def test_evaluation_does_not_look_at_the_clock(judging, split):
    pipeline = slowed(copy(judging), 1000)
    cold, _ = cold_and_warm(split)
    slate = pipeline.recommend(split.test.queries.take(cold[:1]), N_ITEMS)
    assert n_judged(slate) == slate.is_item.sum(axis=1).tolist()


def test_a_failing_model_is_skipped_while_serving_and_seen_otherwise(plain, judging, split):
    class Broken(Slow):
        def scores(self, examples, items):
            raise RuntimeError("out of memory")

    cold, _ = cold_and_warm(split)
    queries = split.test.queries.take(cold[:3])
    for pipeline in (copy(judging), serving(judging)):
        slowed(pipeline, 1, Broken)
        if pipeline.stages.is_tolerant:
            assert_equal_slates(plain.recommend(queries, 10), pipeline.recommend(queries, 10))
            assert pipeline.stages.failures == {LANGUAGE: 1}
        else:
            with pytest.raises(RuntimeError, match="out of memory"):
                pipeline.recommend(queries, 10)


def test_a_bundle_holds_the_model_and_answers_the_same(judging, split, tmp_path):
    folder = save_bundle(judging, tmp_path / "bundle")
    again = load_bundle(folder)
    asked = split.test.queries
    assert_equal_slates(judging.recommend(asked, 10), again.recommend(asked, 10))
    assert again.reranking.facts() == judging.reranking.facts()
    assert again.reranking.judge.card == "A card."
    twice = load_bundle(save_bundle(again, tmp_path / "again"))
    assert_equal_slates(judging.recommend(asked, 10), twice.recommend(asked, 10))


def test_a_bundle_whose_base_is_gone_says_so(base, split, tmp_path):
    moved = tmp_path / "base"
    shutil.copytree(base, moved)
    pipeline = trained(split, saved(moved, split, "other"))
    folder = save_bundle(pipeline, tmp_path / "bundle")
    shutil.rmtree(tmp_path / "other")
    load_bundle(folder)
    shutil.rmtree(moved)
    with pytest.raises(ConfigError, match="base"):
        load_bundle(folder)


def test_a_folder_without_a_model_is_told_before_anything_is_trained(split, tmp_path):
    with pytest.raises(ConfigError, match="fine-tuned"):
        trained(split, tmp_path)


def test_a_task_that_the_model_does_not_know_is_told(split, model):
    with pytest.raises(ConfigError, match="no task 'nxt'") as caught:
        trained(split, model, task="nxt")
    assert "next" in str(caught.value)


def lovers_of(colour):
    own = np.flatnonzero(colour == COLOUR)[:3].astype(np.int32)
    return Queries.of_histories(Histories.of_items([own]))


def place_of(pipeline, item, colour):
    slate = pipeline.recommend(lovers_of(colour), pipeline.catalogue_or_raise().table.height)
    return int(np.flatnonzero(slate.item_index[0] == item)[0])


def test_an_item_that_arrives_is_judged_at_once_and_again_when_it_changes(judging):
    pipeline = copy(judging)
    pipeline.add_items(pl.DataFrame({"item_id": ["new"], "title": [called("green", "lamp clock")]}))
    assert place_of(pipeline, N_ITEMS, 2) < 30
    assert place_of(pipeline, N_ITEMS, 1) > 30
    earlier = copy(pipeline)
    pipeline.add_items(pl.DataFrame({"item_id": ["new"], "title": [called("blue", "lamp clock")]}))
    assert place_of(pipeline, N_ITEMS, 1) < 30
    assert place_of(pipeline, N_ITEMS, 2) > 30
    assert place_of(earlier, N_ITEMS, 2) < 30, "a twin from before reads what it read"
    assert len(judging.reranking.judge.model.wording.names) == N_ITEMS


def test_what_goes_with_an_item_is_no_matter_of_users(plain, judging):
    item = np.array([5], dtype=np.int32)
    assert_equal_slates(plain.similar(item, 10), judging.similar(item, 10))


def test_a_refreshed_pipeline_keeps_the_model(judging, split):
    training = TrainingData(split.train, judging.language, split.validation)
    growth = Growth(np.zeros(split.train.n_interactions, dtype=np.bool_))
    kept = refreshed(judging, training, growth, fewest_to_weigh=10_000)
    assert kept.reranking.weights.tolist() == judging.reranking.weights.tolist()
    assert_equal_slates(judging.recommend(split.test.queries, 5), kept.recommend(split.test.queries, 5))
    deaf = copy(judging)
    deaf.reranking = replace(judging.reranking, weights=np.zeros(3, dtype=np.float32))
    again = refreshed(deaf, training, growth, fewest_to_weigh=1)
    np.testing.assert_allclose(again.reranking.weights, judging.reranking.weights, rtol=1e-3)


def test_training_anew_takes_over_the_model_where_its_folder_is_gone(judging, split):
    config = judging.config.model_copy(
        update={"rerank": judging.config.rerank.model_copy(update={"model": "gone"})}
    )
    users = split.train.users
    handed = carried_over(judging.reranking, users, users)
    again = fit_pipeline(config, split, reranking=handed).pipeline
    assert_equal_slates(judging.recommend(split.test.queries, 5), again.recommend(split.test.queries, 5))


def test_what_the_model_reads_of_users_follows_them_to_new_places(judging):
    known = Vocabulary(["ann", "ben", "cem"])
    reranking = replace(judging.reranking, people=pl.DataFrame({"age": [40, 50, 30]}))
    after = carried_over(reranking, known, Vocabulary(["cem", "dora", "ann"]))
    assert after.people["age"].to_list() == [30, None, 40]
