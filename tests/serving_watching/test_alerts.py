"""Rules, states and messages, with a clock of the test and a web server of this machine."""

import hashlib
import hmac
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.serving.alerts.rules import DEFAULT_RULES, AlertSettings, Rule, WebhookSettings, load_alerts
from zhiyin.serving.alerts.states import Alert, News, State
from zhiyin.serving.alerts.watch import AlertWatch
from zhiyin.serving.alerts.webhook import Webhook
from zhiyin.serving.metrics import Metrics


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ([(0, True), (29, True)], []),
        ([(0, True), (30, True), (31, True), (900, True)], [(30, News.FIRING)]),
        ([(0, True), (10, False), (20, True), (49, True), (50, True)], [(50, News.FIRING)]),
        ([(0, True), (10, None), (20, True), (40, True)], []),
        ([(0, True), (30, True), (40, False), (69, False)], [(30, News.FIRING)]),
        ([(0, True), (30, True), (40, False), (70, False)], [(30, News.FIRING), (70, News.RESOLVED)]),
        ([(0, True), (30, True), (40, False), (50, True), (80, False)], [(30, News.FIRING)]),
        ([(0, True), (30, True), (40, None), (500, None)], [(30, News.FIRING)]),
        ([(0, True), (30, True), (1_030, True), (1_031, True), (2_030, True)],
         [(30, News.FIRING), (1_030, News.STILL_FIRING), (2_030, News.STILL_FIRING)]),
    ],
)  # fmt: skip
def test_an_alert_tells_each_thing_once(course: list[Any], told: list[Any]) -> None:
    alert = Alert(for_seconds=30, repeat_seconds=1_000)
    news = [(now, alert.update(is_so, now)) for now, is_so in course]
    assert [(now, said) for now, said in news if said is not None] == told


def test_an_alert_knows_since_when() -> None:
    alert = Alert(for_seconds=0)
    assert alert.update(True, 5.0) is News.FIRING
    assert (alert.state, alert.since) == (State.FIRING, 5.0)


