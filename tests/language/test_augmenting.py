"""Texts changed a little: how much, the same again by seed, never what must stay."""

import json
import sqlite3
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain.errors import ConfigError, ZhiyinWarning
from zhiyin.language.augmenting import (
    AugmentingConfig,
    Chain,
    Sometimes,
    Synonyms,
    WordDropout,
    open_rewriter,
    read_synonyms,
)
from zhiyin.language.rewriting import KeptRewriter, load_rewriter

WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=5), min_size=1, max_size=12)
SYNONYMS = {"red": ["crimson"], "漂亮": ["美丽"], "漂": ["浮"], "car": ["auto", "motor car"]}


def is_within(short, long):
    """Whether one sequence is the other with some of it left out."""
    rest = iter(long)
    return all(part in rest for part in short)


def shouting(texts, seed):
    return [f"{text.upper()} {seed}" for text in texts]


@given(WORDS, st.floats(0, 0.99), st.integers(0, 2**32))
def test_words_go_whole_in_order_and_one_stays(words, share, seed):
    (thinned,) = WordDropout(share)([" ".join(words)], seed)
    assert is_within(thinned.split(), words)
    assert thinned.split()
    assert WordDropout(share)([" ".join(words)], seed) == [thinned]


def test_the_share_of_words_is_the_one_asked_for():
    texts = [" ".join(f"w{number}" for number in range(50))] * 400
    left = [len(text.split()) for text in WordDropout(0.3)(texts, 0)]
    assert np.mean(left) == pytest.approx(50 * 0.7, abs=0.5)
    assert len(set(left)) > 5, "each text is thinned on its own"
    assert WordDropout(0.3)(texts, 1) != WordDropout(0.3)(texts, 2)
    assert WordDropout(0.0)(texts, 0) == texts


def test_in_chinese_each_character_is_a_word():
    text = "红色连衣裙，2024 新款 iPhone壳"
    seen = Counter(
        found for seed in range(300) for found in WordDropout(0.5)([text], seed)[0] if found != " "
    )
    assert 110 < seen["红"] < 190
    assert seen["，"] == 300, "punctuation stays"
    assert seen["P"] == seen["h"] == seen["o"], "a foreign word goes whole"
    assert WordDropout(0.5)(["", "  ", "!?"], 0) == ["", "  ", "!?"]


def test_synonyms_stand_where_the_word_stood():
    always = Synonyms(SYNONYMS, 1.0)
    texts = ["Red car, redder", "RED's", "这件漂亮的衣服漂在水上"]
    (first, second, third) = always(texts, 0)
    assert first in ("Crimson auto, redder", "Crimson motor car, redder")
    assert second == "RED's", "another word"
    assert third == "这件美丽的衣服浮在水上", "the longest known word counts"
    found = {always(["car"], seed)[0] for seed in range(30)}
    assert found == {"auto", "motor car"}
    assert Synonyms(SYNONYMS, 0.0)(texts, 0) == texts
    exchanged = " ".join(Synonyms(SYNONYMS, 0.2)(["red " * 1000], 3)).split().count("crimson")
    assert 150 < exchanged < 250


