"""docker-compose.yml refers only to what is there: services, networks, files, variables, settings, ports.

What its parts do when they run is in test_deploy_by_hand.py; its form is checked against the specification's schema.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_file import compose, mounts, ports, secret_path, variables
from gateway_process import ROOT

from proxy.configuration import load
from proxy.quantities import parse_duration
from proxy.supervisor import LEDGER_SECONDS, STOP_MARGIN

DOCUMENT = compose()
SERVICES = DOCUMENT["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
EVERY_SERVICE = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture
def settings(tmp_path: Path):
    """The settings that the gateway has in its container."""
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    environ = SERVICES["gateway"]["environment"]
    environ = {name: str(secret) if name.endswith("_FILE") else value for name, value in environ.items()}
    return load(ROOT / "config" / Path(environ["AION_PROXY_CONFIG"]).name, environ).settings


def test_the_example_of_the_variables_names_them_all_with_their_defaults():
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    named = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert named == variables()


def used_by(service: dict[str, Any], kind: str) -> list[str]:
    return [one.source for one in mounts(service) if one.is_volume] if kind == "volumes" else service.get(kind, [])


@pytest.mark.parametrize("kind", ["networks", "volumes", "secrets"])
def test_what_services_use_is_declared_and_what_is_declared_is_used(kind):
    used = {one for service in SERVICES.values() for one in used_by(service, kind)}
    assert used == set(DOCUMENT[kind])


@EVERY_SERVICE
def test_what_is_mounted_from_the_project_is_there_and_cannot_be_changed(name):
    for mount in mounts(SERVICES[name]):
        if not mount.is_volume:
            assert (ROOT / mount.source).is_dir(), "a single file would stay the old one when an editor replaces it"
            assert mount.read_only


@EVERY_SERVICE
def test_a_service_waits_only_for_services_that_can_say_that_they_are_well(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "test" in SERVICES[other]["healthcheck"]


@EVERY_SERVICE
def test_a_service_can_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@EVERY_SERVICE
def test_a_variable_that_names_a_secret_s_file_names_one_that_the_service_gets(name):
    service = SERVICES[name]
    named = {value for key, value in service.get("environment", {}).items() if key.endswith("_FILE")}
    assert named == {secret_path(secret) for secret in service.get("secrets", [])}


def test_only_the_api_can_be_opened_to_other_machines():
    opened = compose({"API_ADDRESS": "0.0.0.0"})["services"]
    wide = [
        (name, inside) for name, one in opened.items() for address, _, inside in ports(one) if address != "127.0.0.1"
    ]
    assert wide == [("gateway", 8080)]


def test_the_gateway_listens_where_ports_are_opened(settings):
    assert {inside for _, _, inside in ports(SERVICES["gateway"])} == {
        settings.server.listen.port,
        settings.server.admin_listen.port,
    }


@pytest.mark.parametrize(("setting", "service"), [("store", "redis"), ("ledger", "postgres")])
def test_the_gateway_finds_its_store_and_its_ledger(settings, setting, service):
    host, port = re.search(r"@([\w.]+):(\d+)/", getattr(settings, setting)).groups()
    assert host == service
    assert port in " ".join(SERVICES[service]["command"]).split()
    assert set(SERVICES[service]["networks"]) & set(SERVICES["gateway"]["networks"])
    assert DOCUMENT["networks"]["data"] == {"internal": True}
    assert SERVICES[service]["networks"] == ["data"]


def test_prometheus_asks_the_gateway_s_admin_port(settings):
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"gateway:{settings.server.admin_listen.port}"
    assert set(SERVICES["prometheus"]["networks"]) & set(SERVICES["gateway"]["networks"])


def test_prometheus_has_the_rules_of_the_project():
    folder = ROOT / "deploy" / "prometheus"
    globs = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))["rule_files"]
    read = {path.name for one in globs for path in folder.glob(one)}
    assert read == {path.name for path in (folder / "rules").iterdir()} == {"alerts.yml", "recording.yml"}


def file_at(service: str, path: str) -> Path:
    """The file of the project that is at a path in a service's container."""
    at = {one.target: one.source for one in mounts(SERVICES[service]) if not one.is_volume}
    (target,) = [one for one in at if Path(path).is_relative_to(one)]
    return ROOT / at[target] / Path(path).relative_to(target)


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("gateway", "AION_PROXY_CONFIG"),
        ("load", "AION_PROXY_CONFIG"),
        ("grafana", "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"),
    ],
)
def test_a_variable_that_names_a_mounted_file_names_one_that_is_there(service, variable):
    assert file_at(service, SERVICES[service]["environment"][variable]).is_file()


