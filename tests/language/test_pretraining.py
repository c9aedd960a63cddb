"""Pre-training on worlds small enough to know what must be learned."""

import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.domain.errors import ConfigError
from zhiyin.language.encoder import load_encoder
from zhiyin.language.model_files import locate_model
from zhiyin.language.pretraining.fitting import Run, pretrain
from zhiyin.language.pretraining.masking import NOT_ASKED, Mask
from zhiyin.language.pretraining.packing import packed
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.language.pretraining.shop_texts import ShopTexts, shop_texts
from zhiyin.language.pretraining.vocabulary import add_words, words_to_add
from zhiyin.testing.tiny_models import save_bert, save_tokenizer
from zhiyin.training.kernels import WHILE_TRAINING

NOUNS = ("lotion", "cream", "guitar", "violin", "novel", "poem")
COLOURS = ("red", "blue", "green", "white", "black")
BRIEF = {"devices": "cpu", "precision": "float32", "tokens_per_batch": 128}


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A plain BERT that has learned nothing; 'lotion' is not among its words, its pieces are."""
    folder = tmp_path_factory.mktemp("bert")
    words = [*NOUNS[1:], *COLOURS, "lo", "##tion", "and"]
    save_bert(words, folder, max_position_embeddings=32, initializer_range=0.05)
    return folder


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory):
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    n_tokens = save_tokenizer([*NOUNS, *COLOURS], folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def paired_words():
    """Each text says the same noun and its colour again and again, so what is hidden stands beside it."""
    items = [f"{noun} {COLOURS[place % 5]}" for place, noun in enumerate(NOUNS)]
    random = np.random.default_rng(0)
    others = []
    for place in range(180):
        words = np.repeat([items[place % 6], "and"], [4, random.integers(1, 4)])
        others.append(" ".join(random.permutation(words)))
    return ShopTexts(items, others, np.empty((0, 2), dtype=np.int64))


@given(
    st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=9), min_size=1, max_size=9),
    st.integers(3, 12),
)
def test_packed_blocks_hold_every_document_in_order(documents, length):
    blocks = packed(documents, length, first=1, after=2)
    assert blocks.shape[1] == length
    assert (blocks[:, 0] == 1).all()
    stream = blocks[:, 1:].ravel()
    expected = [token for document in documents for token in [*document, 2]]
    assert stream[: len(expected)].tolist() == expected
    assert len(stream) - len(expected) < length - 1
    assert packed(documents, length, first=None, after=2).ravel()[: len(expected)].tolist() == expected


def test_what_is_hidden():
    mask = Mask(0.15, token=4, n_tokens=100, special=np.arange(5))
    tokens = np.random.default_rng(0).integers(0, 100, (400, 100))
    seen, labels = mask.hide(tokens, np.random.default_rng(1))
    is_asked, is_word = labels != NOT_ASKED, tokens >= 5
    assert is_asked[is_word].mean() == pytest.approx(0.15, abs=0.01)
    assert not is_asked[~is_word].any()
    assert (seen[~is_asked] == tokens[~is_asked]).all()
    assert (labels[is_asked] == tokens[is_asked]).all()
    assert (seen[is_asked] == 4).mean() == pytest.approx(0.8, abs=0.02)
    is_swapped = is_asked & (seen != 4) & (seen != tokens)
    assert is_swapped.sum() / is_asked.sum() == pytest.approx(0.1, abs=0.02)
    assert seen[is_swapped].min() >= 5
    again, _ = mask.hide(tokens, np.random.default_rng(1))
    assert (again == seen).all()


def test_words_that_save_most_pieces_are_added(encoder_folder):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(encoder_folder),
        AutoModel.from_pretrained(encoder_folder),
    )
    texts = ["lotion cream"] * 9 + ["口红眼影"] * 6 + ["rareword"] * 2
    assert words_to_add(texts, tokenizer, 5) == ["lotion", "口红眼影"]
    before = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(["lo", "##tion"])].mean(0)
    assert add_words(model, tokenizer, ["lotion"]) == 1
    assert tokenizer.tokenize("lotion cream") == ["lotion", "cream"]
    torch.testing.assert_close(model.get_input_embeddings().weight[-1], before)
    assert add_words(model, tokenizer, ["lotion"]) == 0


def test_characters_that_the_tokenizer_does_not_know_become_words(encoder_folder):
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    assert words_to_add(["口，红"] * 7 + ["口"] * 3 + ["lotion"] * 8 + ["影"] * 2, tokenizer, 5) == [
        "口",
        "lotion",
        "红",
    ]
    model = AutoModel.from_pretrained(encoder_folder)
    assert add_words(model, tokenizer, ["口", "红"]) == 2
    first, second = model.get_input_embeddings().weight[-2:].detach()
    assert (first - second).abs().max() > 0.01  # Else both would be one word to the model.
    assert words_to_add(["口"] * 9, tokenizer, 5) == []


def learned(base, out, given=None, run=None, **settings):
    training = {**BRIEF, **settings.pop("training", {})}
    config = PretrainingConfig(max_tokens=16, held_out=0.2, training=training, **settings)
    return pretrain(locate_model(base), given or paired_words(), config, out, run)


def test_masked_words_are_learned_from_their_neighbours(encoder_folder, tmp_path):
    facts = learned(
        encoder_folder, tmp_path / "out", training={"max_epochs": 25, "patience": 25, "learning_rate": 3e-3}
    )
    stage = facts["masked"]
    assert stage["before"] < np.log(1 / 8)
    assert stage["best_validation"] > -2.05  # to know how often each word comes would be -2.41
    encoder = load_encoder(tmp_path / "out", precision="float32")
    assert encoder.encode(["cream blue"]).shape == (1, 32)
    assert "masked" in (tmp_path / "out" / "README.md").read_text()


def test_code_for_few_sizes_of_products_is_kept(encoder_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "told by nobody, and put back afterwards")
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    learned(encoder_folder, tmp_path / "out", training={"max_epochs": 1})
    assert os.environ["LRU_CACHE_CAPACITY"] == str(WHILE_TRAINING)


def test_the_next_word_is_learned_by_a_decoder(decoder_folder, tmp_path):
    facts = learned(
        decoder_folder, tmp_path / "out", training={"max_epochs": 25, "patience": 25, "learning_rate": 3e-3}
    )
    assert facts["causal"]["best_validation"] > -1.2
    assert facts["causal"]["best_validation"] > facts["causal"]["before"] + 1.0
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == "llama"


def test_texts_taken_together_move_together(encoder_folder, tmp_path):
    """Whoever takes a lotion takes a poem next, and so on; the words themselves say nothing of it."""
    items = [f"{noun} {colour}" for noun in NOUNS for colour in COLOURS]
    partner = {0: 5, 1: 4, 2: 3}
    pairs = [
        (5 * first + one, 5 * second + other)
        for first, second in partner.items()
        for one in range(5)
        for other in range(5)
    ]
    facts = learned(
        encoder_folder,
        tmp_path / "out",
        ShopTexts(items, [], np.array(pairs)),
        objectives=("contrastive",),
        together=1.0,
        training={"max_epochs": 25, "patience": 25, "learning_rate": 2e-3},
    )
    vectors = load_encoder(tmp_path / "out", precision="float32").encode(items)
    cosines = (vectors @ vectors.T).reshape(6, 5, 6, 5).mean(axis=(1, 3))
    for first, second in partner.items():
        others = [noun for noun in range(6) if noun not in (first, second)]
        assert cosines[first, second] > cosines[first, others].max()
    assert facts["contrastive"]["best_validation"] >= facts["contrastive"]["before"]


@pytest.mark.parametrize("method", ["top", "lora", "adalora", "ia3"])
def test_part_of_the_model_learns_and_comes_out_whole(encoder_folder, tmp_path, method):
    facts = learned(
        encoder_folder,
        tmp_path / "out",
        objectives=("contrastive",),
        method={"name": method, "top_layers": 1, "rank": 2},
        training={"max_epochs": 2, "learning_rate": 1e-2},
    )
    stage = facts["contrastive"]
    assert 0 < stage["n_trained"] < facts["n_parameters"] * (0.6 if method == "top" else 0.25)
    before, after = (
        load_encoder(folder, precision="float32") for folder in (encoder_folder, tmp_path / "out")
    )
    moved = np.abs(before.encode(["cream red"]) - after.encode(["cream red"])).max()
    assert moved > 1e-6
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("lora" in name or "ia3" in name or "base_layer" in name for name in weights)


class Kill(BaseException):
    pass


def test_a_killed_run_ends_where_it_would_have_ended(encoder_folder, tmp_path):
    settings = {"objectives": ("contrastive", "masked"), "training": {"max_epochs": 4, "patience": 9}}
    whole = learned(encoder_folder, tmp_path / "whole", **settings)

    class Killing:
        def __init__(self):
            self.n = 0

        def log_metrics(self, metrics, step):
            self.n += 1
            if self.n == 6:
                raise Kill

        def save(self):
            pass

    run = Run(checkpoints=tmp_path / "checkpoints")
    with pytest.raises(Kill):
        learned(encoder_folder, tmp_path / "again", run=replace(run, trackers=[Killing()]), **settings)
    assert not (tmp_path / "again").exists()
    again = learned(encoder_folder, tmp_path / "again", run=run, **settings)
    for stage in ("1 contrastive", "2 masked"):
        curves = [[record["train_loss"] for record in facts[stage]["epochs"]] for facts in (whole, again)]
        assert curves[0] == curves[1]
    first, second = (load_encoder(tmp_path / name, precision="float32") for name in ("whole", "again"))
    np.testing.assert_array_equal(first.encode(["cream red"]), second.encode(["cream red"]))


def test_a_killed_run_remembers_which_ranks_helped(encoder_folder, tmp_path):
    """Ranks are taken away by what all steps so far have shown; weights alone would not tell."""
    settings = {
        "objectives": ("contrastive",),
        "method": {"name": "adalora", "rank": 2},
        "training": {"max_epochs": 24, "patience": 24, "learning_rate": 1e-2},
    }
    whole = learned(encoder_folder, tmp_path / "whole", **settings)

    class Killing:
        n = 0

        def log_metrics(self, metrics, step):
            self.n += 1
            if self.n == 11:  # of 24, after the first ranks went and before the last
                raise Kill

        def save(self):
            pass

    run = Run(checkpoints=tmp_path / "checkpoints")
    with pytest.raises(Kill):
        learned(encoder_folder, tmp_path / "again", run=replace(run, trackers=[Killing()]), **settings)
    again = learned(encoder_folder, tmp_path / "again", run=run, **settings)
    curves = [[record["train_loss"] for record in facts["contrastive"]["epochs"]] for facts in (whole, again)]
    assert len(curves[0]) == 24
    assert curves[0] == curves[1]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("method", ["adapter", "prefix", "prompt"])
def test_a_method_that_leaves_no_plain_model_is_refused(encoder_folder, tmp_path, method):
    with pytest.raises(ConfigError, match=f"'{method}' learns cannot be worked into the weights"):
        learned(encoder_folder, tmp_path / "out", method={"name": method})


def test_frozen_weights_may_still_get_new_words(encoder_folder, tmp_path):
    with pytest.raises(ConfigError, match="nothing to learn"):
        learned(encoder_folder, tmp_path / "out", method={"name": "frozen"})
    facts = learned(
        encoder_folder,
        tmp_path / "out",
        objectives=("contrastive",),
        method={"name": "frozen"},
        new_words=1,
        training={"max_epochs": 1},
    )
    assert facts["new_words"] == ["lotion"]
    assert facts["contrastive"]["n_trained"] % 32 == 0


def test_what_does_not_fit_is_refused_before_anything_is_read(encoder_folder, decoder_folder, tmp_path):
    with pytest.raises(ConfigError, match="'causal' does not fit"):
        learned(encoder_folder, tmp_path / "out", objectives=("causal",))
    with pytest.raises(ConfigError, match="'masked' does not fit"):
        learned(decoder_folder, tmp_path / "out", objectives=("masked",))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no language model"):
        learned(encoder_folder, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "out").exists()


def dataset_of(**columns):
    table = pl.DataFrame({"item_id": ["a", "b", "c"], **columns})
    histories = Histories.of_items([np.array([0, 1, 1, 2]), np.array([2]), np.array([1, 0])])
    review = pl.Series(
        "review",
        [
            "It smells of roses and lasts the whole day long.",
            None,
            *["Too heavy for my skin, I gave it away."] * 5,
        ],
    )
    shade = pl.Series("shade", ["light"] * 7)
    context = {"review": review, "shade": shade}
    return Dataset(
        "shop", Catalogue.from_table(table), Vocabulary(["u", "v", "w"]), histories, context=context
    )


def test_a_shop_is_read_by_its_items_reviews_and_histories():
    dataset = dataset_of(title=["red cream", "", "blue poem"], description=["soft", None, "of love"])
    made = shop_texts(dataset, PretrainingConfig())
    assert made.items == ["red cream. soft", "blue poem. of love"]
    assert made.others[:2] == [
        "It smells of roses and lasts the whole day long.",
        "Too heavy for my skin, I gave it away.",
    ]
    assert made.others[2:] == ["red cream; blue poem"]
    assert made.pairs.tolist() == [[0, 1]]
    bare = shop_texts(dataset, PretrainingConfig(reads_reviews=False, reads_histories=False))
    assert bare.others == []


def test_a_catalogue_without_words_is_refused():
    wordless = dataset_of(price=[1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="Neither items nor reviews of 'shop' have any words"):
        shop_texts(wordless, PretrainingConfig(reads_reviews=False))
    assert len(shop_texts(wordless, PretrainingConfig()).others) == 2


def test_items_without_words_cannot_be_compared(encoder_folder, tmp_path):
    reviews = ShopTexts([], ["red cream and blue poem"] * 9, np.empty((0, 2), dtype=np.int64))
    with pytest.raises(ConfigError, match="different texts number 0, and at least 2"):
        learned(encoder_folder, tmp_path / "out", reviews, objectives=("contrastive",))


def test_layers_that_stay_are_read_once_and_nothing_else_changes(tmp_path, monkeypatch):
    """Without dropout, training on from what they said is the same training."""
    settings = {
        "objectives": ("contrastive",),
        "together": 1.0,
        "method": {"name": "top", "top_layers": 1},
        "training": {"max_epochs": 3, "learning_rate": 1e-2},
    }
    shop = ShopTexts(paired_words().items, [], np.array([[i, (i + 1) % 6] for i in range(6)] * 3))

    still = tmp_path / "still"
    save_bert([*NOUNS, *COLOURS], still, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    kept = learned(still, tmp_path / "kept", shop, **settings)
    with monkeypatch.context() as patched:
        patched.setattr("zhiyin.language.kept_states.MOST_KEPT_NUMBERS", 0)
        whole = learned(still, tmp_path / "whole", shop, **settings)
    curves = [[record["train_loss"] for record in facts["contrastive"]["epochs"]] for facts in (kept, whole)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    first, second = (load_encoder(tmp_path / name, precision="float32") for name in ("kept", "whole"))
    np.testing.assert_allclose(first.encode(["cream red"]), second.encode(["cream red"]), atol=1e-5)
    assert np.abs(first.encode(["cream red"]) - load_encoder(still).encode(["cream red"])).max() > 1e-3
    settings["training"]["precision"] = "bfloat16"
    halved = learned(still, tmp_path / "halved", shop, **settings)
    assert halved["contrastive"]["before"] == pytest.approx(whole["contrastive"]["before"], abs=0.5)
    last = [facts["contrastive"]["epochs"][-1]["train_loss"] for facts in (halved, whole)]
    assert last[0] == pytest.approx(last[1], rel=0.1)


def test_items_with_equal_texts_are_one_text():
    """Else a text would be pushed away from itself, and a pair of it with itself would pass for two."""
    dataset = dataset_of(title=["red cream", "red cream", "blue poem"])
    made = shop_texts(dataset, PretrainingConfig(reads_reviews=False))
    assert made.items == ["red cream", "blue poem"]
    assert made.pairs.tolist() == [[0, 1]]
    assert made.runs is not None
    assert [run.tolist() for run in np.split(made.runs.values, made.runs.offsets[1:-1])] == [[0, 1]]
