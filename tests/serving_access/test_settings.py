"""Settings from a file and from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhiyin.contracts import Config
from zhiyin.domain.errors import ConfigError
from zhiyin.serving.settings import ServingSettings, environment_names, load_settings

FILE = """
host = "0.0.0.0"
production = true
[access]
cors_origins = ["https://shop.example"]
requests_per_second = 50
[privacy]
pseudonymise = true
personal_fields = ["email"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text(FILE, "utf-8")
    return path


def test_given_before_environment_before_file_before_default(file: Path) -> None:
    environment = {
        "ZHIYIN_ACCESS_REQUESTS_PER_SECOND": "70",
        "ZHIYIN_PORT": "9000",
        "ZHIYIN_PRODUCTION": "false",
    }
    loaded = load_settings(file, environment, port=9001, host=None)
    assert (loaded.host, loaded.port, loaded.production) == ("0.0.0.0", 9001, False)
    assert loaded.access.requests_per_second == 70
    assert loaded.access.cors_origins == ("https://shop.example",)
    assert loaded.access.burst_seconds == 2.0
    assert load_settings(environment={}) == ServingSettings()


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("ZHIYIN_PRODUCTOIN", "ZHIYIN_PRODUCTION"),
        ("ZHIYIN_ACESS_REQUESTS_PER_SECOND", "ZHIYIN_ACCESS_REQUESTS_PER_SECOND"),
        ("ZHIYIN_ACCESS_NOTHING", "ZHIYIN_ACCESS_"),
        ("ZHIYIN_SECRETS", "ZHIYIN_SECRET"),
    ],
)
def test_a_misspelt_variable_is_refused(misspelt: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"{misspelt} is no setting.*{meant}"):
        load_settings(environment={misspelt: "5"})


def test_variables_that_a_cluster_or_another_command_sets_are_not_ours() -> None:
    at = "tcp://10.0.0.7:8000"
    others = {"ZHIYIN_SERVICE_HOST": "10.0.0.7", "ZHIYIN_SERVICE_PORT_HTTP": "80", "ZHIYIN_PORT": at}
    others |= {"ZHIYIN_PORT_8000_TCP": at, "ZHIYIN_PORT_8000_TCP_ADDR": "10.0.0.7"}
    others |= {"ZHIYIN_REDIS_PORT": at, "ZHIYIN_REDIS_SERVICE_HOST": "10.0.0.8", "ZHIYIN_POSTGRES_PORT": at}
    others |= {"ZHIYIN_DB_PORT": at, "ZHIYIN_ACCESS_SERVICE_HOST": "10.0.0.9", "ZHIYIN_ACCESS_PORT": at}
    others |= {"ZHIYIN_STORE": "sqlite:///a.db", "ZHIYIN_CACHE": "/cache", "ZHIYIN_DATA": "/data"}
    assert load_settings(environment=others) == ServingSettings()


def test_lists_by_commas_or_as_json() -> None:
    for text in ("a, b ,", '["a", "b"]'):
        assert load_settings(
            environment={"ZHIYIN_PRIVACY_PERSONAL_FIELDS": text}
        ).privacy.personal_fields == (
            "a",
            "b",
        )
    with pytest.raises(ConfigError, match="JSON list"):
        load_settings(environment={"ZHIYIN_PRIVACY_PERSONAL_FIELDS": "[a"})


def test_the_secret_is_never_shown(tmp_path: Path) -> None:
    loaded = load_settings(
        environment={"ZHIYIN_SECRET": "hunter2", "ZHIYIN_PRIVACY_PREVIOUS_SECRETS": "hunter1"}
    )
    assert "hunter" not in repr(loaded)
    assert "hunter" not in str(loaded.model_dump())
    assert loaded.privacy.secret is not None
    assert loaded.privacy.secret.get_secret_value() == "hunter2"
    assert [secret.get_secret_value() for secret in loaded.privacy.previous_secrets] == ["hunter1"]
    for wrong in ('previous_secrets = "hunter1"', 'secret = ["hunter2"]', "previous_secrets = [4711]"):
        (tmp_path / "s.toml").write_text(f"[privacy]\n{wrong}", "utf-8")
        with pytest.raises(ConfigError) as refused:
            load_settings(tmp_path / "s.toml", {})
        assert "hunter" not in str(refused.value)
        assert "4711" not in str(refused.value)


def test_misspelt_settings(file: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'ZHIYIN_ACCESS_CORS_ORIGINS'"):
        load_settings(environment={"ZHIYIN_ACCESS_CORS_ORIGIN": "x"})
    file.write_text("[access]\ncors_origin = []", "utf-8")
    with pytest.raises(ConfigError, match="Did you mean 'cors_origins'"):
        load_settings(file, {})
    file.write_text("[access", "utf-8")
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(file, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(file / "none", {})
    with pytest.raises(ConfigError, match=r"service\.port"):
        load_settings(environment={"ZHIYIN_PORT": "many"})


def test_what_kubernetes_sets_by_itself_is_no_setting() -> None:
    assert (
        load_settings(environment={"ZHIYIN_PORT": "tcp://10.0.0.1:8000", "ZHIYIN_SERVICE_HOST": "x"}).port
        == 8000
    )


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = environment_names()
    assert len(set(names.values())) == len(names)
    assert names["ZHIYIN_SECRET"] == "privacy.secret"
    assert names["ZHIYIN_ACCESS_BODY_SECONDS"] == "access.body_seconds"
    for table in (
        ServingSettings,
        *[type(value) for _, value in ServingSettings() if isinstance(value, Config)],
    ):
        assert len(table.model_fields) <= 12


@pytest.mark.parametrize("name", ["ZHIYIN_LEARNING_INTERVAL", "ZHIYIN_SHARING_WHAT", "ZHIYIN_ANSWERS_SPEED"])
def test_what_is_no_setting_of_a_table_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is no setting"):
        load_settings(environment={name: "5"})
