"""The commands start, list, report and stop what the service will follow."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from zhiyin.cli.main import app
from zhiyin.contracts import TrainingData
from zhiyin.domain.errors import ConfigError, RequestError, StoreError
from zhiyin.online.trials.definition import KIND
from zhiyin.online.trials.trials import Trials
from zhiyin.online.versions import bundle_to_serve
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event, Impression
from zhiyin.testing.tea_shop import tea_shop

DEFINITION = {
    "name": "order",
    "control": "now",
    "arms": {"now": {"share": 0.5}, "new": {"share": 0.5, "diversity": 0.2}},
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty store."""
    made = f"sqlite:///{tmp_path / 'events.db'}"
    open_database(made).close()
    return made


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["experiments", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_from_start_to_stop(url: str, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(DEFINITION))
    assert "Started order with now 50 %, new 50 %." in run("start", str(file), "--store", url).stdout
    database = open_database(url)
    store = database.store("default")
    trials = Trials(store.documents(KIND))
    begin = trials.running()[0].start
    shown, done = [], []
    for n in range(600):
        user = f"u{n}"
        arm = trials.arm_for(user).arm
        shown.append(Impression(user, user, begin, "recommend", "b", ("x", "y"), (1.0, 1.0), "order", arm))
        if n % (2 if arm == "new" else 10) == 0:
            done.append(Event(user, user, "x", "view", begin))
    store.append_impressions(shown).result()
    store.append_events(done).result()
    database.close()
    page = tmp_path / "report.html"
    text = run("report", "order", "--store", url, "--html", str(page)).stdout
    assert "Ship 'new': ctr of 'new' is 0.5" in text
    assert "Ship &#x27;new&#x27;" in page.read_text("utf-8")
    read = json.loads(run("report", "order", "--store", url, "--json").stdout)
    assert read["decision"] == "ship"
    assert sum(arm["n_users"] for arm in read["arms"]) == 600
    assert "since" in run("list", "--store", url).stdout
    assert "Stopped order" in run("stop", "order", "--store", url).stdout
    assert "ended" in run("list", "--store", url).stdout
    database = open_database(url)
    deeds = [(deed.actor, deed.action, deed.subject, deed.outcome) for deed in database.access.audit()]
    database.close()
    changed = [("cli", "experiment.change", "order", outcome) for outcome in ("done", "begun")]
    assert deeds == 2 * changed, "started and stopped"
    with pytest.raises(RequestError, match="there is no folder"):
        run("report", "order", "--store", url, "--html", str(tmp_path / "nowhere" / "page.html"))


def test_it_is_listed_and_reported_while_a_service_has_the_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(DEFINITION))
    for command in (["list"], ["start", str(file)]):
        with pytest.raises(StoreError, match="There is no store"):
            run(*command, "--store", url.replace("events", "evnets"))
    run("start", str(file), "--store", url)
    service = open_database(url)
    assert "since" in run("list", "--store", url).stdout
    assert json.loads(run("report", "order", "--store", url, "--json").stdout)["decision"] == "go on"
    with pytest.raises(StoreError, match="another service is using it"):
        run("stop", "order", "--store", url)
    assert "since" in run("list", "--store", url).stdout
    service.close()


def test_what_has_not_begun_is_listed_with_its_start_and_removed_by_a_stop(url: str, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps({**DEFINITION, "start": int(time.time()) + 86_400}))
    run("start", str(file), "--store", url)
    assert "from 20" in run("list", "--store", url).stdout
    assert "Removed order, which had not begun." in run("stop", "order", "--store", url).stdout
    assert "There are no experiments." in run("list", "--store", url).stdout


def test_a_boost_that_cannot_be_understood_is_refused(url: str, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    arms = {
        "now": {"share": 0.5},
        "new": {"share": 0.5, "boost": [{"filter": {"price": {"belw": 3}}, "by": 1}]},
    }
    file.write_text(json.dumps({**DEFINITION, "arms": arms}))
    with pytest.raises(RequestError, match=r"arms\.new\.boost\[0\].*Did you mean 'below'"):
        run("start", str(file), "--store", url)
    assert "There are no experiments." in run("list", "--store", url).stdout


def test_a_boost_by_an_attribute_of_no_item_is_refused(url: str, tmp_path: Path) -> None:
    dataset, pipeline = tea_shop(), Pipeline(recipe("popular"))
    pipeline.fit(TrainingData(dataset, pipeline.language))
    database = open_database(url)
    bundle_to_serve(database.store(), save_bundle(pipeline, tmp_path / "tea"))
    database.store().put_item("jar", {"lid": "cork"}).result()
    database.close()
    file = tmp_path / "order.json"

    def boosted(**filter_: object) -> str:
        new = {"share": 0.5, "boost": [{"filter": filter_, "by": 1}]}
        file.write_text(json.dumps({**DEFINITION, "arms": {"now": {"share": 0.5}, "new": new}}))
        return run("start", str(file), "--store", url).stdout

    with pytest.raises(RequestError, match="Did you mean 'price'"):
        boosted(prize=3)
    with pytest.raises(RequestError, match="5 is not text"):
        boosted(lid=5)
    assert "Started order" in boosted(lid="cork")


def test_two_bundles_need_no_file(url: str) -> None:
    with pytest.raises(ConfigError, match="'abc' of an arm is not in the store"):
        run("start", "--name", "models", "--arm", "now", "--arm", "new=abc", "--store", url)
    run("start", "--name", "mix", "--arm", "now", "--arm", "b", "--kind", "interleaving", "--store", url)
    assert "interleaving" in run("list", "--store", url).stdout


def test_tenants_do_not_see_each_other(url: str) -> None:
    run("start", "--name", "one", "--arm", "a", "--arm", "b", "--store", url, "--tenant", "teas")
    assert "There are no experiments." in run("list", "--store", url).stdout
    assert "one" in run("list", "--store", url, "--tenant", "teas").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start"], "by a file or by --name"),
        (["start", "--name", "x", "--arm", "a"], "has 1 arms"),
        (["start", "nowhere.toml"], "cannot be read"),
        (["report", "x"], "no experiment 'x'"),
        (["stop", "x"], "no experiment 'x'"),
    ],
)
def test_what_cannot_be_done_is_said(url: str, arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(*arguments, "--store", url)


def test_a_misspelt_setting_of_an_arm_is_named(url: str, tmp_path: Path) -> None:
    file = tmp_path / "order.toml"
    file.write_text('name="e"\ncontrol="a"\n[arms.a]\nshare=0.5\n[arms.b]\nshare=0.5\ndiversty=0.3\n')
    with pytest.raises(ConfigError, match=r"(?s)arms\.b\.diversty.*An arm has the settings: share, bundle"):
        run("start", str(file), "--store", url)
