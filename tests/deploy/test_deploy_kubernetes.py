"""The manifests for Kubernetes refer only to one another, and to ports, paths, files, metrics and times of the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_file import compose
from gateway_process import ROOT

from proxy.configuration import load
from proxy.supervisor import LEDGER_SECONDS, STOP_MARGIN
from tests.test_readme import families

FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
OBJECTS: list[dict[str, Any]] = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
]


def of_kind(kind: str, name: str = "aion-proxy") -> dict[str, Any]:
    (found,) = [one for one in OBJECTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


POD = of_kind("StatefulSet")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
PORTS = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
ENVIRON = {one["name"]: one["value"] for one in CONTAINER["env"]}


@pytest.fixture
def settings(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    environ = {name: str(secret) if name.endswith("_FILE") else value for name, value in ENVIRON.items()}
    return load(FOLDER / "config" / Path(environ["AION_PROXY_CONFIG"]).name, environ).settings


def test_every_manifest_of_the_folder_is_applied_but_the_example_of_the_secret():
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert there == {*KUSTOMIZATION["resources"], "secret.example.yaml"}


def test_the_files_of_the_configuration_are_those_that_the_gateway_reads(settings):
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    mounted = next(one for one in POD["spec"]["volumes"] if one["name"] == "config")
    assert mounted["configMap"]["name"] == generated["name"]
    assert {Path(one).name for one in generated["files"]} == {"gateway.yaml", "catalog.yaml"}
    assert all((FOLDER / one).is_file() for one in generated["files"])
    place = next(one["mountPath"] for one in CONTAINER["volumeMounts"] if one["name"] == "config")
    assert Path(ENVIRON["AION_PROXY_CONFIG"]).parent == Path(place)
    assert settings.server.stop_grace > 0


def test_everything_is_in_the_one_namespace_that_is_made():
    made = of_kind("Namespace")["metadata"]["name"]
    example = yaml.safe_load((FOLDER / "secret.example.yaml").read_text("utf-8"))
    assert KUSTOMIZATION["namespace"] == made == example["metadata"]["namespace"]


def test_the_set_names_a_service_and_an_account_that_there_are():
    assert of_kind("Service", of_kind("StatefulSet")["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    assert of_kind("ServiceAccount", POD["spec"]["serviceAccountName"])


def test_the_gateway_s_secrets_are_those_of_the_example():
    example = yaml.safe_load((FOLDER / "secret.example.yaml").read_text("utf-8"))
    mounted = next(one for one in POD["spec"]["volumes"] if one["name"] == "secrets")
    assert mounted["secret"]["secretName"] == example["metadata"]["name"]
    place = next(one["mountPath"] for one in CONTAINER["volumeMounts"] if one["name"] == "secrets")
    named = {value for name, value in ENVIRON.items() if name.endswith("_FILE")}
    assert named == {f"{place}/{key}" for key in example["stringData"]}


def test_every_mount_has_its_volume_and_every_volume_its_mount():
    claims = of_kind("StatefulSet")["spec"]["volumeClaimTemplates"]
    volumes = [*(one["name"] for one in POD["spec"]["volumes"]), *(one["metadata"]["name"] for one in claims)]
    assert sorted(volumes) == sorted(one["name"] for one in CONTAINER["volumeMounts"])


def test_the_journal_is_on_a_volume_that_outlives_the_pod(settings):
    place = next(one["mountPath"] for one in CONTAINER["volumeMounts"] if one["name"] == "journal")
    assert place == str(settings.data_dir)


def test_the_ports_are_those_that_the_gateway_listens_on(settings):
    assert {"api": settings.server.listen.port, "admin": settings.server.admin_listen.port} == PORTS


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
)
def test_probes_ask_what_the_admin_port_answers(probe, path):
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "admin"}
    assert f'web.get("{path}"' in (ROOT / "proxy" / "health.py").read_text("utf-8")


def test_a_gateway_that_stops_is_given_the_time_that_it_takes(settings):
    takes = settings.server.stop_delay + settings.server.stop_grace + STOP_MARGIN + LEDGER_SECONDS
    assert POD["spec"]["terminationGracePeriodSeconds"] > takes


def test_the_cluster_forgets_a_gateway_before_it_closes_its_socket(settings):
    assert settings.server.stop_delay >= 5
    assert "lifecycle" not in CONTAINER, "it would wait twice"
    probe = CONTAINER["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 5, "a short trouble takes no gateway away"


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"])
def test_what_selects_pods_selects_the_gateway_s(kind):
    for one in (one for one in OBJECTS if one["kind"] == kind):
        selector = one["spec"].get("podSelector") or one["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        meant = (
            POD["metadata"]["labels"]
            if kind != "ServiceMonitor"
            else of_kind("Service", "aion-proxy-admin")["metadata"]["labels"]
        )
        assert labels.items() <= meant.items()


def test_ports_are_named_as_the_container_names_them():
    for one in (one for one in OBJECTS if one["kind"] == "Service"):
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= set(PORTS)
    named = {port["port"] for rule in of_kind("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]}
    assert named == set(PORTS)
    endpoints = of_kind("ServiceMonitor")["spec"]["endpoints"]
    ports = {port["name"] for port in of_kind("Service", "aion-proxy-admin")["spec"]["ports"]}
    assert {one["port"] for one in endpoints} <= ports
    assert {one["path"] for one in endpoints} == {"/metrics"}
    assert 'web.get("/metrics"' in (ROOT / "proxy" / "health.py").read_text("utf-8")


def test_the_monitoring_s_job_is_called_as_the_rules_expect():
    label = of_kind("ServiceMonitor")["spec"]["jobLabel"]
    job = of_kind("Service", "aion-proxy-admin")["metadata"]["labels"][label]
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert job == config["scrape_configs"][0]["job_name"]
    assert f'job="{job}"' in (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text("utf-8")


def test_gateways_are_added_by_a_metric_that_there_is():
    scaled = of_kind("HorizontalPodAutoscaler")["spec"]
    names = [one["pods"]["metric"]["name"] for one in scaled["metrics"] if one["type"] == "Pods"]
    assert names == ["aion_in_flight_requests"]
    assert set(names) <= set(families())
    assert scaled["scaleTargetRef"]["kind"] == "StatefulSet"
    assert scaled["scaleTargetRef"]["name"] == of_kind("StatefulSet")["metadata"]["name"]


def test_the_gateway_may_do_as_little_as_in_compose():
    user = compose()["services"]["gateway"]["user"]
    pod = POD["spec"]["securityContext"]
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == user
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_ways_out_that_are_open_lead_to_the_store_and_the_ledger(settings):
    out = {port["port"] for rule in of_kind("NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
    needed = {int(re.search(r":(\d+)/", url.rpartition("@")[2])[1]) for url in (settings.store, settings.ledger)}
    assert needed <= out


def test_the_namespace_with_the_store_and_the_ledger_can_be_reached(settings):
    hosts = [re.search(r"@([\w.]+):", url)[1] for url in (settings.store, settings.ledger)]
    rules = of_kind("NetworkPolicy")["spec"]["egress"]
    label = "kubernetes.io/metadata.name"
    open_to = {to["namespaceSelector"]["matchLabels"][label] for rule in rules for to in rule.get("to", [])}
    assert {host.split(".")[1] for host in hosts} <= open_to


def test_the_image_is_the_one_that_kustomize_names():
    assert [one["name"] for one in KUSTOMIZATION["images"]] == [CONTAINER["image"]]
