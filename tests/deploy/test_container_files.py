"""Container, compose and Kubernetes files fit together and fit the program."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from zhiyin.cli.main import app
from zhiyin.serving import probes
from zhiyin.serving.settings import ServingSettings, environment_names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
PORT = ServingSettings().port
OTHER_VARIABLES = {"ZHIYIN_STORE", "ZHIYIN_CACHE"}
"""Variables that are read beside the settings of the service."""
KINDS = {
    *("Namespace", "ConfigMap", "Secret", "Deployment", "Service", "PodDisruptionBudget"),
    *("HorizontalPodAutoscaler", "NetworkPolicy", "PodMonitor"),
}
IMAGE = re.compile(r"[a-z0-9./-]+:[\w.-]+")


def documents() -> Iterator[dict[str, Any]]:
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            if "kind" in document:
                yield document


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] == kind]


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8")))


def containerfile() -> str:
    return (DEPLOY / "Containerfile").read_text("utf-8")


def pods() -> list[dict[str, Any]]:
    return [deployment["spec"]["template"] for deployment in of_kind("Deployment")]


def check_command(arguments: list[str]) -> None:
    """Let the real parser read a command without running it."""
    group: Any = get_command(app)
    name, *rest = arguments
    assert name in group.commands, f"there is no command zhiyin {name}"
    group.commands[name].make_context(name, rest)


def routes() -> set[str]:
    return {route.path for route in probes.router.routes}


def variables() -> Iterator[str]:
    yield from re.findall(r"ZHIYIN_[A-Z_]+", containerfile())
    for service in compose()["services"].values():
        yield from (name for name in service.get("environment", {}) if name.startswith("ZHIYIN_"))
    for kind, table in (("ConfigMap", "data"), ("Secret", "stringData")):
        for document in of_kind(kind):
            yield from (name for name in document[table] if name.startswith("ZHIYIN_"))


def test_every_variable_is_a_setting() -> None:
    unknown = set(variables()) - set(environment_names()) - OTHER_VARIABLES
    assert unknown == set()


def test_every_command_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIYIN_STORE", "postgresql://postgres/zhiyin")
    (command,) = re.findall(r'^CMD \["(\w+)"\]$', containerfile(), re.MULTILINE)
    check_command([command])
    for service in compose()["services"].values():
        if str(service.get("image", "")).startswith("zhiyin:"):
            check_command(service["command"])
    for pod in pods():
        for container in pod["spec"]["containers"]:
            check_command(container["args"])


def test_the_container_is_small_and_not_root() -> None:
    text = containerfile()
    assert text.count("FROM python:${PYTHON}-slim") == 2
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in text
    assert f"EXPOSE {PORT}" in text
    assert f"ZHIYIN_PORT={PORT}" in text
    health = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    assert health is not None
    assert health[1].startswith('["python", "-c", ')  # no shell
    assert "/healthz" in health[1]
    assert "/healthz" in routes()
    extras = re.search(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    assert extras is not None
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text("utf-8").split()
    for line in re.findall(r"^COPY (?!--from)(.*)$", containerfile(), re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name.removeprefix('./')}" in ignored


def test_the_health_check_is_python_that_runs() -> None:
    found = re.search(r'CMD \["python", "-c", "(.*)"\]$', containerfile(), re.MULTILINE)
    assert found is not None
    compile(found[1].replace('\\"', '"'), "healthcheck", "exec")
    how, program, option, line = compose()["services"]["zhiyin"]["healthcheck"]["test"]
    assert (how, program, option) == ("CMD", "python", "-c")
    compile(line, "healthcheck", "exec")
    assert f":{PORT}/healthz" in line


def test_compose_fits_together() -> None:
    project = compose()
    services = project["services"]
    assert set(project["volumes"]) == {"postgres", "redis", "prometheus", "grafana"}
    for name, service in services.items():
        assert IMAGE.fullmatch(service["image"]), name
        assert not service["image"].endswith(":latest")
        needed = service.get("depends_on", {})
        assert set(needed) <= set(services)
        if isinstance(needed, dict):
            for other, how in needed.items():
                assert how["condition"] != "service_healthy" or "healthcheck" in services[other]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), volume
            else:
                assert source.startswith("${") or source in project["volumes"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} would listen on every address"
    environment = services["zhiyin"]["environment"]
    assert environment["ZHIYIN_STORE"].endswith("@postgres:5432/zhiyin")
    assert "@redis:6379" in environment["ZHIYIN_REDIS"]
    # Without its mode some programs pass over the number.
    assert services["zhiyin"]["deploy"]["mode"] == "replicated"
    assert services["zhiyin"]["deploy"]["replicas"] == 3
    assert services["loop"]["depends_on"] == {"zhiyin": {"condition": "service_healthy"}}
    assert services["zhiyin"]["expose"] == [str(PORT)]
    assert services["loop"]["environment"] == environment
    assert "noeviction" in services["redis"]["command"]
    assert services["prometheus"]["profiles"] == services["grafana"]["profiles"] == ["watching"]


def test_secrets_come_from_outside() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "ZHIYIN_SECRET"):
        assert f"${{{name}:?" in text  # nothing starts without it
    (secret,) = of_kind("Secret")
    assert secret["stringData"]["ZHIYIN_SECRET"] == ""
    assert all("PASSWORD" in url for name, url in secret["stringData"].items() if name != "ZHIYIN_SECRET")


def test_the_balancer_and_prometheus_find_the_service() -> None:
    balancer = (DEPLOY / "caddy" / "Caddyfile").read_text("utf-8")
    assert f"dynamic a zhiyin {PORT}" in balancer
    assert "@inside path /metrics" in balancer
    assert balancer.count("{") == balancer.count("}")
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    assert job["dns_sd_configs"] == [{"names": ["zhiyin"], "type": "A", "port": PORT}]
    assert job["metrics_path"] in routes()
    assert Path(job["authorization"]["credentials_file"]).name in compose()["secrets"]


def test_every_document_is_of_a_known_kind_in_the_namespace() -> None:
    for document in documents():
        assert document["kind"] in KINDS
        assert document["apiVersion"]
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "zhiyin"


@pytest.mark.parametrize("deployment", of_kind("Deployment"), ids=lambda found: found["metadata"]["name"])
def test_a_deployment_is_restricted_and_knows_its_limits(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]
    wanted = deployment["spec"]["selector"]["matchLabels"].items()
    assert wanted <= pod["metadata"]["labels"].items()
    security = pod["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in containerfile()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
    (container,) = pod["spec"]["containers"]
    assert IMAGE.fullmatch(container["image"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    config, secret = container["envFrom"]
    assert config["configMapRef"]["name"] == of_kind("ConfigMap")[0]["metadata"]["name"]
    assert secret["secretRef"]["name"] == of_kind("Secret")[0]["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }


def test_probes_ask_routes_that_exist() -> None:
    (service,) = (
        pod for pod in pods() if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
    )
    (container,) = service["spec"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == PORT == int(of_kind("ConfigMap")[0]["data"]["ZHIYIN_PORT"])
    probed = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert set(probed) == {"startupProbe", "livenessProbe", "readinessProbe"}
    for probe in probed.values():
        assert probe["path"] in routes()
        assert probe["port"] == port["name"]
    assert probed["livenessProbe"]["path"] == "/healthz"  # a store that is gone is no reason to restart
    assert probed["readinessProbe"]["path"] == "/readyz"
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    stop = int(of_kind("ConfigMap")[0]["data"]["ZHIYIN_STOP_SECONDS"])
    assert service["spec"]["terminationGracePeriodSeconds"] > pause + stop


def test_everything_that_selects_finds_the_service() -> None:
    (labels,) = (
        pod["metadata"]["labels"].items()
        for pod in pods()
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
    )
    (service,) = of_kind("Service")
    assert service["spec"]["selector"].items() == labels
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        (found,) = of_kind(kind)
        assert found["spec"]["selector"]["matchLabels"].items() == labels
    (monitor,) = of_kind("PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["path"] in routes()
    (policy,) = of_kind("NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": PORT}]
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    names = {deployment["metadata"]["name"] for deployment in of_kind("Deployment")}
    assert scaler["spec"]["scaleTargetRef"]["name"] in names
    assert "replicas" not in of_kind("Deployment")[0]["spec"]  # the scaler's, not ours
    assert 2 <= scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]


def test_the_version_of_the_image_is_that_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.*)"$', project, re.MULTILINE)
    assert version is not None
    images = {container["image"] for pod in pods() for container in pod["spec"]["containers"]}
    images |= {s["image"] for s in compose()["services"].values() if s["image"].startswith("zhiyin")}
    assert images == {f"zhiyin:{version[1]}"}
