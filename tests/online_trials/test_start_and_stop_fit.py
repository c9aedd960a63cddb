"""An experiment that cannot be read back is refused, so it cannot hide the others."""

from pathlib import Path

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.online.trials.definition import parse_trial
from zhiyin.online.trials.running import start, started_trials
from zhiyin.stores.opening import open_database

ARMS = {"a": {"share": 0.5}, "b": {"share": 0.5, "diversity": 0.3}}


def test_a_stop_before_the_start_that_is_filled_in_is_refused(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    store = database.store()
    start(store, parse_trial({"name": "good", "arms": ARMS, "control": "a", "share_of_users": 0.5}), now=100)
    over = parse_trial({"name": "over", "arms": ARMS, "control": "a", "share_of_users": 0.5, "stop": 50})
    with pytest.raises(ConfigError, match="stops at 50, before it starts at 100"):
        start(store, over, now=100)
    assert [one.name for one in started_trials(store)] == ["good"]
    database.close()
