"""Comparing runs: a planted difference is found, none is found where there is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.contracts import Silent
from zhiyin.data.reading import read_dataset
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import simulate_shop
from zhiyin.domain.errors import BundleError, RequestError
from zhiyin.evaluation.comparison import holm
from zhiyin.evaluation.evaluation import RunRecord
from zhiyin.evaluation.per_user import PerUser
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.comparing import Run, compare_runs, per_user_facts, read_run
from zhiyin.experiments.contest import Contest, judged_run, judged_runs, trained_with_seeds
from zhiyin.experiments.splitting import split_by
from zhiyin.experiments.training import fit_pipeline, judge, train
from zhiyin.pipeline.recipes import recipe

JUDGING = EvaluationSettings(at=(10,))


def run_of(name, values, digest="same", users=None, lengths=None, metric="ndcg_at_10"):
    n = len(values)
    users = tuple(f"user-{row}" for row in range(n)) if users is None else users
    lengths = np.full(n, 7) if lengths is None else lengths
    return Run(name, PerUser(users, lengths, {metric: np.asarray(values, dtype=np.float32)}), digest)


def compared(*runs, **named):
    return compare_runs(runs, ["ndcg_at_10"], **named)


def users_of_skill(n, seed=0):
    """Users differ far more from each other than recommenders do: what pairing is for."""
    return np.random.default_rng(seed).uniform(0, 0.8, n)


def test_a_planted_difference_is_found():
    random, base = np.random.default_rng(1), users_of_skill(400)
    better = base + 0.02 + random.normal(0, 0.05, 400)
    (pair,) = compared(run_of("better", better), run_of("base", base)).pairs
    assert pair.difference.low < 0.02 < pair.difference.high
    assert pair.difference.is_certain
    assert pair.p_corrected == pair.difference.p_value < 0.001
    # Unpaired, the intervals of the two overlap widely.
    means = compared(run_of("better", better), run_of("base", base)).means
    assert means["better"]["ndcg_at_10"].low < means["base"]["ndcg_at_10"].high


def test_no_difference_is_found_between_a_run_and_itself():
    base = users_of_skill(200)
    (pair,) = compared(run_of("a", base), run_of("b", base)).pairs
    assert (pair.difference.value, pair.difference.low, pair.difference.high) == (0, 0, 0)
    assert pair.p_corrected == 1.0


def test_equal_recommenders_are_rarely_told_apart():
    n_found = 0
    for seed in range(100):
        random, base = np.random.default_rng(seed), users_of_skill(80, seed)
        noisy = [base + random.normal(0, 0.1, 80) for _ in range(2)]
        (pair,) = compared(run_of("a", noisy[0]), run_of("b", noisy[1]), n_resamples=300, seed=seed).pairs
        n_found += pair.p_corrected < 0.05
    assert n_found <= 12, "5 % of 100 are 5; more than 12 happen once in 700 times"


def test_among_many_equal_runs_chance_alone_is_not_believed():
    n_plain = n_corrected = 0
    for seed in range(30):
        random, base = np.random.default_rng(seed), users_of_skill(80, seed)
        runs = [run_of(f"run {r}", base + random.normal(0, 0.1, 80)) for r in range(4)]
        pairs = compared(*runs, n_resamples=300, seed=seed).pairs
        assert len(pairs) == 6
        n_plain += any(pair.difference.p_value < 0.05 for pair in pairs)
        n_corrected += any(pair.p_corrected < 0.05 for pair in pairs)
    assert n_plain >= 3 + n_corrected
    assert n_corrected <= 5, "5 % of 30 are 1.5"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([0.02]) == (0.02,)
    assert holm([]) == ()
    np.testing.assert_allclose(holm([float("nan"), 0.01, 0.02]), [np.nan, 0.02, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_makes_a_p_value_smaller_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(
        p <= c <= min(1.0, len(p_values) * p) + 1e-12 for p, c in zip(p_values, corrected, strict=True)
    )
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.asarray(corrected)[order]) >= 0).all()


def test_where_the_difference_lies():
    random, base = np.random.default_rng(3), users_of_skill(300)
    lengths = np.repeat([2, 12, 250], 100)
    better = base + random.normal(0, 0.03, 300) + 0.1 * (lengths == 12)
    runs = run_of("better", better, lengths=lengths), run_of("base", base, lengths=lengths)
    groups = {group.label: group for group in compared(*runs).by_length}
    assert list(groups) == ["1–2", "10–19", "200+"]
    assert [group.n_users for group in groups.values()] == [100, 100, 100]
    found = {label: group.pairs[0].p_corrected < 0.05 for label, group in groups.items()}
    assert found == {"1–2": False, "10–19": True, "200+": False}


def test_a_handful_of_users_is_no_group():
    lengths = np.repeat([2, 12], [9, 10])
    base = users_of_skill(19)
    groups = compared(run_of("a", base, lengths=lengths), run_of("b", base, lengths=lengths)).by_length
    assert [group.label for group in groups] == ["10–19"]


def test_runs_that_cannot_be_paired_are_refused():
    base = users_of_skill(20)
    others = tuple(f"user-{row}" for row in range(5, 25))
    with pytest.raises(RequestError, match="5 users are in the first only, 5 in the second only"):
        compared(run_of("a", base), run_of("b", base, "other", users=others))
    with pytest.raises(RequestError, match="the users are the same, their histories"):
        compared(run_of("a", base), run_of("b", base, "other"))
    with pytest.raises(RequestError, match="nothing to compare with"):
        compared(run_of("a", base))
    with pytest.raises(RequestError, match="same name"):
        compared(run_of("a", base), run_of("a", base))
    with pytest.raises(
        RequestError, match=r"'ndgc_at_10' was not measured by all runs\. Did you mean 'ndcg_at_10'"
    ):
        compare_runs([run_of("a", base), run_of("b", base)], ["ndgc_at_10"])
    with pytest.raises(RequestError, match="same --at"):
        compare_runs([run_of("a", base, metric="ndcg_at_5"), run_of("b", base)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    simulate_shop(ShopConfig(n_items=200, n_users=120, n_days=60)).write(folder)
    return read_dataset(folder)


def test_files_say_what_the_evaluations_say(dataset, tmp_path):
    split, runs, evaluations = split_by("leave-last-out", dataset), [], []
    for name in ("fast", "popular"):
        evaluation = judge(fit_pipeline(recipe(name), split), JUDGING)
        figures, values = tmp_path / f"{name}.json", tmp_path / f"{name}.parquet"
        PerUser.of(evaluation, split.test, split.train.users).write(values)
        record = evaluation.record(RunRecord(dataset.name, name))
        facts = per_user_facts(evaluation.queries_digest, values, figures)
        assert facts["per_user"] == f"{name}.parquet", "both can be moved together"
        figures.write_text(json.dumps(record | facts))
        runs.append(read_run(figures))
        evaluations.append(evaluation)
    result = compare_runs(runs)
    assert result.names == ("fast", "popular")
    assert result.metrics == ("ndcg_at_10", "recall_at_10", "mrr_at_10")
    assert result.n_users == len(split.test)
    for run, evaluation in zip(runs, evaluations, strict=True):
        mean = result.means[run.name]["recall_at_10"].value
        assert mean == pytest.approx(evaluation.mean("recall_at_10"))
        asked = split.test.queries.user_index
        assert run.per_user.users[3] == dataset.users.id(int(asked[3]))
        np.testing.assert_array_equal(run.per_user.history_length, evaluation.history_length)
    assert result.pairs[0].difference.low > 0
    json.dumps(result.record(), allow_nan=False)


def test_users_without_an_id_are_kept_in_a_file(tmp_path):
    run = run_of("a", [0.5, np.nan], users=(None, "b"))
    run.per_user.write(tmp_path / "a.parquet")
    read = PerUser.read(tmp_path / "a.parquet")
    assert read.users == (None, "b")
    np.testing.assert_array_equal(read.values["ndcg_at_10"], np.float32([0.5, np.nan]))


def test_figures_without_single_users_say_how_to_write_them(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(RequestError, match="--per-user FILE"):
        read_run(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({"per_user": "gone.parquet", "queries_digest": "x"}))
    with pytest.raises(RequestError, match="cannot be read"):
        read_run(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("no json")
    with pytest.raises(RequestError, match="cannot be read"):
        read_run(tmp_path / "a.json")


def test_recipes_and_bundles_on_the_same_users(dataset, tmp_path):
    train(dataset, recipe("popular"), tmp_path / "bundle")
    contest = Contest({"fast": recipe("fast")}, (tmp_path / "bundle",))
    result = compare_runs(judged_runs(dataset, contest, JUDGING, Silent()))
    assert result.names == ("bundle", "fast")
    assert result.pairs[0].difference.high < 0
    with pytest.raises(BundleError, match="under 'by-user'"):
        judged_runs(dataset, replace(contest, protocol="by-user"), JUDGING, Silent())
    with pytest.raises(RequestError, match="nothing to compare with"):
        judged_runs(dataset, Contest({"fast": recipe("fast")}), JUDGING, Silent())


def test_the_mean_over_seeds_is_compared(dataset):
    split = split_by("leave-last-out", dataset)
    config = recipe("fast", {"sources.item_neighbours.n_neighbours": "20", "merge.n_examples": "20"})
    run = judged_run("fast", trained_with_seeds("fast", config, split, (0, 1), Silent()), JUDGING, Silent())
    each = [judge(fit_pipeline(config, split, seed=seed), JUDGING) for seed in (0, 1)]
    values = [evaluation.values["ndcg_at_10"] for evaluation in each]
    assert (values[0] != values[1]).any(), "the seed decides which examples the weights are fitted on"
    np.testing.assert_allclose(run.per_user.values["ndcg_at_10"], np.mean(values, axis=0), rtol=1e-6)
    means = [evaluation.mean("ndcg_at_10") for evaluation in each]
    assert run.spread["ndcg_at_10"] == pytest.approx(np.std(means, ddof=1))
