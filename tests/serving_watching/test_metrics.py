"""What the metrics say after a known course of things."""

import threading
import time

from prometheus_client.parser import text_string_to_metric_families

from zhiyin.serving.label_values import MAX_TENANTS, Children, Tenants
from zhiyin.serving.metrics import MAX_KINDS, Metrics
from zhiyin.serving.tenant_state import ArmCounts, EngineReadings, TenantState


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_every_kind_of_count_stands_under_its_name() -> None:
    metrics = Metrics()
    metrics.count_request("/v1/recommend", "POST", 200, 0.0004)
    metrics.count_request("/v1/recommend", "POST", 503, 0.004)
    metrics.count_tenant("shop", 204)
    metrics.count_tenant("shop", 429)
    metrics.count_tenant("shop", 500)
    metrics.observe_stage("rank", 0.01)
    metrics.observe_batch(5)
    metrics.observe_freshness("shop", 0.02)
    metrics.count_events("shop", [("view", 3), ("purchase", 1)], n_duplicates=2)
    metrics.count_cache("masks", hit=True, n=4)
    metrics.count_cache("masks", hit=False)
    metrics.count_fallback("time")
    metrics.count_shed("queue")
    metrics.count_limited("shop")
    metrics.count_store_error("database")
    metrics.count_swap("shop", succeeded=False)
    metrics.set_drift("shop", "items", 1.5)
    metrics.set_alert("slow", firing=True)
    metrics.count_delivery("delivered")
    metrics.watch_queue("writer", lambda: 7, capacity=100)
    metrics.in_progress = 2
    expected = {
        ("zhiyin_requests_total", "route", "/v1/recommend", "method", "POST", "status", "503"): 1,
        ("zhiyin_request_seconds_count", "route", "/v1/recommend"): 2,
        ("zhiyin_request_seconds_bucket", "route", "/v1/recommend", "le", "0.0005"): 1,
        ("zhiyin_tenant_requests_total", "tenant", "shop", "outcome", "ok"): 1,
        ("zhiyin_tenant_requests_total", "tenant", "shop", "outcome", "refused"): 1,
        ("zhiyin_tenant_requests_total", "tenant", "shop", "outcome", "failed"): 1,
        ("zhiyin_stage_seconds_count", "stage", "rank"): 1,
        ("zhiyin_batch_size_bucket", "le", "4.0"): 0,
        ("zhiyin_batch_size_bucket", "le", "8.0"): 1,
        ("zhiyin_freshness_seconds_sum", "tenant", "shop"): 0.02,
        ("zhiyin_events_stored_total",): 4,
        ("zhiyin_events_duplicate_total",): 2,
        ("zhiyin_events_by_kind_total", "kind", "view"): 3,
        ("zhiyin_tenant_events_total", "tenant", "shop"): 4,
        ("zhiyin_cache_requests_total", "cache", "masks", "result", "hit"): 4,
        ("zhiyin_cache_requests_total", "cache", "masks", "result", "miss"): 1,
        ("zhiyin_fallbacks_total", "reason", "time"): 1,
        ("zhiyin_shed_total", "reason", "queue"): 1,
        ("zhiyin_rate_limited_total", "tenant", "shop"): 1,
        ("zhiyin_store_errors_total", "store", "database"): 1,
        ("zhiyin_bundle_swaps_total", "tenant", "shop", "outcome", "failed"): 1,
        ("zhiyin_drift_score", "tenant", "shop", "measure", "items"): 1.5,
        ("zhiyin_alert_firing", "alert", "slow"): 1,
        ("zhiyin_webhook_messages_total", "outcome", "delivered"): 1,
        ("zhiyin_queue_depth", "queue", "writer"): 7,
        ("zhiyin_queue_capacity", "queue", "writer"): 100,
        ("zhiyin_requests_in_progress",): 2,
    }
    found = samples(metrics)
    for (name, *labels), count in expected.items():
        key = (name, tuple(sorted(zip(labels[::2], labels[1::2], strict=True))))
        assert found[key] == count, key
    assert found["process_resident_memory_bytes", ()] > 1_000_000
    assert found["process_open_fds", ()] >= 3