def test_a_file_of_synonyms_is_checked(tmp_path):
    path = tmp_path / "synonyms.json"
    path.write_text(json.dumps({**SYNONYMS, "odd": []}), "utf-8")
    assert read_synonyms(path) == {word: tuple(others) for word, others in SYNONYMS.items()}
    for content, problem in (
        ("{", "cannot be read"),
        ("[1]", "are a list"),
        ('{"red": "crimson"}', "synonyms of 'red'"),
        ('{"red": [""]}', "synonyms of 'red'"),
        ('{"red car": ["auto"]}', "is not one word"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=problem):
            read_synonyms(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_synonyms(tmp_path / "nowhere.json")


def test_only_some_are_rewritten_and_each_stays_in_its_place():
    texts = [f"text {number}" for number in range(1000)]
    changed = Sometimes(shouting, 0.25)(texts, 5)
    is_changed = [new == f"{old.upper()} 5" for old, new in zip(texts, changed, strict=True)]
    assert all(new == old or is_new for old, new, is_new in zip(texts, changed, is_changed, strict=True))
    assert np.mean(is_changed) == pytest.approx(0.25, abs=0.05)
    assert Sometimes(lambda *_: pytest.fail("asked"), 0.0)(texts, 5) == texts


def test_a_chain_goes_in_order_and_each_part_draws_on_its_own():
    seeds = []

    def marked(mark):
        def mark_all(texts, seed):
            seeds.append(seed)
            return [text + mark for text in texts]

        return mark_all

    chain = Chain([marked("a"), marked("b")])
    assert chain(["x", "y"], 1) == ["xab", "yab"]
    chain(["x"], 1)
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]


def test_a_kept_answer_is_not_asked_for_again(tmp_path):
    asked = []

    def slow(texts, seed):
        asked.extend((text, seed) for text in texts)
        return [f"{text}!{seed}" for text in texts]

    texts = [f"text {number % 90}" for number in range(150)]
    expected = [f"{text}!0" for text in texts]
    assert KeptRewriter(slow, "slow", tmp_path)(texts, 3) == expected
    assert len(asked) == 90, "each text once"
    assert KeptRewriter(slow, "slow", tmp_path)([*texts, "new"], 4) == [*expected, "new!0"]
    assert len(asked) == 91, "found in the file, by another object and with another seed"
    assert KeptRewriter(slow, "other", tmp_path)(["new"], 4) == ["new!0"]
    assert len(asked) == 92, "another rewriter says something else"
    several = KeptRewriter(slow, "slow", tmp_path, n_versions=3)
    assert {several(["new"], seed)[0] for seed in range(30)} == {"new!0", "new!1", "new!2"}
    assert len(asked) == 94, "one version was known already"
    assert KeptRewriter(slow, "slow", None)(["new"], 0) == ["new!0"]
    assert len(asked) == 95


def test_what_was_answered_before_a_failure_is_kept(tmp_path):
    asked = []

    def failing(texts, _):
        asked.append(len(texts))
        if len(asked) == 3:
            raise OSError("no connection")
        return texts

    texts = [str(number) for number in range(200)]
    with pytest.raises(ConfigError, match="'mine' failed: OSError: no connection"):
        KeptRewriter(failing, "mine", tmp_path)(texts, 0)
    assert KeptRewriter(failing, "mine", tmp_path)(texts, 0) == texts
    assert asked == [64, 64, 64, 64, 8]


@pytest.mark.parametrize("answer", [["one"], "ab", [1, 2], None])
def test_an_answer_that_does_not_fit_is_refused(answer):
    with pytest.raises(ConfigError, match="must answer 2 texts"):
        KeptRewriter(lambda *_: answer, "mine", None)(["a", "b"], 0)


def test_an_empty_answer_leaves_the_text():
    assert KeptRewriter(lambda *_: [" ", "c"], "mine", None)(["a", "b"], 0) == ["a", "c"]


def test_a_damaged_file_or_a_folder_that_is_none_is_a_warning(tmp_path):
    (tmp_path / "rewritten.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.warns(ZhiyinWarning, match="was damaged"):
        assert KeptRewriter(shouting, "mine", tmp_path)(["a"], 0) == ["A 0"]
    assert KeptRewriter(shouting, "mine", tmp_path)(["a"], 0) == ["A 0"]
    with sqlite3.connect(tmp_path / "rewritten.sqlite") as file:
        assert file.execute("SELECT count(*) FROM rewritten").fetchone() == (1,)
    (tmp_path / "taken").write_text("a file")
    with pytest.warns(ZhiyinWarning, match="cannot be kept"):
        assert KeptRewriter(shouting, "mine", tmp_path / "taken")(["a"], 0) == ["A 0"]


@pytest.fixture
def my_shop(tmp_path, monkeypatch):
    (tmp_path / "my_shop_texts.py").write_text(
        "LANGUAGE = 'de'\ndef back(texts, seed):\n    return [text[::-1] for text in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("my_shop")
def test_a_rewriter_of_ones_own_is_loaded_by_name():
    assert load_rewriter("my_shop_texts:back")(["abc"], 0) == ["cba"]
    for name, problem in (
        ("my_shop_texts", "has no name of the form"),
        ("my_shop_texts:", "has no name of the form"),
        ("my shop:back", "has no name of the form"),
        ("my_shop_nowhere:back", "cannot be imported"),
        ("my_shop_texts:forth", "It has: back"),
        ("my_shop_texts:LANGUAGE", "no function 'LANGUAGE'"),
    ):
        with pytest.raises(ConfigError, match=problem):
            load_rewriter(name)


@pytest.mark.usefixtures("my_shop")
def test_settings_make_a_chain_of_what_is_asked_for(tmp_path):
    assert open_rewriter(AugmentingConfig()) is None
    assert not AugmentingConfig(word_dropout=0.5).changes_texts
    (tmp_path / "synonyms.json").write_text(json.dumps({"cba": ["x y"]}))
    config = AugmentingConfig(
        word_dropout=0.5,
        synonyms=str(tmp_path / "synonyms.json"),
        synonym_share=1.0,
        rewriter="my_shop_texts:back",
        rewriter_share=1.0,
    )
    assert config.changes_texts
    whole = open_rewriter(config, cache=tmp_path / "kept")
    assert {whole(["abc"], seed)[0] for seed in range(40)} == {"x y", "x", "y"}
    assert (tmp_path / "kept" / "rewritten.sqlite").exists()
    without = open_rewriter(config, drops_words=False, cache=tmp_path / "kept")
    assert {without(["abc"], seed)[0] for seed in range(40)} == {"x y"}
    only = AugmentingConfig(word_dropout=0.5)
    assert open_rewriter(only, drops_words=False) is None
    assert isinstance(open_rewriter(only), WordDropout)
