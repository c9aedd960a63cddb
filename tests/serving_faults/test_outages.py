"""What stands behind the service fails: the database, Redis, the disk, the clock."""

import time
from dataclasses import replace
from typing import Any

import pytest
from asking import ask
from faulted import Served
from faults_by_name import Workshop, make
from starving import fill_a_disk, small_disk


def test_a_killed_postgres(workshop: Workshop) -> None:
    outcome = make("postgres-killed", 1, workshop)
    assert outcome.is_clean, outcome
    assert outcome.numbers["refused"] > 0
    assert outcome.acknowledged > 50


def test_a_postgres_that_hangs(workshop: Workshop) -> None:
    outcome = make("postgres-hangs", 1, workshop)
    assert outcome.is_clean, outcome
    assert outcome.acknowledged == 46


def test_redis_killed_emptied_turned_back_and_hung(workshop: Workshop) -> None:
    outcome = make("redis", 4, workshop)
    assert outcome.is_clean, outcome
    assert outcome.rounds == 4


def test_without_redis_each_process_keeps_the_rate_limits_for_itself(
    workshop: Workshop, redis_server: Any
) -> None:
    url = workshop.sqlite
    shop = workshop.shop(url)
    limits = {"access.requests_per_second": 2.0, "access.burst_seconds": 2.0}
    service = Served(replace(workshop.orders(url), redis=redis_server.url, settings=limits))
    for change in (lambda: None, redis_server.kill, redis_server.start):
        change()
        time.sleep(2.1)  # The bucket of four is full again.
        answers = [
            ask(service.url, "POST", "/v1/recommend", {"user_id": "u1"}, key=shop.tenants[0].key).status
            for _ in range(12)
        ]
        assert set(answers) == {200, 429}
        assert 4 <= answers.count(200) <= 10
    service.kill()


def test_a_limit_on_the_size_of_files(workshop: Workshop) -> None:
    outcome = make("disk-full", 1, workshop)
    assert outcome.is_clean, outcome
    assert outcome.acknowledged > 50


def test_a_file_system_that_is_full_and_grows_under_the_service(workshop: Workshop) -> None:
    with small_disk(workshop.folder / "disk") as is_there:
        if not is_there:
            pytest.skip("only who may mount file systems can fill one")
        url = f"sqlite:///{workshop.folder}/disk/store.db"
        outcome = fill_a_disk(workshop.shop(url), workshop.orders(url), workshop.folder / "disk")
    assert outcome.is_clean, outcome
    assert outcome.numbers["refused"] > 3


def test_a_clock_that_is_set_back(workshop: Workshop) -> None:
    outcome = make("clock-back", 1, workshop)
    assert outcome.is_clean, outcome