def test_a_tenant_is_read_when_somebody_asks() -> None:
    metrics = Metrics()
    now = time.time()
    state = TenantState("v1", 30, 40, now - 60, 100, 115, 120, {"popularity": 2}, 3)
    metrics.watch_tenant("shop", lambda: state)
    assert value(metrics, "zhiyin_bundle_info", tenant="shop", version="v1") == 1
    assert 60 <= (value(metrics, "zhiyin_bundle_age_seconds", tenant="shop") or 0) < 90
    assert value(metrics, "zhiyin_bundle_position", tenant="shop") == 100
    assert value(metrics, "zhiyin_bundle_lag_positions", tenant="shop") == 20
    assert value(metrics, "zhiyin_log_lag_positions", tenant="shop") == 5
    assert value(metrics, "zhiyin_items", tenant="shop") == 30
    assert value(metrics, "zhiyin_users", tenant="shop") == 40
    assert value(metrics, "zhiyin_source_failures_total", source="popularity") == 2
    assert value(metrics, "zhiyin_impressions_dropped_total") == 3
    state = TenantState("v2", 31, 40)
    assert value(metrics, "zhiyin_items", tenant="shop") == 31
    assert value(metrics, "zhiyin_bundle_info", tenant="shop", version="v1") is None
    metrics.forget_tenant("shop")
    assert value(metrics, "zhiyin_items", tenant="shop") is None


def test_tenants_kinds_and_arms_make_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    for number in range(MAX_TENANTS + 25):
        metrics.watch_tenant(f"t{number}", lambda: TenantState("v", 10, 2))
        metrics.count_tenant(f"t{number}", 200)
    for number in range(MAX_KINDS + 25):
        metrics.count_events("t0", [(f"kind-{number}", 1)])
    arms = [ArmCounts("test", f"arm-{number}", 10, 2, 1) for number in range(EngineReadings.MAX_ARMS + 5)]
    metrics.engines.add_clicks(lambda: arms)
    of_tenants = {dict(labels)["tenant"] for (name, labels) in samples(metrics) if name == "zhiyin_items"}
    assert len(of_tenants) <= MAX_TENANTS + 1
    assert value(metrics, "zhiyin_items", tenant="other") == 250
    assert value(metrics, "zhiyin_tenant_requests_total", tenant="other", outcome="ok") == 25
    assert value(metrics, "zhiyin_events_by_kind_total", kind="other") == 25
    assert value(metrics, "zhiyin_slates_shown_total", experiment="other", arm="other") == 50
    assert value(metrics, "zhiyin_slates_clicked_total", experiment="test", arm="arm-0") == 2


def test_click_counts_of_several_tenants_are_added() -> None:
    metrics = Metrics()
    metrics.engines.add_clicks(lambda: [ArmCounts("", "", 10, 3, 1)])
    metrics.engines.add_clicks(lambda: [ArmCounts("", "", 5, 2, 0)])
    assert value(metrics, "zhiyin_slates_shown_total", experiment="", arm="") == 15
    assert value(metrics, "zhiyin_slates_clicked_total", experiment="", arm="") == 5
    assert value(metrics, "zhiyin_slates_converted_total", experiment="", arm="") == 1


def test_children_count_exactly_from_many_threads() -> None:
    metrics = Metrics()

    def count() -> None:
        for number in range(500):
            metrics.count_request(f"/{number % 7}", "GET", 200, 0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(metrics)
    assert sum(count for (name, _), count in found.items() if name == "zhiyin_requests_total") == 2000


def test_a_bounded_label_does_not_grow_once_it_is_full() -> None:
    tenants = Tenants(most=2)
    assert [tenants.label(name) for name in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]
    metrics = Metrics()
    children = Children(metrics._counter("made_up", "For this test.", "word"), most=1)
    children["a"].inc()
    for number in range(50):
        children[f"w{number}"].inc()
    assert len(children) == 1
    assert metrics.registry.get_sample_value("made_up_total", {"word": "other"}) == 50


def test_two_services_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.count_shed("queue")
    assert value(one, "zhiyin_shed_total", reason="queue") == 1
    assert value(other, "zhiyin_shed_total", reason="queue") is None
