"""The text two-tower, in worlds whose answers are known, with a tiny random transformer as its encoder."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from zhiyin.contracts import Continuing, Growth
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary
from zhiyin.domain.errors import ConfigError
from zhiyin.language.catalogue import Language
from zhiyin.language.whitening import Whitening
from zhiyin.sources.two_tower.learner import TowerLearner
from zhiyin.sources.two_tower.scoring import user_vectors
from zhiyin.sources.two_tower.source import TextTwoTower
from zhiyin.sources.two_tower.tower import Towers, project
from zhiyin.sources.two_tower.windows import Pieces, Step
from zhiyin.testing.listening import Killed, Listening
from zhiyin.testing.source_contract import CandidateSourceContract, through_files
from zhiyin.testing.toy_language import HashedWords, ToyLanguage
from zhiyin.testing.worlds import TrainingData, arrival, checkerboard, topics

BRIEF = {
    "max_epochs": 4,
    "epochs_without_validation": 2,
    "learning_rate": 0.003,
    "warmup_steps": 2,
    "averaging": 0.0,
    "devices": "cpu",
    "precision": "float32",
}
QUICK = {"training": BRIEF}


class TestTextTwoTower(CandidateSourceContract):
    source = TextTwoTower
    settings = QUICK
    solves = (checkerboard, topics)
    tolerance = 1e-4

    def fitted(self):
        return _fitted()


def _fitted(cache=[]):  # noqa: B006 - one training for all promises
    if not cache:
        source = TextTwoTower(**QUICK)
        source.fit(checkerboard().training)
        cache.append(source)
    return cache[0]


WORDS = ["hat", "beanie", "spade", "shovel", "tea", "kettle", "red", "blue", "small", "large", "old", "new"]
PAIRS = (("hat", "beanie"), ("spade", "shovel"), ("tea", "kettle"))
COLOURS = WORDS[6:]
UNTOUCHED = [7 * noun for noun in range(6)]
TOUCHED = sorted(set(range(36)) - set(UNTOUCHED))


def titles() -> list[str]:
    """Every noun with every colour; one colour of each noun is never touched, see `UNTOUCHED`."""
    return [f"{colour} {noun}" for colour in COLOURS for noun in WORDS[:6]]


def synonyms(n_users: int = 90, seed: int = 0) -> TrainingData:
    """Whoever takes one noun takes its partner next; colours mean nothing. Only behaviour says so."""
    random = np.random.default_rng(seed)
    ids = [f"item {place}" for place in range(36)]
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": ids, "title": titles()}))
    rows = []
    for user in range(n_users):
        pair = [WORDS.index(noun) for noun in PAIRS[user % 3]]
        nouns = pair if random.random() < 0.5 else pair[::-1]
        picked = [nouns[place % 2] for place in range(4)]
        rows.append(np.array([noun + 6 * ((noun + random.integers(1, 6)) % 6) for noun in picked]))
    histories = Histories.of_items(rows).without_repeats()
    users = Vocabulary([f"user {user}" for user in range(n_users)])
    return TrainingData(Dataset("synonyms", catalogue, users, histories), ToyLanguage(), None, seed)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A folder with a transformer of three layers that has learned nothing."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder / "bert")
    words = Transformer(str(folder / "bert"), max_seq_length=16)
    SentenceTransformer(modules=[words, Pooling(32)], device="cpu").save(str(folder / "whole"))
    return folder / "whole"


ADAPTING = {
    "rank": 4,
    "max_tokens": 8,
    "training": {**BRIEF, "epochs_without_validation": 20, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def reading(tiny_model, tmp_path_factory) -> TrainingData:
    language = Language(str(tiny_model), cache_folder=tmp_path_factory.mktemp("cache"), precision="float32")
    return replace(synonyms(), language=language)


@pytest.fixture(scope="module")
def adapted(reading) -> TextTwoTower:
    source = TextTwoTower(**ADAPTING)
    source.fit(reading)
    return source


def share_of_partners(source: TextTwoTower, items: list[int]) -> float:
    """Of the six best for each item, the share whose noun is of the same pair."""
    asked = Queries.of_histories(Histories.of_items([np.array([item]) for item in items]))
    best = source.propose(asked, 6).item_index
    return float(((best % 6) // 2 == (np.array(items) % 6 // 2)[:, None]).mean())


def test_the_encoder_learns_which_words_go_together(adapted, reading):
    untaught = TextTwoTower(**{**ADAPTING, "training": {**BRIEF, "learning_rate": 1e-9}})
    untaught.fit(reading)
    assert share_of_partners(adapted, TOUCHED) > 0.95
    assert share_of_partners(untaught, TOUCHED) < 0.8


def test_items_nobody_touched_are_read_by_the_same_encoder(adapted):
    assert share_of_partners(adapted, UNTOUCHED) > 0.9


def test_an_arrival_is_read_by_the_adapted_encoder_of_a_restored_source(adapted, reading):
    restored = TextTwoTower(**ADAPTING)
    restored.restore(through_files(adapted.state()))
    new = Catalogue.from_table(pl.DataFrame({"item_id": ["a", "b"], "title": ["small shovel", "large tea"]}))
    restored.add_items(new, reading.language)
    scores = restored.score_all(Queries.of_histories(Histories.of_items([np.array([2]), np.array([5])])))
    assert scores[0, 36] > scores[0, 37] + 0.1  # a spade was taken
    assert scores[1, 37] > scores[1, 36] + 0.1  # a kettle was taken
    np.testing.assert_allclose(restored.trained.item_vectors[36], adapted.trained.item_vectors[15], atol=2e-3)


def test_a_state_holds_adapters_and_not_the_model(adapted):
    state = adapted.state()
    n_adapters = sum(array.size for name, array in state.arrays.items() if name.startswith("adapters."))
    layers, maps_of_attention, around = 2, 4 * (32 + 32), (32 + 64) * 2
    assert any(array.any() for name, array in state.arrays.items() if "lora_B" in name)
    assert n_adapters == 4 * layers * (maps_of_attention + around)
    assert state.facts["model"]["shape"] == {"rank": 4, "n_layers": 2, "max_tokens": 8}


def test_another_model_is_refused(adapted, tmp_path):
    restored = TextTwoTower(**ADAPTING)
    restored.restore(adapted.state())
    new = Catalogue.from_table(pl.DataFrame({"item_id": ["a"], "title": ["small shovel"]}))
    with pytest.raises(ConfigError, match="other weights"):
        restored.add_items(new, Language("default", cache_folder=tmp_path))


def test_a_killed_training_ends_as_one_that_was_not(reading, tmp_path):
    dying = Listening(killed_at=26)  # 20 epochs behind the encoder, 6 with adapters
    with pytest.raises(Killed):
        TextTwoTower(**ADAPTING).fit(replace(reading, checkpoints=tmp_path, progress=dying))
    resumed = TextTwoTower(**ADAPTING)
    resumed.fit(replace(reading, checkpoints=tmp_path))
    assert resumed.trained.facts["learning_curve"]["epochs"][5]["epoch"] == 6
    assert share_of_partners(resumed, TOUCHED) > 0.95
    again = TextTwoTower(**ADAPTING)
    again.fit(replace(reading, checkpoints=tmp_path))  # had ended: nothing is trained
    np.testing.assert_array_equal(again.trained.item_vectors, resumed.trained.item_vectors)


def test_a_refresh_goes_on_from_the_adapters(adapted, reading):
    growth = Growth(np.zeros(reading.dataset.n_interactions, dtype=bool), Continuing(epochs=1))
    again = adapted.refreshed(reading, growth)
    assert len(again.trained.facts["learning_curve"]["epochs"]) == 1
    assert share_of_partners(again, TOUCHED) > 0.95


def test_without_words_there_is_no_opinion():
    world = topics()
    table = world.catalogue.table.with_columns(
        title=pl.when(pl.col("item_id").is_in(["item 0", "item 5"])).then(None).otherwise(pl.col("title"))
    )
    dataset = replace(world.training.dataset, catalogue=Catalogue.from_table(table))
    source = TextTwoTower(**QUICK)
    source.fit(replace(world.training, dataset=dataset))
    asked = Queries.of_histories(Histories.of_items([np.array(row) for row in ([1], [0, 5], [0, 1, 5])]))
    scores = source.score_all(asked)
    assert np.isnan(scores[:, [0, 5]]).all()
    assert np.isnan(scores[1]).all()
    assert np.isfinite(scores[2, 1])
    source.add_items(Catalogue.from_table(pl.DataFrame({"item_id": ["a"], "title": [""]})), ToyLanguage())
    assert np.isnan(source.score_all(asked)[:, -1]).all()


def test_the_reason_is_the_event_that_adds_most():
    world = topics()
    source = TextTwoTower(**QUICK)
    source.fit(world.training)
    asked = Queries.of_histories(Histories.of_items([np.array([1, 2, 3])]))
    reasons = source.because(asked, np.array([[5, 6, 7, -1]], dtype=np.int32))
    assert reasons.tolist() == [[1, 2, 3, -1]]


def towers(dimension=6, history_length=3):
    whitening = Whitening(np.full(dimension, 0.1, np.float32), np.eye(dimension, dtype=np.float32) * 2)
    return Towers(whitening, history_length, 0.5)


def random_vectors(n, dimension=6):
    vectors = np.random.default_rng(0).normal(size=(n, dimension)).astype(np.float32)
    vectors[2] = 0
    return vectors


def test_serving_computes_what_training_computed():
    made, encoded = towers(), random_vectors(9)
    with torch.no_grad():
        items = made.items(torch.tensor(encoded))
        history = torch.tensor([4, 1, 0, 3, 7])  # two histories: 4, 1, 0 and 3, 7
        age, row = torch.tensor([2, 1, 0, 1, 0]), torch.tensor([0, 0, 0, 1, 1])
        expected = made.users(items, history, age, row, 2)
        projected = project(encoded, made.mean.numpy(), made.projection.numpy())
        weights = made.event_weights.numpy()
    histories = Histories.of_items([np.array([8, 4, 1, 0]), np.array([3, 7]), np.array([2]), np.array([99])])
    users, is_silent = user_vectors(histories, projected, weights)
    np.testing.assert_allclose(projected, items.numpy(), atol=1e-3)
    np.testing.assert_allclose(users[:2], expected.numpy(), atol=1e-3)
    assert is_silent.tolist() == [False, False, True, True]
    np.testing.assert_allclose(weights, [1, 0.6, 0.36], rtol=1e-5)


def step_of_everything(dataset, history_length=3) -> tuple[Pieces, Step]:
    pieces = Pieces.of(dataset, np.ones(dataset.n_items, dtype=bool), history_length)
    return pieces, pieces.step(np.arange(len(pieces.first)))


def test_the_loss_equals_a_slow_reference():
    dataset = checkerboard(n_users=6, n_items=8).training.dataset
    made, encoded = towers(), random_vectors(8) + 0.01
    _, step = step_of_everything(dataset)
    learner = TowerLearner(made, torch.tensor(encoded), dataset.item_counts, correction=0.7)
    with torch.no_grad():
        found = float(learner(step))
        items = made.items(torch.tensor(encoded)).numpy()
    weights, losses = [1, 0.6, 0.36], []
    for start, stop in zip(dataset.histories.offsets[:-1], dataset.histories.offsets[1:], strict=True):
        history = dataset.histories.item_index[start:stop]
        for place in range(1, len(history)):
            read = history[max(0, place - 3) : place][::-1]
            user = sum(weights[age] * items[item] for age, item in enumerate(read))
            user /= np.linalg.norm(user)
            logits = items @ user / 0.5 - 0.3 * np.log(np.maximum(dataset.item_counts, 1))
            allowed = [i for i in step.items if i not in set(read) or i == history[place]]
            losses.append(np.log(np.exp(logits[allowed]).sum()) - logits[history[place]])
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_each_event_but_the_first_is_foretold_once_from_those_before_it():
    dataset = checkerboard(n_users=5, n_items=18).training.dataset
    pieces, _ = step_of_everything(dataset, history_length=3)
    assert pieces.n_foretold.tolist() == [3, 3, 1] * 5
    assert pieces.lengths.tolist() == [4, 6, 4] * 5
    found = []
    for piece in range(len(pieces.first)):
        step = pieces.step(np.array([piece]))
        for row, target in enumerate(step.target):
            of_row = step.row == row
            assert np.array_equal(step.age[of_row], np.arange(of_row.sum())[::-1])
            found.append([*step.items[step.history[of_row]], step.items[target]])
    histories = dataset.histories
    expected = [
        histories.item_index[max(start, place - 3) : place + 1].tolist()
        for start, stop in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
        for place in range(start + 1, stop)
    ]
    assert found == expected


def test_a_linear_map_is_trained_where_the_encoder_is_no_model():
    training = replace(synonyms(), language=ToyLanguage(HashedWords(32)))
    source = TextTwoTower(**{**ADAPTING, "training": {**BRIEF, "epochs_without_validation": 30}})
    source.fit(training)
    assert source.state().facts["model"] is None
    assert share_of_partners(source, [*range(36)]) > 0.9
    source.add_items(arrival_like(training, 3), training.language)
    asked = Queries.of_histories(Histories.of_items([np.array([2])]))
    assert source.score_all(asked)[0, 36] > 0.5


def arrival_like(training: TrainingData, like: int) -> Catalogue:
    title = training.language.texts(training.dataset.catalogue)[like]
    return Catalogue.from_table(pl.DataFrame({"item_id": ["arrival"], "title": [title]}))


def test_an_arrival_stands_beside_what_it_is_like():
    world = topics()
    source = TextTwoTower(**QUICK)
    source.fit(world.training)
    source.add_items(arrival(world, like=2), world.training.language)
    scores = source.score_all(Queries.of_histories(Histories.of_items([np.array([2])])))[0]
    assert scores[36] > scores[:36][np.arange(36) % 4 != 2].max()


def test_where_every_event_to_foretell_weighs_nothing_texts_are_still_compared(reading):
    dataset = reading.dataset
    kinds = np.where(np.isin(np.arange(dataset.histories.n_events), dataset.histories.offsets), 1, 0)
    histories = replace(dataset.histories, event_index=kinds.astype(np.int16))
    weights = np.array([0.0, 1.0], dtype=np.float32)
    weighed = replace(dataset, histories=histories, event_kinds=("view", "buy"), event_weights=weights)
    source = TextTwoTower(**{**ADAPTING, "training": BRIEF})
    source.fit(replace(reading, dataset=weighed))
    assert not np.isnan(source.score_all(Queries.of_histories(Histories.of_items([np.array([2])])))).any()


def test_there_is_no_reason_for_an_item_it_does_not_know(adapted):
    asked = Queries.of_histories(Histories.of_items([np.array([2])]))
    shown = np.array([[-1, 2, 35, 36, 1000]], dtype=np.int32)
    assert adapted.because(asked, shown)[0, [0, 3, 4]].tolist() == [-1, -1, -1]


@pytest.mark.filterwarnings("error")
def test_vectors_that_may_not_be_written_are_mapped_in_silence():
    encoded = np.eye(3, dtype=np.float32)
    encoded.flags.writeable = False
    mapped = project(encoded, np.zeros(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(mapped, np.eye(3))
