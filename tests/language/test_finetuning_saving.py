"""A fine-tuned model on disk says what it said in memory, and refuses what it is not."""

import json
import shutil

import numpy as np
import pytest
import torch

from zhiyin.domain.errors import ConfigError
from zhiyin.language.encoder import load_encoder
from zhiyin.language.finetuning.fitting import finetune
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.saving import load_finetuned, save_finetuned
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.testing.word_shop import word_shop

METHODS = ("frozen", "full", "top", "lora", "adalora", "ia3", "adapter", "prefix", "prompt")
SHOP = word_shop("rating", n_users=8)


def trained(folder, method="lora", reader="cross", **tasks):
    """A model after one short epoch with large steps, so that everything has moved."""
    config = FinetuningConfig.model_validate(
        {
            "tasks": tasks or {"stars": {"kind": "rating"}, "click": {"yes_from": 2.5}},
            "reader": reader,
            "method": {"name": method, "rank": 2, "top_layers": 1, "bottleneck": 4, "virtual_tokens": 3},
            "wording": {"history_items": 2},
            "training": {
                "max_epochs": 1,
                "learning_rate": 2e-2,
                "devices": "cpu",
                "precision": "float32",
                "tokens_per_batch": 256,
            },
        }
    )
    rows = rows_of(SHOP, config)
    model, _ = finetune(locate_model(folder), Background.of(SHOP), rows, config)
    return model, rows.labelled.test


@pytest.mark.parametrize("reader", ["cross", "towers"])
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_says_what_it_said(shop_bert, tmp_path, method, reader):
    model, test = trained(shop_bert, method, reader)
    before = model.predict(test)
    save_finetuned(model, tmp_path / "model", {"README.md": "card"})
    assert (tmp_path / "model" / "README.md").read_text() == "card"
    again = load_finetuned(tmp_path / "model", Background.of(SHOP))
    np.testing.assert_array_equal(again.predict(test), before)
    assert again.n_trained == model.n_trained
    assert again.scales == model.scales
    assert SHOP.positive_value is None
    assert again.wording.liked_from == model.wording.liked_from == 2.5  # as task "click" says
    if method not in {"full", "top"}:
        heads = sum(weight.numel() for weight in model.heads().values())
        assert model.n_trained - heads < 0.2 * model.n_parameters
        size = (tmp_path / "model" / "weights.safetensors").stat().st_size
        assert size < 4 * model.n_trained + 10_000, "the base is not in it"


@pytest.mark.parametrize("base", ["shop_llama", "shop_gpt2"])
@pytest.mark.parametrize("method", ["full", "lora", "prefix"])
def test_a_saved_decoder_says_what_it_said(request, tmp_path, base, method):
    model, test = trained(request.getfixturevalue(base), method)
    before = model.predict(test)
    save_finetuned(model, tmp_path / "model", {}, merge=method != "prefix")
    again = load_finetuned(tmp_path / "model", Background.of(SHOP))
    np.testing.assert_array_equal(again.predict(test), before)


@pytest.mark.parametrize("method", ["full", "lora", "ia3"])
def test_a_merged_folder_is_an_encoder_whose_vectors_are_those_of_the_tower(shop_bert, tmp_path, method):
    model, test = trained(shop_bert, method, "towers")
    batch = model.composer.batch(test, np.arange(len(test)), test.item_index)
    with torch.no_grad():
        items = model.reader.vectors(batch, "item").numpy()
    save_finetuned(model, tmp_path / "model", {}, merge=True)
    found = locate_model(tmp_path / "model")
    assert found.folder == tmp_path / "model" / "merged"
    encoder = load_encoder(tmp_path / "model", precision="float32")
    titles = SHOP.catalogue.table["title"].to_list()
    texts = [titles[item] for item in np.unique(test.item_index)]
    np.testing.assert_allclose(np.asarray(encoder.encode(texts)), items, atol=1e-4)


def test_a_model_without_a_merged_network_is_no_encoder(shop_bert, tmp_path):
    model, _ = trained(shop_bert)
    save_finetuned(model, tmp_path / "model", {})
    with pytest.raises(ConfigError, match="--merge"):
        locate_model(tmp_path / "model")


@pytest.mark.parametrize("method", ["adapter", "prefix", "prompt"])
def test_what_cannot_be_merged_is_refused_before_anything_is_written(shop_bert, tmp_path, method):
    model, _ = trained(shop_bert, method)
    with pytest.raises(ConfigError, match="cannot be worked into the weights"):
        save_finetuned(model, tmp_path / "model", {}, merge=True)
    assert not (tmp_path / "model").exists()


def test_a_model_is_written_over_a_model_and_over_nothing_else(shop_bert, tmp_path):
    model, test = trained(shop_bert)
    for _ in range(2):
        save_finetuned(model, tmp_path / "model", {})
    assert np.isfinite(load_finetuned(tmp_path / "model", Background.of(SHOP)).predict(test)).all()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("cat")
    with pytest.raises(ConfigError, match="would be written over"):
        save_finetuned(model, tmp_path / "photos", {})
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.txt"]


def test_another_base_is_refused(shop_bert, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(shop_bert, base)
    model, _ = trained(base)
    save_finetuned(model, tmp_path / "model", {})
    record = tmp_path / "model" / "finetuned.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"base_fingerprint": "0" * 16}))
    with pytest.raises(ConfigError, match="was trained on another"):
        load_finetuned(tmp_path / "model", Background.of(SHOP))
    record.write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(ConfigError, match="format 99"):
        load_finetuned(tmp_path / "model", Background.of(SHOP))


def test_a_base_named_from_another_place_is_found_where_it_lay(shop_bert, tmp_path, monkeypatch):
    shutil.copytree(shop_bert, tmp_path / "here" / "base")
    monkeypatch.chdir(tmp_path / "here")
    model, test = trained("base")
    before = model.predict(test)
    save_finetuned(model, tmp_path / "model", {})
    monkeypatch.chdir(tmp_path)
    again = load_finetuned(tmp_path / "model", Background.of(SHOP))
    np.testing.assert_array_equal(again.predict(test), before)


def test_a_folder_that_is_no_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"(?s)no fine-tuned model.*notes\.txt"):
        load_finetuned(tmp_path, Background.of(SHOP))
    with pytest.raises(ConfigError, match=r"(?s)no fine-tuned model.*nothing"):
        load_finetuned(tmp_path / "missing", Background.of(SHOP))
