"""Predictions of a fine-tuned model: one row says the same alone and among many, and equals a sum by hand."""

import numpy as np
import pytest
import torch

from zhiyin.language.finetuning.losses import Scale
from zhiyin.language.finetuning.model import prepared_model, wording_for
from zhiyin.language.finetuning.network import TowerReader
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import WORDS, word_shop

TASKS = {
    "click": {"kind": "yes_no", "yes_from": 2.5},
    "stars": {"kind": "rating"},
    "next": {"kind": "next"},
}
LAYER = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 64
"""Numbers of a layer of the tiny BERT: attention, feed-forward block, two norms."""
SCALES = {"stars": Scale(2.5, 1.1)}


def untrained(folder, *, reader="cross", method="full", shop=None, **wording):
    """A model whose heads and additions are drawn, so that no two rows say the same."""
    shop = shop or word_shop("rating", n_users=12)
    config = FinetuningConfig.model_validate(
        {
            "tasks": TASKS,
            "reader": reader,
            "method": {"name": method, "virtual_tokens": 3},
            "wording": {"history_items": 4} | wording,
            "training": {"devices": "cpu", "precision": "float32", "tokens_per_batch": 128},
        }
    )
    rows = rows_of(shop, config)
    opened = open_model(locate_model(folder))
    torch.manual_seed(0)
    words = wording_for(opened, Background.of(shop), config)
    model = prepared_model(opened, words, config, rows.tasks, scales=SCALES)
    model.take_heads({name: torch.randn_like(weight) for name, weight in model.heads().items()})
    return model, rows


@pytest.mark.parametrize(
    ("base", "reader", "method"),
    [
        ("shop_bert", "cross", "prompt"),
        ("shop_bert", "towers", "prefix"),
        ("shop_llama", "cross", "prefix"),
        ("shop_llama", "towers", "full"),
        ("shop_gpt2", "cross", "prompt"),
        ("shop_gpt2", "towers", "adapter"),
    ],
)
def test_a_row_says_the_same_alone_and_among_many(request, base, reader, method):
    model, rows = untrained(request.getfixturevalue(base), reader=reader, method=method)
    train = rows.labelled.train
    together = model.predict(train)
    assert together.shape == (len(train), 3)
    assert together.std(axis=0).min() > 1e-3
    for row in (0, 3, 50):
        np.testing.assert_allclose(model.predict(train.take(np.array([row])))[0], together[row], atol=1e-4)
    order = np.random.default_rng(0).permutation(len(train))
    np.testing.assert_allclose(model.predict(train.take(order)), together[order], atol=1e-4)


@pytest.mark.parametrize("reader", ["cross", "towers"])
def test_several_items_a_row_are_predicted_like_rows_of_their_own(shop_bert, reader):
    model, rows = untrained(shop_bert, reader=reader)
    some = rows.labelled.train.take(np.arange(5))
    items = np.random.default_rng(0).integers(32, size=(5, 7)).astype(np.int32)
    items[:, 0] = some.item_index
    among = model.among(some, items)
    assert among.shape == (5, 7, 3)
    np.testing.assert_allclose(among[:, 0], model.predict(some), atol=1e-4)
    alone = rows.labelled.train.take(np.array([2]))
    np.testing.assert_allclose(model.among(alone, items[2:3])[0], among[2], atol=1e-4)


def test_two_towers_read_every_text_once(shop_bert, monkeypatch):
    model, rows = untrained(shop_bert, reader="towers")
    n_read = {"user": 0, "item": 0}
    vectors = TowerReader.vectors

    def counted(self, batch, side):
        n_read[side] += len(batch[f"{side}_input_ids"])
        return vectors(self, batch, side)

    monkeypatch.setattr(TowerReader, "vectors", counted)
    items = np.random.default_rng(0).integers(5, size=(9, 50)).astype(np.int32)
    model.among(rows.labelled.train.take(np.arange(9)), items)
    assert n_read == {"user": 9, "item": 5}


@pytest.mark.parametrize("reader", ["cross", "towers"])
def test_no_rows_give_no_predictions(shop_bert, reader):
    model, rows = untrained(shop_bert, reader=reader)
    nothing = rows.labelled.train.take(np.arange(0))
    assert model.predict(nothing).shape == (0, 3)
    assert model.among(nothing, np.empty((0, 4), dtype=np.int32)).shape == (0, 4, 3)


