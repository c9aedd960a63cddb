"""PostgreSQL and Redis that die while three processes serve, and come back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import redis
from asking import Answered, ask, wait_until
from faulted import Orders, Served
from kills import Shop, finish, shoppers_of
from shoppers import Place
from verdict import Outcome, log_of

LONGEST_ANSWER_SECONDS = 3.0
"""What a client may wait for an answer while the database is dead; nobody asks it for longer."""
N_SERVICES = 3


def kill_postgres(server: Any, shop: Shop, orders: Orders, rounds: int, *, seed: int = 0) -> Outcome:
    """Kill the database under three services, look what they do without it, and start it again."""
    rng = random.Random(seed)
    outcome = Outcome()
    services = [Served(replace(orders, log=f"{orders.log}.{n}")) for n in range(N_SERVICES)]
    places = [Place() for _ in services]
    shoppers = shoppers_of(shop, N_SERVICES, places)
    for shopper in shoppers:
        shopper.start()
    for place, service in zip(places, services, strict=True):
        place.open(service.url)
    wait_until(lambda: all(shopper.notes.acknowledged for shopper in shoppers), 20)
    for _ in range(rounds):
        time.sleep(rng.uniform(0.1, 0.5))
        os.kill(server.get_pid(), signal.SIGKILL)
        time.sleep(rng.uniform(0.05, 0.5))
        for service in services:
            _look_during_outage(shop, service, outcome)
        restart_postgres(server)
        _look_after_outage(shop, services, outcome)
        outcome.rounds += 1
    finish(shop, outcome, shoppers, services)
    return outcome


def _look_during_outage(shop: Shop, service: Served, outcome: Outcome) -> None:
    for tenant in shop.tenants:
        slate = ask(service.url, "POST", "/v1/recommend", {"user_id": "shopper-0"}, key=tenant.key)
        if slate.status != 200 or slate.body["degraded"] != "stale" or not slate.body["items"]:
            outcome.wrong.append(f"a slate without the database: {slate}")
        elif slate.body["bundle"] not in tenant.versions:
            outcome.wrong.append(f"another tenant's bundle answered: {slate.body['bundle']}")
        event = {"user_id": "nobody", "item_id": "i1", "event_id": "never"}
        refused = ask(service.url, "POST", "/v1/events", event, key=tenant.key)
        if refused.status != 503 or refused.retry_after is None:
            outcome.wrong.append(f"a write without the database: {refused}")
        ready = ask(service.url, "GET", "/readyz")
        if ready.status != 503:
            outcome.wrong.append(f"ready without the database: {ready}")
        slowest = max(slate.seconds, refused.seconds, ready.seconds)
        outcome.at_most("slowest_in_outage", slowest)
        if slowest > LONGEST_ANSWER_SECONDS:
            outcome.wrong.append(f"{slowest:.1f} s for an answer without the database")


def _look_after_outage(shop: Shop, services: Sequence[Served], outcome: Outcome) -> None:
    def is_well(service: Served) -> bool:
        tenant = shop.tenants[0]
        slate = ask(service.url, "POST", "/v1/recommend", {"user_id": "shopper-0"}, key=tenant.key)
        is_level = slate.status == 200 and slate.body.get("degraded") is None
        return is_level and ask(service.url, "GET", "/readyz").status == 200

    for service in services:
        seconds = wait_until(lambda: is_well(service), 15)  # noqa: B023
        if seconds is None:
            outcome.wrong.append("a service does not recover within 15 s")
        else:
            outcome.at_most("slowest_recovery", seconds)


def restart_postgres(server: Any) -> None:
    """Start a server again that was killed."""
    for _ in range(100):
        try:
            # Where nobody buries dead processes, a killed server seems to run.
            for left in (*server.pgdata.glob("postmaster.pid"), *server.pgdata.glob(".s.PGSQL.*.lock")):
                left.unlink(missing_ok=True)
            with server._lock:
                server.ensure_postgres_running()
            return
        except Exception:
            time.sleep(0.1)  # What is left of the killed server still holds its memory.
    raise AssertionError("the server did not start again")


PATIENCE_SECONDS = 2.0
"""How long a service under test waits for a write; reading waits twice as long."""
STOP_SECONDS = 3


def little_patience() -> None:
    """Wait for the database as many seconds as the tests have, not as many as real life does."""
    from zhiyin.stores.database import SqlDatabase
    from zhiyin.stores.postgres import PostgresBackend

    _patience_of(SqlDatabase)["answer_seconds"] = PATIENCE_SECONDS
    _patience_of(PostgresBackend)["answer_seconds"] = 2 * PATIENCE_SECONDS


def _patience_of(kind: Any) -> dict[str, Any]:
    given: dict[str, Any] = kind.__init__.__kwdefaults__
    return given


def hang_postgres(server: Any, hanging: Any, shop: Shop, orders: Orders) -> Outcome:
    """Let the database hang under a service, go on, and hang again while the service stops."""
    outcome, tenant = Outcome(rounds=1), shop.tenants[0]
    settings = {"stop_seconds": STOP_SECONDS}
    service = Served(replace(orders, prepare=little_patience, settings=settings))

    def send(number: int) -> Answered:
        event = {"user_id": f"shopper-{number}", "item_id": "i1", "event_id": f"event-{number}"}
        return ask(service.url, "POST", "/v1/events", event, key=tenant.key)

    def refused(answers: Sequence[Answered], longest: float) -> None:
        for answer in answers:
            outcome.at_most("slowest_in_outage", answer.seconds)
            if answer.status != 503 or answer.retry_after is None or answer.seconds > longest:
                outcome.wrong.append(f"a write while the database hangs: {answer}")

    outcome.acknowledged += sum(send(number).status == 202 for number in range(3))
    with ThreadPoolExecutor(60) as pool:
        with hanging(server):
            answers = [pool.submit(send, number) for number in range(10, 50)]
            slate = ask(service.url, "POST", "/v1/recommend", {"user_id": "shopper-0"}, key=tenant.key)
            if slate.status != 200 or not slate.body["items"] or slate.seconds > LONGEST_ANSWER_SECONDS:
                outcome.wrong.append(f"a slate while the database hangs: {slate}")
            refused([answer.result() for answer in answers], PATIENCE_SECONDS + 1)
            # What follows need not wait to learn it, or waits for a new connection.
            refused([send(number) for number in range(50, 53)], PATIENCE_SECONDS + 1)
            if ask(service.url, "GET", "/readyz").status != 503:
                outcome.wrong.append("ready while the database hangs")
        if wait_until(lambda: all(send(number).status == 202 for number in range(10, 53)), 20) is None:
            outcome.wrong.append("a service does not recover within 20 s")
        outcome.acknowledged += 43
        with hanging(server):
            last = pool.submit(send, 60)
            time.sleep(0.3)
            began = time.monotonic()
            code = service.stop(STOP_SECONDS + 8)
            outcome.at_most("slowest_stop", time.monotonic() - began)
            refused([last.result()], STOP_SECONDS + 1)
            if code != 0:
                outcome.wrong.append(f"the exit code is {code}: {service.log_text()[-500:]}")
    stored = [
        event
        for user, events in log_of(shop.store_url)[tenant.name].items()
        for event in events
        if user != "shopper-60"  # who was told to send again
    ]
    if len(stored) != outcome.acknowledged:
        outcome.wrong.append(f"{len(stored)} events are stored")
    return outcome


class Chaos(threading.Thread):
    """Kills Redis, empties it, stops it for a while, starts it from an old dump, again and again.

    Args:
        server: The Redis.
        rounds: Faults to make.
        seed: Of kinds and moments.
    """

    def __init__(self, server: Any, rounds: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.server, self.rounds, self.done = server, rounds, 0
        self._rng = random.Random(seed)
        self._dump = server.dump.with_name("old.rdb")

    def run(self) -> None:
        """Make the faults."""
        kinds = [self._empty, self._kill, self._old_dump, self._hang]
        for number in range(self.rounds):
            with redis.Redis.from_url(self.server.url) as client:
                client.save()
            shutil.copy(self.server.dump, self._dump)
            time.sleep(self._rng.uniform(0.2, 0.8))
            kinds[number % len(kinds)]()
            self.done += 1
            time.sleep(self._rng.uniform(0.5, 1.5))

    def _empty(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()

    def _kill(self) -> None:
        self.server.kill()
        self.server.dump.unlink(missing_ok=True)
        time.sleep(self._rng.uniform(0.0, 1.5))
        self.server.start()

    def _old_dump(self) -> None:
        self.server.kill()
        shutil.copy(self._dump, self.server.dump)
        time.sleep(self._rng.uniform(0.0, 1.5))
        self.server.start()

    def _hang(self) -> None:
        process = self.server._running
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._rng.uniform(0.3, 1.0))
        process.send_signal(signal.SIGCONT)


def trouble_redis(server: Any, shop: Shop, orders: Orders, rounds: int, *, seed: int = 0) -> Outcome:
    """Trouble Redis while events go to one process and the next answer is asked of another one.

    Every event is the first one of its user, so an answer that knows the user reflects it.
    """
    rng = random.Random(seed)
    outcome = Outcome()
    services = [Served(replace(orders, log=f"{orders.log}.{n}", redis=server.url)) for n in range(N_SERVICES)]
    chaos = Chaos(server, rounds, seed)
    chaos.start()
    number = 0
    while chaos.is_alive():
        tenant = shop.tenants[number % len(shop.tenants)]
        here, there = rng.sample(services, 2)
        user_id = f"user-{number}"
        event = {"user_id": user_id, "item_id": f"i{number % 30}", "event_id": f"event-{number}"}
        sent = ask(here.url, "POST", "/v1/events", event, key=tenant.key)
        slate = ask(there.url, "POST", "/v1/recommend", {"user_id": user_id}, key=tenant.key)
        outcome.slowest_seconds = max(outcome.slowest_seconds, sent.seconds, slate.seconds)
        if sent.status != 202 or slate.status != 200:
            outcome.wrong.append(f"while Redis was troubled: {sent} {slate}")
        elif not slate.body["known_user"]:
            outcome.unlike += 1
        outcome.acknowledged += sent.status == 202
        number += 1
    outcome.rounds = chaos.done
    for service in services:
        service.stop()
    return outcome
