"""Judging without training: scores known by hand, a decoder that was taught one word, slow references."""

import numpy as np
import pytest
import torch

from zhiyin.contracts import Silent
from zhiyin.domain.errors import ConfigError, DataError
from zhiyin.language.asked import AnswerJudge, TitleJudge
from zhiyin.language.finetuning.model import wording_for
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model
from zhiyin.language.scaling import scaled_model
from zhiyin.language.told import Teller, Told
from zhiyin.language.untrained import LikenessJudge, UntrainedModel, untrained_model
from zhiyin.testing.tiny_models import save_bert, save_gpt2, save_llama
from zhiyin.testing.word_shop import COLOURS, WORDS, word_shop

PIECES = (*WORDS, "yes", "no", "item", "answer", "?", "will", "person")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_bert(PIECES, folder / "bert")
    save_llama(PIECES, folder / "llama")
    save_gpt2(PIECES, folder / "gpt2")
    return folder


def parts_of(folder, rule="word", **settings):
    """A model, a shop, its rows, and who tells them."""
    dataset = word_shop(rule, n_users=12)
    config = FinetuningConfig.parse(settings, where="test")
    opened, background = open_model(locate_model(folder)), Background.of(dataset)
    teller = Teller(opened.tokenizer, background, wording_for(opened, background, config), config)
    return opened, dataset, rows_of(dataset, config), teller, config


