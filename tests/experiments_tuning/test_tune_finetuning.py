"""Tuning fine-tuning in a shop of words: a rate that learns is found, and no test row is looked at."""

import json
import re
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("optuna")

from zhiyin.contracts import AnyOf, Between, Silent
from zhiyin.domain.errors import ConfigError, DataError
from zhiyin.experiments.settings_file import read_finetuning, read_settings, written_finetuning
from zhiyin.experiments.tuning import finetuning_trials as trials
from zhiyin.experiments.tuning.final import judge_finally
from zhiyin.experiments.tuning.finetuning import FinetuningSubject
from zhiyin.experiments.tuning.search import Budget
from zhiyin.experiments.tuning.study import Pruned
from zhiyin.experiments.tuning.tune import Plan, tune
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import WORDS, word_shop

RATE = "training.learning_rate"
RATES = AnyOf(("0.01", "1e-07"))
GIVEN = {
    "method.name": "full",
    "wording.history_items": "1",
    "wording.max_tokens": "24",
    "holding.validation": "0.2",
    "holding.test": "0.3",
    "training.max_epochs": "3",
    "training.tokens_per_batch": "128",
    "training.devices": "cpu",
    "training.precision": "float32",
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    save_bert(WORDS, folder)
    return FinetuningSubject(str(folder), ("click",))


@pytest.fixture(scope="module")
def dataset():
    return word_shop("word", n_users=30)


def with_other_test_labels(dataset, config):
    """Turn the answer of every test row round."""
    test = rows_of(dataset, config).labelled.test
    value = dataset.histories.value.copy()
    places = dataset.histories.offsets[test.user_index] + test.n_known
    value[places] = 1 - value[places]
    other = replace(dataset, histories=replace(dataset.histories, value=value))
    assert (rows_of(other, config).labelled.test.labels != test.labels).all()
    return other


@pytest.fixture(scope="module")
def tuned(dataset, subject, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "out"
    plan = Plan(subject, {RATE: RATES}, GIVEN, Budget(5), command="zhiyin tune shop")
    return tune(dataset, plan, out), out, plan


def test_the_rate_that_learns_is_found(tuned, subject):
    result, out, _ = tuned
    values = {attempt.settings[RATE]: attempt.value for attempt in result.attempts}
    assert len(result.attempts) == 2, "every combination once"
    assert values["0.01"] > 0.5
    assert values["1e-07"] < 0.1
    assert result.best.settings == {RATE: "0.01"}
    assert result.gain.value == pytest.approx(result.best_value - result.unchanged, abs=1e-6)
    assert result.gain.is_certain
    read = read_finetuning(out / "best.toml")
    assert (read.base, read.tasks) == (subject.base, ("click",))
    assert read.settings[RATE] == 0.01
    assert read.settings["method.name"] == "full"
    told = json.loads((out / "tuning.json").read_text())
    assert (told["metric"], told["n_judging_users"]) == ("skill", 30)
    assert told["finetune"] == {"base": subject.base, "task": ["click"]}


def test_the_page_says_what_was_measured(tuned):
    result, out, _ = tuned
    page = (out / "report.html").read_text()
    assert "NDCG" not in page
    assert "recipe" not in page
    assert "best skill" in page
    assert f"--finetune --base {result.subject.base} --task click --set method.name=full" in page
    assert not re.findall(r"(?:src|href)=.https?:", page)


def test_other_test_labels_change_nothing(tuned, dataset, subject):
    result, _, plan = tuned
    config = subject._told(dataset, GIVEN)
    jury = subject.jury(with_other_test_labels(dataset, config), GIVEN, plan.seed)
    assert jury.digest == subject.jury(dataset, GIVEN, plan.seed).digest
    again = jury.judge({RATE: "0.01"}, Silent(), None)
    assert again.value == result.best.value
    assert again.per_user.mean() == pytest.approx(again.value, abs=1e-6)


class Stops(Silent):
    """Raises at an epoch, and remembers what it heard."""

    def __init__(self, epoch=0, error=None):
        self.epoch, self.error, self.heard = epoch, error, []

    def hear_quality(self, name, epoch, quality):
        self.heard.append((name, epoch, quality))
        if epoch == self.epoch:
            raise self.error


def test_every_epoch_is_heard_and_may_be_the_last(dataset, subject, tmp_path):
    jury, listener = subject.jury(dataset, GIVEN, 0), Stops(2, Pruned("hopeless"))
    with pytest.raises(Pruned, match="hopeless"):
        jury.judge({RATE: "0.01"}, listener, tmp_path)
    assert [(name, epoch) for name, epoch, _ in listener.heard] == [("finetune", 1), ("finetune", 2)]
    slow_starts = {
        epochs: subject.jury(dataset, GIVEN | {"training.max_epochs": str(epochs)}, 0).slow_start
        for epochs in (1, 2, 3, 6, 30)
    }
    assert slow_starts == {1: 1, 2: 0, 3: 1, 6: 2, 30: 3}


def test_what_a_kill_cut_off_goes_on_and_ends_the_same(tuned, dataset, tmp_path, monkeypatch):
    result, _, plan = tuned
    judged, calls = trials.judged, []

    def killed_in_the_second_trial(dataset, base, config, run):
        calls.append(config.training.learning_rate)
        listener = Stops(2, KeyboardInterrupt()) if len(calls) == 3 else Stops()
        done = judged(dataset, base, config, replace(run, progress=listener))
        calls[-1] = (calls[-1], [epoch for _, epoch, _ in listener.heard])
        return done

    monkeypatch.setattr(trials, "judged", killed_in_the_second_trial)
    with pytest.raises(KeyboardInterrupt):
        tune(dataset, plan, tmp_path / "out")
    again = tune(dataset, plan, tmp_path / "out")
    assert len(calls) == 4
    assert calls[2] == calls[3][0], "the same settings again"
    assert calls[3][1] == [3], "from the checkpoint on, not from the first epoch"
    assert [(one.settings, one.value) for one in again.attempts] == [
        (one.settings, one.value) for one in result.attempts
    ]
    assert not (tmp_path / "out" / ".checkpoints").exists()
    tune(dataset, plan, tmp_path / "out")
    assert len(calls) == 4


def test_test_rows_are_looked_at_once_and_in_pairs(tuned, dataset, monkeypatch):
    result, out, _ = tuned
    final = judge_finally(dataset, result, out, progress=Silent())
    assert final.is_new
    pairs = {pair["metric"]: pair for pair in final.record["pairs"]}
    assert set(pairs) == {"click/roc_auc", "click/log_loss", "click/calibration_error"}
    assert pairs["click/roc_auc"]["first"] > 0.9
    assert pairs["click/log_loss"]["high"] < 0, "certainly less loss than as it stood"
    told = final.record["figures"]["best"]["click"]
    assert told["figures"]["roc_auc"]["value"] == pairs["click/roc_auc"]["first"]
    monkeypatch.setattr(trials, "judged_on_test", None)
    again = judge_finally(dataset, result, out, progress=Silent())
    assert not again.is_new
    assert again.record["pairs"] == final.record["pairs"]


def test_what_is_tried_without_a_word_suits_the_method():
    lora = FinetuningSubject(tasks=("click",)).default_space({})
    assert set(lora) == {
        RATE,
        "method.rank",
        "wording.history_items",
        "restraint.agreement",
        "training.weight_decay",
    }
    full = FinetuningSubject(tasks=("click", "rating")).default_space({"method.name": "full"})
    assert "balance" in full
    assert "method.rank" not in full
    assert full[RATE].high == pytest.approx(lora[RATE].high / 10)
    assert RATE not in FinetuningSubject().default_space({RATE: "0.1"})
    with pytest.raises(ConfigError, match="Fine-tuning declares nothing to search"):
        FinetuningSubject().default_space(dict.fromkeys(FinetuningSubject().default_space({}), "1"))


@pytest.mark.parametrize("path", ["holding.test", "holding.column", "tasks.click.yes_from", "tasks.a.kind"])
def test_what_judges_is_not_searched(path):
    with pytest.raises(ConfigError, match=f"'{path}' cannot be searched"):
        FinetuningSubject().refuse_incomparable({path: Between(0.1, 0.2)})


@pytest.mark.parametrize("path", ["holding.most_train", "tasks.click.weight", "tasks.next.negatives", RATE])
def test_what_does_not_judge_is_searched(path):
    FinetuningSubject().refuse_incomparable({path: Between(0.1, 0.2)})


def test_rows_that_tell_nothing_apart_are_refused(subject, dataset):
    order = FinetuningSubject(subject.base, ("pairwise",))
    with pytest.raises(DataError, match="cannot tell settings apart"):
        order.jury(dataset, GIVEN | {"holding.validation": "0.05"}, 0)


def test_a_file_of_settings_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "best.toml"
    file.write_text(written_finetuning("a/b", ("click", "next"), {RATE: "0.002", "tasks.click.column": "x"}))
    read = read_finetuning(file)
    assert (read.base, read.tasks) == ("a/b", ("click", "next"))
    assert dict(read.settings) == {RATE: 0.002, "tasks.click.column": "x"}
    with pytest.raises(ConfigError, match="are those of fine-tuning, not of a recipe"):
        read_settings(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('recipe = "fast"', "they hold recipe"),
        ("", "they hold nothing"),
        ("[training]\nmax_epochs = 2", "they hold training"),
        ("[finetune]\ntask = [1]", "name no base or task"),
        ("[finetune]\ntask = 1", "name no base or task"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, said):
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_finetuning(tmp_path / "other.toml")
