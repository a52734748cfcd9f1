"""The rules for Prometheus, judged by its own tool: they can be read, and alerts fire when they should."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_server import DEPLOY

from tests.conftest import missing
from tests.test_readme import between

RULES = DEPLOY / "prometheus" / "rules"
CASES = DEPLOY / "prometheus" / "tests" / "alerts.yml"
ALERTS = [
    rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
BY_NAME = {rule["alert"]: rule for rule in ALERTS}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool") or missing("promtool", "prometheus")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_reads_its_configuration_and_the_rules():
    done = promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert done.returncode == 0, done.stderr


def test_each_alert_fires_in_one_case_and_is_silent_in_another():
    done = promtool("test", "rules", str(CASES))
    assert done.returncode == 0, done.stderr


def test_no_alert_is_without_its_two_cases():
    cases = [case["name"] for case in yaml.safe_load(CASES.read_text("utf-8"))["tests"]]
    assert sorted(cases) == sorted(f"{name} {kind}" for name in BY_NAME for kind in ("fires", "is silent"))


@pytest.mark.parametrize("wrong", ["never", "always"])
def test_the_cases_notice_an_alert_whose_condition_is_wrong(tmp_path: Path, wrong: str):
    """Otherwise the cases above would prove nothing."""
    text = (RULES / "alerts.yml").read_text("utf-8")
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(1) > 2" if wrong == "never" else "vector(1)"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules), "utf-8")
    cases = yaml.safe_load(CASES.read_text("utf-8"))
    cases["rule_files"] = [str(RULES / "recording.yml"), str(tmp_path / "alerts.yml")]
    noticed_by = "fires" if wrong == "never" else "is silent"
    cases["tests"] = [case for case in cases["tests"] if case["name"].endswith(noticed_by)]
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases), "utf-8")
    done = promtool("test", "rules", str(tmp_path / "cases.yml"))
    assert done.returncode != 0
    failed = set(re.findall(r'alertname=\\?"(\w+)\\?"', done.stderr + done.stdout))
    assert failed >= set(BY_NAME)


def test_the_readme_names_every_alert_with_its_summary():
    lines = ["| alert | severity | what has happened |", "| --- | --- | --- |"]
    for rule in ALERTS:
        summary = re.sub(r"\{\{.*?\}\}", "…", rule["annotations"]["summary"])
        lines.append(f"| `{rule['alert']}` | {rule['labels']['severity']} | {summary} |")
    wanted = "\n".join(lines)
    assert between("alerts") == wanted, f"paste this between the markers <!-- alerts -->:\n\n{wanted}\n"


@pytest.mark.parametrize("name", BY_NAME)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name):
    rule = BY_NAME[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    steps = [line[:2] for line in rule["annotations"]["runbook"].strip().splitlines()]
    assert steps == [f"{number}." for number in range(1, len(steps) + 1)]
    assert len(steps) >= 2