def test_two_towers_are_a_cosine_and_two_sides(shop_bert):
    model, rows = untrained(shop_bert, reader="towers")
    some = rows.labelled.train.take(np.arange(20))
    sentences, tokenizer = model.opened.sentences, model.opened.tokenizer

    def vectors(texts):
        return sentences.encode(texts, normalize_embeddings=True, convert_to_tensor=True).cpu()

    decoded = [" ".join(tokenizer.convert_ids_to_tokens(ids[1:-1])) for ids in model.wording.users(some)]
    users, items = vectors(decoded), vectors([model_title(model, item) for item in some.item_index])
    reader = model.reader
    with torch.no_grad():
        cosine = (users * items).sum(dim=1, keepdim=True)
        alone = users @ reader.user_side.weight.T + reader.user_side.bias + items @ reader.item_side.weight.T
        raw = cosine * reader.slope + alone * torch.tensor([1.0, 1.0, 0.0])
    found = model.predict(some)
    np.testing.assert_allclose(found[:, 0], raw[:, 0].sigmoid(), atol=1e-4)
    np.testing.assert_allclose(found[:, 1], raw[:, 1] * 1.1 + 2.5, atol=1e-4)
    np.testing.assert_allclose(found[:, 2], cosine[:, 0] * reader.slope[2].item(), atol=1e-4)


def model_title(model, item):
    tokenizer = model.opened.tokenizer
    return " ".join(tokenizer.convert_ids_to_tokens(model.wording.documents[int(item)]))


def test_a_cross_encoder_reads_the_mean_of_all_states_or_the_last_one(shop_bert, shop_llama):
    for folder in (shop_bert, shop_llama):
        model, rows = untrained(folder)
        some = rows.labelled.train.take(np.array([7, 90]))
        model.reader.eval()
        for row in range(2):
            ids = torch.tensor(model.wording.rows(some.take(np.array([row]))))
            with torch.no_grad():
                states = model.opened.network(
                    input_ids=ids, attention_mask=torch.ones_like(ids)
                ).last_hidden_state[0]
                pooled = states[-1] if model.opened.is_decoder else states.mean(dim=0)
                raw = model.reader.heads(pooled)
            found = model.predict(some)[row]
            assert found[0] == pytest.approx(float(raw[0].sigmoid()), abs=1e-4)
            assert found[1] == pytest.approx(float(raw[1] * 1.1 + 2.5), abs=1e-4)


@pytest.mark.parametrize("reader", ["cross", "towers"])
def test_heads_answer_in_float32_when_states_are_bfloat16(shop_bert, reader):
    model, rows = untrained(shop_bert, reader=reader)
    some = rows.labelled.train.take(np.arange(4))
    batch = model.composer.batch(some, np.arange(4), some.item_index)
    with torch.no_grad():
        exact = model.reader(batch)
        with torch.autocast("cpu", torch.bfloat16):
            quick = model.reader(batch)
    assert quick.dtype == torch.float32
    torch.testing.assert_close(quick, exact, rtol=0.1, atol=0.3)


def test_a_prompt_leaves_room_for_itself(tmp_path):
    save_bert(WORDS, tmp_path, max_position_embeddings=24)
    model, rows = untrained(tmp_path, method="prompt", history_items=10)
    assert np.isfinite(model.predict(rows.labelled.train)).all()
    assert max(len(row) for row in model.wording.rows(rows.labelled.train)) == 19


@pytest.mark.parametrize(
    ("method", "n_in_network"),
    [("frozen", 0), ("full", None), ("top", 2 * LAYER), ("prompt", 3 * 32), ("prefix", 2 * 2 * 3 * 32)],
)
def test_trained_numbers_are_counted(shop_bert, method, n_in_network):
    model, _ = untrained(shop_bert, method=method)
    n_whole = sum(weight.numel() for weight in model.opened.network.parameters())
    assert model.n_trained == (n_whole if n_in_network is None else n_in_network) + 3 * 33
    assert model.n_parameters == n_whole + 3 * 33
    assert sum(weight.numel() for weight in model.heads().values()) == 3 * 33
