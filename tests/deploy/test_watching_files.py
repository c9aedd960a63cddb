"""Alert rules, dashboard and adapter speak of metrics that exist, in queries that can be read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql import WrongQuery, check

from zhiyin.serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def known_series() -> dict[str, set[str]]:
    """Name of every series that the service exports → its labels."""
    metrics = Metrics()
    families = {family.name: family for family in metrics.registry.collect()}
    labels: dict[str, set[str]] = {}
    for family in families.values():
        labels[family.name] = set(getattr(family, "_labelnames", ()))
    for collector in metrics.registry._collector_to_names:
        if hasattr(collector, "_labelnames"):
            labels[collector._name] = set(collector._labelnames)
    return {
        family.name + ending: labels[family.name]
        for family in families.values()
        for ending in ENDINGS.get(family.type, ("",))
    }


SERIES = known_series()
PROMETHEUS = {"up": set[str]()}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return list(json.loads((DEPLOY / "grafana" / "zhiyin.json").read_text("utf-8"))["panels"])


def dashboard_queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_rule_can_be_read_and_says_what_to_do(rule: dict[str, Any]) -> None:
    check(rule["expr"], SERIES | PROMETHEUS)
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "remedy"}


def test_the_rules_watch_what_matters() -> None:
    used = set().union(*(check(rule["expr"], SERIES | PROMETHEUS) for rule in rules()))
    assert {
        *("up", "zhiyin_requests_total", "zhiyin_request_seconds_bucket", "zhiyin_freshness_seconds_bucket"),
        *("zhiyin_store_errors_total", "zhiyin_slates_clicked_total", "zhiyin_bundle_age_seconds"),
        *("zhiyin_queue_depth", "zhiyin_shed_total"),
    } <= used
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_every_panel_can_be_read() -> None:
    for title, query in dashboard_queries():
        assert check(query, SERIES), title
        assert 'job="$job"' in query, title


def test_the_dashboard_shows_every_metric() -> None:
    shown = set().union(*(check(query, SERIES) for _, query in dashboard_queries()))
    ours = {name for name in SERIES if name.startswith("zhiyin_")}
    families = {
        name.rsplit("_", 1)[0] if name.endswith(("_bucket", "_sum", "_count")) else name for name in ours
    }
    missing = {family for family in families if not any(name.startswith(family) for name in shown)}
    assert missing <= {"zhiyin_events_stored_total", "zhiyin_tenant_events_total", "zhiyin_queue_capacity"}


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_autoscaler_asks_for_the_metric_the_adapter_makes() -> None:
    folder = DEPLOY / "kubernetes"
    (rule,) = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text("utf-8"))["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    query = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.GroupBy>>", "pod")
    assert check(query.replace("<<.LabelMatchers>>", 'namespace="zhiyin"'), SERIES) == {series}
    scaler = yaml.safe_load((folder / "autoscaling.yaml").read_text("utf-8"))
    asked = [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"] if "pods" in metric]
    assert asked == [rule["name"]["as"]]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(rate(zhiyin_requests_total[5m])", "never closed"),
        ("sum(rate(zhiyin_requests_total[5m])))", "too many"),
        ("sum(rate(zhiyin_request_total[5m]))", "no metric is called"),
        ("summe(zhiyin_requests_total)", "no function"),
        ("sum(zhiyin_requests_total) by (rout)", "labels"),
        ('zhiyin_requests_total{staus="5"}', "labels"),
        ("zhiyin_requests_total[5 m]", "what is"),
        ("1 + 1", "no metric"),
    ],
)
def test_the_checker_finds_what_is_wrong(query: str, said: str) -> None:
    with pytest.raises(WrongQuery, match=said):
        check(query, SERIES)


def test_the_guide_names_every_metric_with_its_labels() -> None:
    page = (ROOT / "docs" / "guide" / "watching.md").read_text("utf-8")
    for line in metric_rows():
        assert line in page, "write the table again:  python tests/deploy/test_watching_files.py"


def metric_rows() -> list[str]:
    """The rows of the table of the guide."""
    families = sorted(Metrics().registry.collect(), key=lambda family: family.name)
    rows = []
    for family in families:
        if not family.name.startswith("zhiyin_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        series = name if family.type != "histogram" else f"{name}_bucket"
        labels = ", ".join(f"`{label}`" for label in sorted(SERIES[series]))
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return rows


def signal_rows() -> list[str]:
    from zhiyin.serving.alerts.signals import SIGNALS

    return [f"| `{signal.name}` | {signal.meaning} |" for signal in SIGNALS.values()]


def test_the_guide_names_every_signal() -> None:
    page = (ROOT / "docs" / "guide" / "watching.md").read_text("utf-8")
    for line in signal_rows():
        assert line in page


if __name__ == "__main__":
    print("\n".join(["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |", *metric_rows()]))
    print("\n".join(["", "| signal | meaning |", "| --- | --- |", *signal_rows()]))