class World:
    """A service whose clock is turned by hand."""

    def __init__(self, *rules: Rule, repeat_seconds: float = 0) -> None:
        self.now = 1_000.0
        self.metrics = Metrics()
        self.told: list[dict[str, Any]] = []
        settings = AlertSettings(rules=rules, repeat_seconds=repeat_seconds)
        self.watch = AlertWatch(
            self.metrics,
            settings,
            clock=lambda: self.now,
            wall=lambda: self.now,
            tell=self.told.append,  # type: ignore[arg-type]
        )
        self.watch.look()

    def minute(self, *, events: int = 0, slow: int = 0, fast: int = 0) -> None:
        for _ in range(4):
            self.now += 15
            self.metrics.count_events("t", [("view", events // 4)])
            for _ in range(slow // 4):
                self.metrics.count_request("/v1/recommend", "POST", 200, 2.0)
            for _ in range(fast // 4):
                self.metrics.count_request("/v1/recommend", "POST", 200, 0.002)
            self.watch.look()


def test_a_slow_service_fires_and_is_resolved() -> None:
    rule = Rule(name="slow", signal="latency_p99_seconds", above=0.5, window_seconds=120, for_seconds=60)
    world = World(rule)
    for _ in range(5):
        world.minute(fast=100)
    assert world.told == []
    world.minute(slow=8, fast=100)
    world.minute(slow=8, fast=100)
    (fired,) = world.told
    assert (fired["alert"], fired["state"], fired["key"]) == ("slow", "firing", "zhiyin/slow")
    assert fired["value"] > 0.5
    assert fired["above"] == 0.5
    assert world.watch.firing() == ["slow"]
    assert world.metrics.registry.get_sample_value("zhiyin_alert_firing", {"alert": "slow"}) == 1
    for _ in range(5):
        world.minute(fast=100)
    assert [message["state"] for message in world.told] == ["firing", "resolved"]
    assert world.metrics.registry.get_sample_value("zhiyin_alert_firing", {"alert": "slow"}) == 0


def test_events_that_stop_are_unusual_and_a_quiet_minute_is_not() -> None:
    rule = Rule(name="quiet", signal="events_per_second", unusual="low", window_seconds=60, for_seconds=60)
    world = World(rule)
    for number in range(30):
        world.minute(events=400 + 40 * (number % 3))
    world.minute(events=400)
    assert world.told == []
    for _ in range(4):
        world.minute(events=0)
    (fired,) = world.told
    assert fired["state"] == "firing"
    assert fired["z"] < -5
    for _ in range(4):
        world.minute(events=440)
    assert world.told[-1]["state"] == "resolved"


def test_one_direction_of_the_unusual_is_enough() -> None:
    rules = [
        Rule(name=way, signal="events_per_second", unusual=way, window_seconds=60, for_seconds=0)
        for way in ("low", "high", "either")
    ]
    world = World(*rules)
    for _ in range(20):
        world.minute(events=400)
    world.minute(events=4_000)
    world.minute(events=4_000)
    assert sorted(world.watch.firing()) == ["either", "high"]


def test_a_rule_says_nothing_before_half_its_window_has_passed() -> None:
    rule = Rule(name="none", signal="events_per_second", below=1, window_seconds=600, for_seconds=0)
    world = World(rule)
    for _ in range(4):
        world.minute()
    assert world.told == []
    world.minute()
    assert world.told[0]["value"] == 0


def test_what_is_kept_of_the_past_is_bounded() -> None:
    world = World(Rule(name="a", signal="events_per_second", below=-1, window_seconds=120))
    for _ in range(30):
        world.minute()
    assert len(world.watch._past) <= 120 / 15 + 1


def test_a_rule_that_is_wrong_is_said_in_words(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    for text, said in (
        (
            '[[rules]]\nname = "a"\nsignal = "latency_p9_seconds"\nabove = 1',
            "Did you mean 'latency_p99_seconds'",
        ),
        ('[[rules]]\nname = "a"\nsignal = "error_rate"', "'above', 'below' or both"),
        ('[[rules]]\nname = "a"\nsignal = "error_rate"\nabove = 1\nunusual = "low"', "or it has 'unusual'"),
        ('[[rules]]\nname = "a"\nsignal = "error_rate"\nover = 1', "is not known"),
        ('[[rules]]\nname="a"\nsignal="error_rate"\nabove=1\n' * 2, "two rules are called 'a'"),
        ('[webhook]\nurl = "file:///etc/passwd"', "http:// or https://"),
        ("[[rules", "are not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_alerts(file, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_alerts(tmp_path / "none.toml", {})


def test_rules_come_from_a_file_and_the_address_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text(
        'every_seconds = 5\n[webhook]\nurl = "http://a/"\nattempts = 2\n'
        '[[rules]]\nname = "a"\nsignal = "error_rate"\nabove = 0.2\nwhere = {route = "/v1/search"}\n'
    )
    told = load_alerts(file, {"ZHIYIN_WEBHOOK_URL": "https://b/", "ZHIYIN_WEBHOOK_SECRET": "quiet"})
    assert (told.every_seconds, told.webhook.url, told.webhook.attempts) == (5, "https://b/", 2)
    assert told.rules is not None
    assert told.rules[0].where == {"route": "/v1/search"}
    assert "quiet" not in repr(told)
    assert load_alerts(None, {}).rules is None
    watched = AlertWatch(Metrics(), load_alerts(None, {}))
    watched.look()
    assert len(DEFAULT_RULES) == 11
    assert watched.firing() == []


def settings_for(listener: Any, **more: Any) -> WebhookSettings:
    return WebhookSettings(url=f"{listener.url}/alerts", timeout_seconds=2, **more)


class Outcomes(list[str]):
    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Semaphore(0)

    def add(self, outcome: str) -> None:
        self.append(outcome)
        self._more.release()

    def wait(self) -> None:
        assert self._more.acquire(timeout=5)


def test_a_message_is_signed_json(listener: Any) -> None:
    outcomes = Outcomes()
    webhook = Webhook(settings_for(listener, secret="s" * 32), count=outcomes.add)
    webhook.send({"alert": "slow", "value": 0.7})
    outcomes.wait()
    webhook.close()
    (heard,) = listener.heard
    assert outcomes == ["delivered"]
    assert heard.path == "/alerts"
    assert json.loads(heard.body) == {"alert": "slow", "value": 0.7}
    assert heard.headers["content-type"] == "application/json"
    timestamp = heard.headers["x-zhiyin-timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    expected = hmac.new(b"s" * 32, timestamp.encode() + b"." + heard.body, hashlib.sha256).hexdigest()
    assert heard.headers["x-zhiyin-signature"] == f"sha256={expected}"


def test_without_a_secret_nothing_is_signed(listener: Any) -> None:
    webhook = Webhook(settings_for(listener))
    webhook.send({})
    listener.wait()
    webhook.close()
    assert "x-zhiyin-signature" not in listener.heard[0].headers


@pytest.mark.parametrize(
    ("statuses", "pauses", "outcome"),
    [
        ([503, 500, 200], [1, 2], "delivered"),
        ([429, 200], [1], "delivered"),
        ([400], [], "failed"),
        ([404], [], "failed"),
        ([500] * 9, [1, 2, 4], "failed"),
    ],
)
def test_failures_are_tried_again_with_growing_pauses(
    listener: Any, statuses: list[int], pauses: list[float], outcome: str
) -> None:
    listener.statuses.extend(statuses)
    outcomes, waited = Outcomes(), []

    def pause(seconds: float) -> bool:
        waited.append(seconds)
        return False

    webhook = Webhook(settings_for(listener, attempts=4), count=outcomes.add, pause=pause)
    webhook.send({"a": 1})
    outcomes.wait()
    webhook.close()
    assert (outcomes, waited) == ([outcome], pauses)
    assert len({heard.headers["x-zhiyin-message"] for heard in listener.heard}) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(listener: Any, status: int) -> None:
    listener.statuses.append(status)
    listener.location = f"{listener.url}/elsewhere"
    outcomes = Outcomes()
    webhook = Webhook(settings_for(listener), count=outcomes.add)
    webhook.send({"a": 1})
    outcomes.wait()
    webhook.close()
    assert outcomes == ["failed"]
    assert [heard.path for heard in listener.heard] == ["/alerts"]


def test_nobody_waits_for_a_receiver_that_hangs(listener: Any) -> None:
    listener.hold.clear()
    outcomes = Outcomes()
    webhook = Webhook(settings_for(listener, capacity=3), count=outcomes.add)
    webhook.send({"n": 0})
    listener.wait()
    started = time.monotonic()
    for number in range(50):
        webhook.send({"n": number})
    assert time.monotonic() - started < 0.5
    assert outcomes.count("dropped") == 47
    listener.hold.set()
    listener.wait(3)
    webhook.close()
    assert outcomes.count("delivered") == 4


def test_nobody_there_is_a_failure_and_closing_does_not_wait() -> None:
    settings = WebhookSettings(url="http://127.0.0.1:9/none", backoff_seconds=60, timeout_seconds=1)
    outcomes = Outcomes()
    webhook = Webhook(settings, count=outcomes.add)
    webhook.send({})
    time.sleep(0.1)
    started = time.monotonic()
    webhook.close()
    assert time.monotonic() - started < 2
    outcomes.wait()
    assert outcomes == ["failed"]


def test_the_thread_looks_and_tells(listener: Any) -> None:
    metrics = Metrics()
    rule = Rule(name="idle", signal="events_per_second", below=1, window_seconds=0.02, for_seconds=0)
    settings = AlertSettings(
        every_seconds=0.02, rules=(rule,), webhook=WebhookSettings(url=listener.url), repeat_seconds=0
    )
    watch = AlertWatch(metrics, settings)
    watch.start()
    listener.wait()
    watch.close()
    told = json.loads(listener.heard[0].body)
    assert (told["alert"], told["state"], told["is_repeat"]) == ("idle", "firing", False)
    assert told["at"].endswith("Z")
    assert len(listener.heard) == 1
    value = metrics.registry.get_sample_value("zhiyin_webhook_messages_total", {"outcome": "delivered"})
    assert value == 1