class Colours:
    """An encoder by hand: how often each colour is named."""

    name, dimension = "colours", len(COLOURS)

    def encode(self, texts):
        counts = np.array([[text.count(colour) for colour in COLOURS] for text in texts], dtype=np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_an_item_is_judged_by_its_likeness_to_what_was_liked_and_was_not(folders):
    _, dataset, rows, teller, config = parts_of(folders / "bert", wording={"history_items": 5})
    examples = rows.labelled.test
    found = LikenessJudge(Colours(), teller, config).scores(examples, Silent())
    encoder, names, newest = Colours(), teller.names, examples.histories(5)
    for row in range(len(examples)):
        run = slice(newest.offsets[row], newest.offsets[row + 1])
        liked = newest.value[run] >= dataset.positive_value
        items = newest.item_index[run]
        sides = [" ".join(names[item] for item in items[some]) for some in (liked, ~liked)]
        item, *of_sides = encoder.encode([names[examples.item_index[row]], *sides])
        expected = (1 + item @ of_sides[0] - item @ of_sides[1]) / 2
        assert found[row] == pytest.approx(expected, abs=1e-6)
    assert found.min() == 0.0  # The colour of all that was not liked …
    assert found.max() > 0.9  # … and of what was.


def test_without_a_history_the_task_speaks_alone(folders):
    opened, dataset, rows, _, _ = parts_of(folders / "bert")
    config = FinetuningConfig.parse(
        {"prompt": {"description": "all lamps here are red"}, "wording": {"history_items": 0}}, where="test"
    )
    background = Background.of(dataset)
    teller = Teller(opened.tokenizer, background, wording_for(opened, background, config), config)
    examples = rows.labelled.test
    found = LikenessJudge(Colours(), teller, config).scores(examples, Silent())
    is_red = examples.item_index < 8
    np.testing.assert_allclose(found, np.where(is_red, 1.0, 0.5), atol=1e-6)


def test_the_words_of_a_prompt_stand_where_they_should(folders):
    opened, _, _, teller, config = parts_of(
        folders / "llama",
        prompt={"description": "Task.", "item": "Item", "question": "Will it suit?", "answer": "Answer:"},
    )
    told = Told("red lamp; blue cup", "white book", "hour: 12 o'clock")
    assert AnswerJudge(opened, teller, config).prompt(told, 0).split("\n") == [
        "Task.",
        "liked: red lamp; blue cup",
        "not liked: white book",
        "hour: 12 o'clock",
        "Item: red lamp",
        "Will it suit?",
        "Answer:",
    ]
    assert TitleJudge(opened, teller, config).prompt(Told("", "", "")) == "Task.\nItem:"


def taught(opened, prompts, answers, n_steps=60):
    """Teach a decoder to end each prompt with its answer."""
    torch.manual_seed(0)
    ids = opened.tokenizer(prompts, add_special_tokens=False)["input_ids"]
    lengths = torch.tensor([len(some) for some in ids])
    padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
    for row, some in enumerate(ids):
        padded[row, : len(some)] = torch.tensor(some)
    steps = torch.optim.Adam(opened.causal.parameters(), lr=3e-3)
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
    opened.causal.train()
    for _ in range(n_steps):
        logits = opened.causal(input_ids=padded, attention_mask=mask).logits
        last = logits[torch.arange(len(ids)), lengths - 1]
        loss = torch.nn.functional.cross_entropy(last, torch.tensor(answers))
        steps.zero_grad()
        loss.backward()
        steps.step()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_that_says_yes_to_a_word_is_heard(folders, kind):
    opened, _, rows, teller, config = parts_of(
        folders / kind,
        wording={"history_items": 1},
        prompt={"description": "item"},
        holding={"most_train": 64},
    )
    judge = AnswerJudge(opened, teller, config)
    train, test = rows.labelled.train, rows.labelled.test
    yes, no = opened.tokenizer.convert_tokens_to_ids(["yes", "no"])
    told = teller.told(train)
    prompts = [judge.prompt(one, item) for one, item in zip(told, train.item_index.tolist(), strict=True)]
    taught(opened, prompts, [yes if label else no for label in train.labels[:, 0]])
    chances = UntrainedModel(judge, rows.tasks).predict(test)[:, 0]
    is_yes = test.labels[:, 0] > 0
    assert chances[is_yes].min() > 0.8
    assert chances[~is_yes].max() < 0.2


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_reading_in_batches_says_what_reading_one_by_one_says(folders, kind):
    opened, _, rows, teller, config = parts_of(folders / kind, training={"tokens_per_batch": 256})
    examples, tokenizer = rows.labelled.test, opened.tokenizer
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    told = teller.told(examples)

    def logs(text):
        ids = [*start, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.inference_mode():
            return ids, opened.causal(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)

    answers = AnswerJudge(opened, teller, config)
    titles = TitleJudge(opened, teller, config)
    found = [judge.scores(examples, Silent()) for judge in (answers, titles)]
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    for row, (one, item) in enumerate(zip(told, examples.item_index.tolist(), strict=True)):
        _, at_end = logs(answers.prompt(one, item))
        chances = at_end[-1].exp()
        assert found[0][row] == pytest.approx(float(chances[yes] / (chances[yes] + chances[no])), abs=1e-5)
        means = []
        for known in (one, Told("", "", "")):
            n_before = len(logs(titles.prompt(known))[0])
            ids, at = logs(f"{titles.prompt(known)} {teller.names[item]}")
            means.append(np.mean([float(at[n - 1, ids[n]]) for n in range(n_before, len(ids))]))
        assert found[1][row] == pytest.approx(1 / (1 + np.exp(means[1] - means[0])), abs=1e-5)


def test_what_fits_the_model_is_asked(folders):
    opened, dataset, rows, _, _ = parts_of(folders / "llama")
    background = Background.of(dataset)
    kinds = {"answer": AnswerJudge, "title": TitleJudge}
    for by, kind in kinds.items():
        config = FinetuningConfig.parse({"prompt": {"by": by}}, where="test")
        assert isinstance(untrained_model(opened, background, config, rows.tasks).judge, kind)
    opened = open_model(locate_model(folders / "bert"))
    model = untrained_model(opened, background, FinetuningConfig(), rows.tasks)
    examples = rows.labelled.test
    alone = model.predict(examples)
    assert alone.shape == (len(examples), 1)
    items = np.stack([examples.item_index, examples.item_index[::-1]], axis=1)
    np.testing.assert_allclose(model.among(examples, items)[:, 0], alone, atol=1e-5)


def test_two_answers_that_begin_alike_are_refused(folders):
    opened, _, _, teller, config = parts_of(folders / "llama", prompt={"yes": " yes red", "no": " yes blue"})
    with pytest.raises(ConfigError, match="same token"):
        AnswerJudge(opened, teller, config)


def test_a_history_that_does_not_fit_loses_its_oldest_names(folders):
    _, _, rows, teller, _ = parts_of(folders / "bert", wording={"max_tokens": 16, "item_tokens": 10})
    told = teller.told(rows.labelled.test)
    newest = rows.labelled.test.histories(10)
    for row, one in enumerate(told):
        # Items cost two tokens, so 14 tokens hold four names with what stands between.
        last = newest.item_index[newest.offsets[row + 1] - 1]
        assert len([name for name in f"{one.liked}; {one.disliked}".split("; ") if name]) == 4
        assert teller.names[last] in (one.liked.split("; ")[0], one.disliked.split("; ")[0])


class Fixed:
    """Scores that stand beside the items."""

    def __init__(self, score_of_item):
        self.score_of_item = score_of_item

    def scores(self, examples, progress):
        return self.score_of_item[examples.item_index]


def test_labels_put_scores_on_the_scale_of_chances(folders):
    _, dataset, rows, _, _ = parts_of(folders / "bert")
    colour = np.arange(dataset.n_items) // 8
    telling = UntrainedModel(Fixed(np.where(colour < 2, 0.6, 0.4).astype(np.float32)), rows.tasks)
    chances = scaled_model(telling, rows.labelled.train).predict(rows.labelled.test)[:, 0]
    is_yes = rows.labelled.test.labels[:, 0] > 0
    n = len(rows.labelled.train)
    assert chances[is_yes].min() > 1 - 8 / n
    assert chances[~is_yes].max() < 8 / n
    lying = UntrainedModel(Fixed(np.where(colour < 2, 0.4, 0.6).astype(np.float32)), rows.tasks)
    scaled = scaled_model(lying, rows.labelled.train).predict(rows.labelled.test)[:, 0]
    assert scaled[~is_yes].min() > scaled[is_yes].max()  # The order is kept …
    np.testing.assert_allclose(scaled, rows.labelled.train.labels.mean(), atol=0.05)  # … and says nothing.


def test_labels_put_scores_on_the_scale_of_ratings(folders):
    _, dataset, rows, _, _ = parts_of(
        folders / "bert", rule="rating", tasks={"stars": {"kind": "rating"}, "best": {"kind": "next"}}
    )
    colour = np.arange(dataset.n_items) // 8
    score = (1 / (1 + np.exp(-(colour - 1.5)))).astype(np.float32)
    model = UntrainedModel(Fixed(score), rows.tasks)
    test = rows.labelled.test
    found = scaled_model(model, rows.labelled.train).predict(test)
    np.testing.assert_allclose(found[:, 0], 1 + colour[test.item_index], atol=0.15)
    np.testing.assert_array_equal(found[:, 1], score[test.item_index])


def test_scaling_needs_a_label(folders):
    _, dataset, rows, _, _ = parts_of(folders / "bert")
    model = UntrainedModel(Fixed(np.full(dataset.n_items, 0.5, dtype=np.float32)), rows.tasks)
    train = rows.labelled.train
    train.labels[:] = np.nan
    with pytest.raises(DataError, match="not one label"):
        scaled_model(model, train)
