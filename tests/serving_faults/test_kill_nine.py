"""A service that is killed has every event it acknowledged, once, and mixes up nobody's."""

import pytest
from faults_by_name import Workshop, make

ROUNDS = {"kill-sqlite": 4, "kill-postgres": 2, "kill-swapping": 3}


@pytest.mark.parametrize("fault", ROUNDS)
def test_killed_while_events_come_in(workshop: Workshop, fault: str) -> None:
    outcome = make(fault, ROUNDS[fault], workshop)
    assert outcome.is_clean, outcome
    assert outcome.rounds == ROUNDS[fault]
    assert outcome.acknowledged > 100
