"""The skill that a search compares: what rows and users add to it sums up to what training stops by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from zhiyin.language.finetuning.fitting import finetune_and_validate
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
from zhiyin.language.finetuning.skill import skill_of, skill_of_rows
from zhiyin.language.finetuning.validating import can_validate
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.testing.tiny_models import save_bert
from zhiyin.testing.word_shop import WORDS, word_shop

KINDS = (
    TaskConfig(kind="yes_no"),
    TaskConfig(kind="rating"),
    TaskConfig(kind="rating", error="absolute"),
    TaskConfig(kind="pairwise"),
)


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_rows_add_up_to_the_skill(task, seed, n):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2 if task.kind == "yes_no" else 6, n).astype(np.float32)
    predicted, user = random.random(n).astype(np.float32), random.integers(0, 5, n).astype(np.int32)
    of_rows = skill_of_rows(task, predicted, labels, user)
    assert of_rows.mean() == pytest.approx(skill_of(task, predicted, labels, user), nan_ok=True)


def test_a_row_adds_what_its_own_prediction_gains():
    labels = np.array([1, 1, 5, 5], dtype=np.float32)
    predicted = np.array([3, 1, 3, 3], dtype=np.float32)  # only the second knows more than the mean
    of_rows = skill_of_rows(TaskConfig(kind="rating"), predicted, labels, np.zeros(4, np.int32))
    np.testing.assert_allclose(of_rows, [0, 1, 0, 0], atol=1e-12)


def test_users_add_up_to_what_training_stopped_by(tmp_path):
    save_bert(WORDS, tmp_path, hidden_size=16, num_hidden_layers=1)
    dataset = word_shop("word", n_users=12, n_events=10)
    tasks = {"click": {"kind": "yes_no"}, "next": {"kind": "next"}}
    settings = {"tasks": tasks, "training": {"max_epochs": 1}, "holding": {"validation": 0.3}}
    config = FinetuningConfig.parse(settings, where="finetune")
    rows = rows_of(dataset, config)
    assert can_validate(rows)
    validation, facts = finetune_and_validate(
        locate_model(tmp_path), Background.of(dataset), rows, config.with_usual_rate()
    )
    of_users = validation.skill_of_users()
    assert len(of_users) == 12
    assert of_users.mean() == pytest.approx(facts["best_validation"], abs=1e-9)
    assert len(np.unique(of_users)) > 6
