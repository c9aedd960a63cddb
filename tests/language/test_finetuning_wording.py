"""What a model reads of a history, a moment and an item."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelRule, labelled_examples
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary
from zhiyin.domain.errors import ConfigError, DataError
from zhiyin.language.finetuning.settings import TaskConfig, WordingConfig
from zhiyin.language.finetuning.wording import Background, Wording
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model
from zhiyin.testing.tiny_models import save_tokenizer
from zhiyin.testing.word_shop import WORDS, word_shop


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("words")
    save_tokenizer([*WORDS, "weekday", "thursday", "o", "'", "11"], folder)
    return AutoTokenizer.from_pretrained(folder)


def small_shop(titles=("red lamp", "blue cup", "green book", None)) -> Dataset:
    """User u: red lamp liked, blue cup not, green book liked, then an item without words; v has one row."""
    return Dataset(
        name="small shop",
        catalogue=Catalogue.from_table(
            pl.DataFrame(
                {"item_id": list("abcd"), "title": list(titles)}, schema={"item_id": str, "title": str}
            )
        ),
        users=Vocabulary(["u", "v"]),
        histories=Histories(
            np.array([0, 5, 6]),
            np.array([0, 1, 3, 2, 0, 1], dtype=np.int32),
            np.zeros(6, dtype=np.int16),
            np.array([0, 1, 2, 3, 11 * 3600, NO_TIMESTAMP]),
            np.array([5, 1, 5, np.nan, 4, 2], dtype=np.float32),
        ),
        positive_value=3.0,
        context={"place": pl.Series(["shelf", None, "shelf", None, "table", None])},
        user_table=pl.DataFrame({"user_id": ["v", "u"], "device": ["phone", "desk"]}),
    )


def told(dataset, tokenizer, *, decoder=False, most=128, side="rows", rows=None, **config):
    wording = Wording(
        tokenizer,
        Background.of(dataset),
        WordingConfig(**config),
        most_tokens=most,
        is_decoder=decoder,
    )
    examples = examples_of(dataset)
    if rows is not None:
        examples = examples.take(np.array(rows))
    return [read(tokenizer, ids) for ids in getattr(wording, side)(examples)], wording, examples


def read(tokenizer, ids):
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def examples_of(dataset):
    """Every event, whatever its value."""
    everything = replace(dataset.histories, value=np.nan_to_num(dataset.histories.value, nan=1.0))
    rows = labelled_examples(replace(dataset, histories=everything), {"t": LabelRule("value")})
    return replace(rows, events=dataset.histories)


def test_the_newest_come_first_liked_before_not_liked_and_nameless_items_are_not_told(tokenizer):
    texts, _, _ = told(small_shop(), tokenizer)
    assert texts[0] == "[CLS] [SEP] red lamp [SEP]"
    assert texts[1] == "[CLS] liked : red lamp . [SEP] blue cup [SEP]"
    assert texts[2] == "[CLS] liked : red lamp . not liked : blue cup . [SEP] [SEP]"
    assert texts[4] == "[CLS] liked : green book ; red lamp . not liked : blue cup . [SEP] red lamp [SEP]"
    assert texts[5] == "[CLS] [SEP] blue cup [SEP]"


def test_a_user_tower_reads_no_item_and_an_item_tower_no_user(tokenizer):
    texts, wording, _ = told(small_shop(), tokenizer, side="users", rows=[1, 5])
    assert texts == ["[CLS] liked : red lamp . [SEP]", "[CLS] [SEP]"]
    items = [read(tokenizer, ids) for ids in wording.items(np.array([1, 3]))]
    assert items == ["[CLS] blue cup [SEP]", "[CLS] [SEP]"]


def test_everything_was_liked_where_values_do_not_say(tokenizer):
    texts, _, _ = told(replace(small_shop(), positive_value=None), tokenizer, rows=[2])
    assert texts == ["[CLS] liked : blue cup ; red lamp . [SEP] [SEP]"]


def test_a_task_says_what_was_liked_where_the_data_do_not():
    known, unknown = Background.of(small_shop()), Background.of(replace(small_shop(), positive_value=None))
    stars, click = TaskConfig(kind="rating"), TaskConfig(yes_from=2.0)
    assert unknown.as_tasks_say({"stars": stars, "click": click}).positive_value == 2.0
    assert unknown.as_tasks_say({"stars": stars}).positive_value is None
    assert unknown.as_tasks_say({"buy": TaskConfig(column="bought", yes_from=0.5)}).positive_value is None
    assert known.as_tasks_say({"click": click}).positive_value == 3.0


def test_only_the_newest_items_are_told(tokenizer):
    texts, _, _ = told(small_shop(), tokenizer, rows=[4], history_items=3)
    assert texts == ["[CLS] liked : green book . not liked : blue cup . [SEP] red lamp [SEP]"]
    texts, _, _ = told(small_shop(), tokenizer, rows=[4], history_items=0)
    assert texts == ["[CLS] [SEP] red lamp [SEP]"]


def test_state_comes_from_the_row_the_user_and_the_moment(tokenizer):
    texts, _, _ = told(small_shop(), tokenizer, rows=[0, 1, 4, 5], state=("place", "device", "hour"))
    assert texts[2].startswith("[CLS] liked : green book ; red lamp . not liked : blue cup .")
    assert ": table , device : desk , hour : 11 o ' clock [SEP] red lamp" in texts[2]
    assert texts[1] == "[CLS] liked : red lamp . device : desk , hour : [UNK] o ' clock [SEP] blue cup [SEP]"
    assert texts[3] == "[CLS] device : phone [SEP] blue cup [SEP]", "neither place nor time are known"
    texts, _, _ = told(small_shop(), tokenizer, rows=[0], state=("weekday",))
    assert texts == ["[CLS] weekday : thursday [SEP] red lamp [SEP]"]


def test_a_batch_in_which_no_moment_is_known_is_read_all_the_same(tokenizer):
    texts, _, _ = told(small_shop(), tokenizer, rows=[5], state=("hour",))
    assert texts == ["[CLS] [SEP] blue cup [SEP]"]


def test_unknown_state_is_refused_before_training(tokenizer):
    _, wording, examples = told(small_shop(), tokenizer, state=("hour", "device"))
    wording.refuse_unknown_state(examples)
    with pytest.raises(DataError, match="no column 'hour'"):
        wording.refuse_unknown_state(examples.take(np.array([5])))
    with pytest.raises(DataError, match=r"(?s)no column 'weather'.*device, .*hour, month, place"):
        told(small_shop(), tokenizer, state=("weather",))


@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("side", ["rows", "users"])
def test_nothing_is_longer_than_there_is_room(tokenizer, side, decoder):
    dataset = small_shop(("red lamp " * 30, "blue cup " * 30, "green book", None))
    for most, most_tokens in ((16, 128), (128, 16), (24, 128), (40, 128)):
        _, wording, examples = told(
            dataset,
            tokenizer,
            side=side,
            decoder=decoder,
            most=most_tokens,
            max_tokens=most,
            state=("device", "hour"),
        )
        lengths = [len(row) for row in getattr(wording, side)(examples)]
        assert max(lengths) <= min(most, most_tokens)
        assert max(len(row) for row in wording.items(np.arange(4))) <= min(most, most_tokens)
    texts, _, _ = told(dataset, tokenizer, rows=[4], max_tokens=16)
    assert texts[0].startswith("[CLS] [SEP] red lamp red lamp"), "the item is kept before the history"


def test_a_history_is_told_as_far_as_there_is_room_for_whole_names(tokenizer):
    texts, _, _ = told(small_shop(), tokenizer, rows=[4], max_tokens=16)
    assert texts == ["[CLS] liked : green book . not liked : blue cup . [SEP] red lamp [SEP]"]
    assert len(texts[0].split()) == 16, "the third item would take three tokens more"
    texts, _, _ = told(small_shop(), tokenizer, rows=[4], max_tokens=19)
    assert texts == ["[CLS] liked : green book ; red lamp . not liked : blue cup . [SEP] red lamp [SEP]"]


def test_a_decoder_reads_the_item_last(tokenizer):
    texts, wording, _ = told(small_shop(), tokenizer, rows=[1], decoder=True)
    assert texts == ["liked : red lamp . [SEP] blue cup [SEP]"], "this tokenizer knows no line end"
    assert wording.frame.first == []


def test_a_tokenizer_that_ends_nothing_is_refused():
    class Endless:
        sep_token_id = eos_token_id = None

    with pytest.raises(ConfigError, match="no token that ends a text"):
        Wording(Endless(), Background.of(small_shop()), WordingConfig(), most_tokens=9, is_decoder=False)


def test_chinese_names_are_read(tokenizer):
    shop = word_shop("word", chinese=True, n_users=2, n_events=2)
    shop = replace(shop, positive_value=None)
    texts, _, _ = told(shop, tokenizer, rows=[1])
    first, second = (shop.catalogue.table["title"][int(item)] for item in shop.histories.item_index[:2])
    assert texts == [f"[CLS] liked : {first[0]} ##{first[1]} . [SEP] {second[0]} ##{second[1]} [SEP]"]


def test_lengths_are_nearly_those_that_are_read(tokenizer):
    shop = word_shop("word", n_users=20, n_events=12)
    for state in ((), ("device",)):
        for side, estimate in (("rows", "lengths"), ("users", "user_lengths")):
            _, wording, examples = told(shop, tokenizer, side=side, state=state, max_tokens=32)
            true = np.array([len(row) for row in getattr(wording, side)(examples)])
            guessed = getattr(wording, estimate)(examples)
            assert np.abs(true - guessed).max() <= 8
            assert abs((true - guessed).mean()) < 3
            assert np.corrcoef(true, guessed)[0, 1] > 0.9
    items = np.arange(len(shop.catalogue))
    assert wording.item_lengths(items).tolist() == [len(row) for row in wording.items(items)]


def test_items_that_arrive_are_read_like_those_that_were_there(tokenizer):
    shop = small_shop()
    whole = Wording(tokenizer, Background.of(shop), WordingConfig(), most_tokens=64, is_decoder=False)
    first = replace(shop, catalogue=shop.catalogue.rows(np.arange(2)))
    grown = Wording(tokenizer, Background.of(first), WordingConfig(), most_tokens=64, is_decoder=False)
    grown.add_items(shop.catalogue.rows(np.arange(2, 4)))
    assert grown.documents == whole.documents
    assert grown.names == whole.names
    assert grown.lengths(examples_of(shop)).tolist() == whole.lengths(examples_of(shop)).tolist()


def test_a_gpt2_and_a_llama_have_their_frames(shop_llama, shop_gpt2):
    for folder in (shop_llama, shop_gpt2):
        opened = open_model(locate_model(folder))
        wording = Wording(
            opened.tokenizer, Background.of(small_shop()), WordingConfig(), most_tokens=64, is_decoder=True
        )
        assert opened.is_decoder
        assert all(wording.rows(examples_of(small_shop())))
