"""Stages of a slate that fail or take too long."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.splits import Split
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.pipeline.stages import Stages


@dataclass
class Clock:
    """Says the time it is told, and moves on while a stage works."""

    now: float = 100.0
    told: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: float) -> str:
        self.now += seconds
        return "said"

    def observe(self, label: str, seconds: float) -> None:
        self.told.append((label, round(seconds, 3)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stages(clock: Clock) -> Stages:
    return Stages(is_tolerant=True, observe=clock.observe, budget_seconds=0.5, clock=clock)


def run(stages: Stages, clock: Clock, seconds: float, **how: object) -> str | None:
    return stages.run("graph", lambda: clock.taking(seconds), **how)  # type: ignore[arg-type]


def test_a_stage_that_is_slow_three_times_in_a_row_rests(stages: Stages, clock: Clock) -> None:
    assert [run(stages, clock, 0.6) for _ in range(5)] == ["said", "said", "said", None, None]
    assert clock.told == [("graph", 0.6)] * 3
    assert stages.failures == {"graph": 2}
    clock.now += 9.9
    assert run(stages, clock, 0.6) is None
    clock.now += 0.2
    assert run(stages, clock, 0.6) == "said", "it is tried once"
    assert run(stages, clock, 0.6) is None
    clock.now += 10.1
    quick_again = [run(stages, clock, seconds) for seconds in (0.1, 0.6, 0.6, 0.1, 0.6, 0.6)]
    assert quick_again == ["said"] * 6


def test_hiccups_are_forgiven(stages: Stages, clock: Clock) -> None:
    assert [run(stages, clock, seconds) for seconds in (0.6, 0.6, 0.4) * 4] == ["said"] * 12
    assert not stages.failures


def test_each_part_of_a_source_has_a_budget_and_what_is_needed_has_none(
    stages: Stages, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        run(stages, clock, 0.6, label="propose graph")
        assert run(stages, clock, 0.3, label="score graph") == "said"
        assert run(stages, clock, 0.9, label="propose popularity", is_needed=True) == "said"
    assert stages.failures == {"graph": 2}
    assert "propose graph took 600 ms" in caplog.text
    assert "popularity" not in caplog.text


def test_a_failure_is_seen_in_training_and_counted_while_serving(stages: Stages) -> None:
    assert stages.run("graph", lambda: 1 / 0) is None
    assert stages.failures == stages.tolerated == {"graph": 1}
    training = Stages()
    with pytest.raises(ZeroDivisionError):
        training.run("graph", lambda: 1 / 0)
    assert training.tolerated is None


def test_slates_are_made_without_what_is_slow(
    pipeline: Pipeline, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that takes ages is done without, and what all take fills the slate."""
    pipeline.stages = Stages(is_tolerant=True, budget_seconds=0.5, clock=clock)
    graph, popularity = (
        next(source for source in pipeline.sources if source.name == name)
        for name in ("item_graph", "popularity")
    )
    ask = graph.ask

    def slow(queries: object) -> object:
        clock.taking(0.7)
        return ask(queries)  # type: ignore[arg-type]

    monkeypatch.setattr(graph, "ask", slow)
    queries = pipeline.queries_for(["u1"])
    slates = [pipeline.recommend(queries, 3) for _ in range(4)]
    assert all(np.isfinite(slate.column("item_graph")).any() for slate in slates[:3])
    assert np.isnan(slates[3].column("item_graph")).all()
    shown = slates[3].item_index[0]
    assert len(set(shown.tolist())) == 3
    everybody = popularity.score(queries, shown[None])[0]
    assert (np.diff(everybody) <= 0).all()
    assert pipeline.stages.failures == {"item_graph": 1}


def test_one_pause_that_hits_batches_computed_together_counts_once(stages: Stages, clock: Clock) -> None:
    def paused(depth: int) -> str:
        if depth:
            assert stages.run("graph", lambda: paused(depth - 1)) == "said"
        return clock.taking(0.6)

    assert stages.run("graph", lambda: paused(4)) == "said"
    assert run(stages, clock, 0.1) == "said"
    assert not stages.failures


def test_where_nothing_fills_up_no_source_is_done_without(split: Split) -> None:
    config = PipelineConfig.parse({"sources": {"item_graph": {}}, "merge": {"fallback": []}}, where="shop")
    pipeline = Pipeline(config)
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    pipeline.remember(split.train)
    pipeline.stages = Stages(is_tolerant=True, budget_seconds=0.0)
    for _ in range(6):
        assert pipeline.recommend(pipeline.queries_for(["u1"]), 3).is_item.all()
    assert not pipeline.stages.failures