def test_the_gateway_s_configuration_asks_for_each_variable_that_compose_hands_on():
    environ = SERVICES["gateway"]["environment"]
    text = file_at("gateway", environ["AION_PROXY_CONFIG"]).read_text("utf-8")
    named = {name.removesuffix("_FILE") for name in environ if not name.startswith("AION_PROXY_")}
    assert named <= set(re.findall(r"\$\{(\w+)\}", text))


@pytest.mark.parametrize("name", ["gateway", "prometheus", "grafana"])
def test_a_health_check_asks_at_a_port_that_is_opened(name):
    asked = re.search(r"http://127\.0\.0\.1:(\d+)/", " ".join(SERVICES[name]["healthcheck"]["test"]))[1]
    assert int(asked) in {port for _, _, port in ports(SERVICES[name])}


def test_the_load_asks_the_gateway(settings):
    url = SERVICES["load"]["command"][1]
    assert url == f"http://gateway:{settings.server.listen.port}"


def test_grafana_asks_prometheus():
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))
    port = next(inside for _, _, inside in ports(SERVICES["prometheus"]))
    assert source["datasources"][0]["url"] == f"http://prometheus:{port}"


def test_a_gateway_that_stops_is_given_the_time_that_it_takes(settings):
    takes = settings.server.stop_delay + settings.server.stop_grace + STOP_MARGIN + LEDGER_SECONDS
    assert parse_duration(SERVICES["gateway"]["stop_grace_period"]) > takes


def test_the_gateway_s_data_is_in_a_volume_and_what_it_writes_besides_in_memory(settings):
    assert str(settings.data_dir) in {one.target for one in mounts(SERVICES["gateway"]) if one.is_volume}
    assert [one.split(":")[0] for one in SERVICES["gateway"]["tmpfs"]] == ["/tmp"]


def test_the_load_belongs_to_the_demonstration_alone():
    assert {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one} == {"load": ["demo"]}


def made_in(folder: Path) -> dict[str, str]:
    subprocess.run([ROOT / "deploy" / "make-secrets.sh", folder], check=True, capture_output=True, timeout=30)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_made_once_and_are_those_that_compose_reads(tmp_path):
    made, again = (made_in(tmp_path), made_in(tmp_path))
    assert made == again
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in made.values())
    assert len(set(made.values())) == len(made)
    assert {f"./deploy/secrets/{name}" for name in made} == {one["file"] for one in DOCUMENT["secrets"].values()}
    assert tmp_path.stat().st_mode & 0o077 == 0


# The image


def test_the_image_s_environment_is_one_that_the_gateway_takes():
    environ = dict(re.findall(r"\b(AION_\w+)=(\S+)", DOCKERFILE))
    assert environ.pop("AION_PROXY_CONFIG") == "/etc/aion-proxy/gateway.yaml"
    settings = load(ROOT / "config" / "gateway.yaml", environ).settings
    assert {f"{settings.server.listen.port}", f"{settings.server.admin_listen.port}"} == set(
        re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[1].split()
    )
    assert f"VOLUME {settings.data_dir}\n" in DOCKERFILE


def test_the_image_and_compose_ask_for_health_in_the_same_way():
    (command,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert yaml.safe_load(command) == SERVICES["gateway"]["healthcheck"]["test"][1:]


def test_what_the_image_copies_is_there_and_is_sent_to_the_builder():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        one for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for one in line.split()
    ]
    assert copied
    assert {one for one in copied if not (ROOT / one).exists()} == set()
    assert set(copied) == sent


def test_the_image_s_label_says_where_the_bill_of_its_packages_is():
    (labelled,) = re.findall(r'aion-proxy\.sbom="([^"]+)"', DOCKERFILE)
    assert f"deploy/sbom.py {labelled} " in DOCKERFILE
    assert any(Path(labelled).is_relative_to(copied) for copied in re.findall(r"COPY --from=build (\S+) ", DOCKERFILE))


def test_the_image_s_base_can_be_named_by_its_digest():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert set(bases) == {"${PYTHON}"}
    assert f"ARG PYTHON={variables()['PYTHON_IMAGE']}\n" in DOCKERFILE


def test_the_image_runs_as_the_user_that_compose_names():
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user == SERVICES["gateway"]["user"]


def test_no_secret_of_this_machine_can_be_committed():
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    kept = (ROOT / "deploy" / "secrets" / ".gitignore").read_text("utf-8").splitlines()[1:]
    assert kept == ["*", "!.gitignore"]
