"""A ranker on the user's road: trained, reported, printed, served."""

import json
import sys

import pytest
from fastapi.testclient import TestClient

from zhiyin.cli.main import main
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings

TASKS = [
    "ranker.tasks.click.column=clicked",
    "ranker.tasks.click.yes_from=1",
    "ranker.tasks.click.worth=1",
    'ranker.network.context=["rank", "device", "country", "brand"]',
    "ranker.network.dimension=8",
    "ranker.network.training.max_epochs=4",
]


def run(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["zhiyin", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def clicking(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "clicking"
    settings = [word for task in TASKS for word in ("--set", task)]
    assert run("train", shop, "--recipe", "fast", "--out", folder, *settings) == 0
    return folder


@pytest.fixture
def client(clicking, tmp_path):
    settings = ServingSettings(log_requests=False)
    app = create_app(load_bundle(clicking), f"sqlite:///{tmp_path}/store.db", settings)
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        yield client


def test_the_report_says_how_well_it_predicts(clicking):
    figures = json.loads((clicking / "metrics.json").read_text())["ranker"]
    assert [task["task"] for task in figures] == ["click"]
    auc = figures[0]["figures"]["roc_auc"]
    assert 0.4 < auc["low"] <= auc["value"] <= auc["high"] < 1
    page = (clicking / "report.html").read_text()
    assert "What the ranker predicts" in page
    assert "ranker.network.dimension" in page
    assert 'labels_of = "impressions"' in (clicking / "bundle.toml").read_text()


def test_evaluate_tells_it_too(shop, tmp_path, capsys):
    file = tmp_path / "figures.json"
    settings = [word for task in TASKS for word in ("--set", task)]
    assert run("evaluate", shop, "--recipe", "fast", "--json", file, *settings) == 0
    assert "ROC-AUC" in capsys.readouterr().out
    assert json.loads(file.read_text())["ranker"][0]["n_rows"] > 0


def test_predictions_are_printed(clicking, capsys):
    assert run("recommend", clicking, "--user", "nobody", "-n", 3) == 0
    assert capsys.readouterr().out.count("click 0.") == 3


def test_predictions_are_served(client):
    asked = {"history": [], "n": 5, "context": {"device": "phone", "rank": 3}}
    items = client.post("/v1/recommend", json=asked).json()["items"]
    assert all(0 < item["predictions"]["click"] < 1 for item in items)
    told = client.post("/v1/recommend", json=asked | {"explain": True}).json()["items"]
    assert [item["predictions"] for item in told] == [item["predictions"] for item in items]
    assert all("ranker" in item["sources"] for item in told)
    beside = client.post("/v1/similar", json={"item_id": items[0]["item_id"], "n": 2}).json()["items"]
    assert "predictions" not in beside[0]


def test_an_item_put_is_predicted_at_once(client):
    assert client.put("/v1/items/fresh", json={"title": "A fresh lamp", "brand": "none"}).is_success
    asked = {"history": [], "n": 1, "filter": {"title": "A fresh lamp"}}
    (fresh,) = client.post("/v1/recommend", json=asked).json()["items"]
    assert fresh["item_id"] == "fresh"
    assert 0 < fresh["predictions"]["click"] < 1
