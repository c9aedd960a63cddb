"""From files in Chinese to recommendations with reasons, with a model small enough for a test."""

import json
import sys

import numpy as np
import polars as pl
import pytest

from zhiyin.cli.main import main
from zhiyin.language.encoder import load_encoder
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.testing.tiny_models import save_bert

TEAS = ("龙井绿茶", "碧螺春绿茶", "铁观音乌龙茶", "大红袍乌龙茶", "普洱熟茶", "茉莉花茶")
BOOKS = ("红楼梦小说", "西游记小说", "水浒传小说", "三国演义小说", "唐诗选集", "宋词选集")
KNOWN = "绿茶乌龙小说选集的与和产地作者喜欢不"
"""Characters that the base model knows; the others are foreign to it until it is pre-trained."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve items in Chinese; everybody likes tea, and nobody what is read."""
    folder = tmp_path_factory.mktemp("chinese")
    rng, titles = np.random.default_rng(0), [*TEAS, *BOOKS]
    items = pl.DataFrame(
        {
            "商品id": [f"p{place}" for place in range(12)],
            "商品名称": titles,
            "类目": [["茶叶" if title in TEAS else "图书"] for title in titles],
            "详情": [
                json.dumps({"名称": title, "产地": "杭州" if title in TEAS else "北京", "电话": "010-1"})
                for title in titles
            ],
        }
    )
    user, item = np.repeat(np.arange(30), 6), rng.integers(12, size=30 * 6)
    values = np.where(item < 6, 5, 1)
    events = pl.DataFrame(
        {
            "用户id": [f"用户{one}" for one in user],
            "商品id": [f"p{one}" for one in item],
            "时间": 1_700_000_000 + np.arange(len(user)) * 60,
            "评分": values,
        }
    )
    shop = folder / "shop"
    shop.mkdir()
    items.write_parquet(shop / "items.parquet")
    events.write_parquet(shop / "interactions.parquet")
    (shop / "dataset.toml").write_text(
        '[values]\npositive = 4\n[columns]\nuser_id = "用户id"\nitem_id = "商品id"\ntimestamp = "时间"\n'
        'value = "评分"\n[columns.items]\ntitle = "商品名称"\ncategories = "类目"\n',
        encoding="utf-8",
    )
    pieces = [piece for character in dict.fromkeys(KNOWN) for piece in (character, f"##{character}")]
    save_bert([*pieces, "liked", "not", ":", ";", "."], folder / "base", max_position_embeddings=64)
    return folder


def zhiyin(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["zhiyin", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code


@pytest.fixture(scope="module")
def encoder(folder):
    """The base, pre-trained on the catalogue."""
    out = folder / "encoder"
    brief = ("--set", "max_tokens=48", "--set", "training.epochs_without_validation=1", "--set", "held_out=0")
    both = ("--objective", "masked", "--objective", "contrastive", "--set", "new_words=60")
    assert zhiyin("pretrain", folder / "shop", "--out", out, "--base", folder / "base", *both, *brief) == 0
    return out


@pytest.fixture(scope="module")
def bundle(folder, encoder):
    """A bundle whose texts the new encoder read."""
    out = folder / "bundle"
    options = ("--recipe", "fast", "--set", "sources.semantic={}", "--set", f"encoder={encoder}")
    assert zhiyin("train", folder / "shop", *options, "--out", out) == 0
    return out


def test_chinese_columns_are_checked(folder, capsys):
    assert zhiyin("check", folder / "shop") == 0
    told = capsys.readouterr().out
    assert "100.0% of the items have a title" in told
    assert "Ready to train" in told


def test_pretraining_adds_what_the_tokenizer_did_not_know(folder, encoder):
    from transformers import AutoTokenizer

    before, after = (AutoTokenizer.from_pretrained(part) for part in (folder / "base", encoder))
    assert before.unk_token in before.tokenize("杭州")
    assert after.unk_token not in after.tokenize("杭州")
    # Nothing that is unknown to it lies apart from anything else that is.
    same, other = (load_encoder(part).encode(["杭州", "北京"]) for part in (folder / "base", encoder))
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(other[0] - other[1]).max() > 0.01


def test_finetuning_tells_tea_from_books(folder, encoder):
    out = folder / "clicks"
    settings = {
        "training.learning_rate": 0.003,
        "training.max_epochs": 6,
        "training.tokens_per_batch": 512,
        "wording.max_tokens": 24,
        "wording.item_tokens": 12,
        "wording.history_items": 1,
    }
    pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    base = ("--base", encoder, "--method", "full")
    assert zhiyin("finetune", folder / "shop", "--task", "click", "--out", out, *base, *pairs) == 0
    figures = json.loads((out / "figures.json").read_text())["figures"]["click"]["figures"]
    assert figures["roc_auc"]["value"] > 0.9


def test_search_and_reasons_speak_chinese(bundle, capsys):
    pipeline = load_bundle(bundle)
    found = pipeline.search(["乌龙茶"], 2)
    titles = pipeline.catalogue.table["title"]
    assert {titles[int(item)] for item in found.item_index[0]} == {"铁观音乌龙茶", "大红袍乌龙茶"}
    assert zhiyin("recommend", bundle, "--user", "用户0", "--explain", "-n", "3") == 0
    told = capsys.readouterr().out
    assert any(f"“{title}”" in told for title in (*TEAS, *BOOKS))  # A reason names an item.
