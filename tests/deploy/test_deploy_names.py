"""No dashboard or rule asks for a metric or a label that the gateway does not have: the code says which it has."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from make_dashboards import FOLDER
from prometheus_server import DEPLOY

from proxy.cli_parser import build_parser
from tests.test_readme import families

RULES = DEPLOY / "prometheus" / "rules"
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity", "job", "instance"}}
EVERYWHERE = {"job", "instance"}
NAME = re.compile(r"(?<![\w:\"$.])(aion_\w+|\w+:aion_\w+(?::\w+)?)(?![\w:(])")
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def samples() -> dict[str, set[str]]:
    """Every series on the page, with the labels that it has when it was scraped."""
    found = {name: {*labels, *EVERYWHERE} for name, labels in OF_PROMETHEUS.items()}
    for name, (kind, labels) in families().items():
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for end in ends:
            found[name + end] = {*labels, *EVERYWHERE, *({"le"} if end == "_bucket" else ())}
    return found


def rules(file: str) -> list[dict[str, str]]:
    groups = yaml.safe_load((RULES / file).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED = {rule["record"]: rule["expr"] for rule in rules("recording.yml")}


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression that is shipped, with the place where it stands."""
    for file in ("recording.yml", "alerts.yml"):
        for rule in rules(file):
            yield f"{file}: {rule.get('alert') or rule['record']}", rule["expr"]
    for path in sorted(FOLDER.glob("*.json")):
        dashboard = json.loads(path.read_text("utf-8"))
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']} {target['refId']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            yield f"{path.name}: ${variable['name']}", variable.get("definition", "")


def problems(expr: str) -> list[str]:
    """What an expression asks for that is not there."""
    known = samples()
    bare = re.sub(r'"[^"]*"', '""', expr)
    found = [f"no series {name}" for name in NAME.findall(bare) if name not in known and name not in RECORDED]
    used = [name for name in [*NAME.findall(bare), *re.findall(r"\bup\b", bare)] if name in known]
    allowed = set().union(*(known[name] for name in used), EVERYWHERE)
    for name, matchers in SELECTOR.findall(bare):
        labels = known.get(name)
        if labels is not None:
            found += [f"{name} has no label {label}" for label in LABEL.findall(matchers) if label not in labels]
    for labels in GROUPING.findall(bare):
        found += [f"nothing here has a label {one}" for one in labels.replace(" ", "").split(",") if one not in allowed]
    return found


@pytest.mark.parametrize(("place", "expr"), list(expressions()))
def test_every_name_and_label_of_an_expression_is_one_of_the_code(place, expr):
    assert problems(expr) == [], place


@pytest.mark.parametrize(
    "expr",
    [
        "sum(rate(aion_request_total[5m]))",
        'aion_requests_total{provdier="local"}',
        "sum by (modle) (rate(aion_tokens_total[5m]))",
        "aion_request_duration_seconds",
        "job:aion_errors:ratio_rate7m > 1",
    ],
)
def test_a_wrong_name_is_noticed(expr):
    assert problems(expr)


def test_the_cases_of_the_alerts_use_series_that_exist():
    cases = yaml.safe_load((DEPLOY / "prometheus" / "tests" / "alerts.yml").read_text("utf-8"))["tests"]
    series = [one["series"] for case in cases for one in case["input_series"]]
    assert series
    assert [one for one in series if problems(one)] == []


def shown() -> Iterator[tuple[str, str, str]]:
    """Every text that is filled in with labels, with its place and the expression whose labels these are."""
    for rule in rules("alerts.yml"):
        for text in rule["annotations"].values():
            yield f"alerts.yml: {rule['alert']}", rule["expr"], " ".join(re.findall(r"\$labels\.\w+", text))
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel["targets"]:
                legend = re.sub(r"\{\{\s*(\w+)\s*\}\}", r"$labels.\1", target.get("legendFormat", ""))
                yield f"{path.name}: {panel['title']} {target['refId']}", target["expr"], legend


def missing_labels(expr: str, text: str) -> set[str]:
    """The labels that a text shows and the result of its expression does not have."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    known = samples()
    summed = [
        labels for name in NAME.findall(bare) if name in RECORDED for labels in GROUPING.findall(RECORDED[name])
    ] + re.findall(r"\bby\s*\(([^)]*)\)", bare)
    kept = {one.strip() for labels in summed for one in labels.split(",")}
    if not kept:
        names = [*NAME.findall(bare), *re.findall(r"\bup\b", bare)]
        kept = set().union(*(known[name] for name in names if name in known))
    return set(re.findall(r"\$labels\.(\w+)", text)) - kept


@pytest.mark.parametrize(("place", "expr", "text"), list(shown()))
def test_a_text_shows_only_labels_that_its_expression_has(place, expr, text):
    assert missing_labels(expr, text) == set(), place


def test_a_wrong_label_in_a_text_is_noticed():
    assert missing_labels("sum by (provider) (aion_requests_total)", "$labels.provdier") == {"provdier"}
    assert missing_labels("up == 0", "$labels.provdier $labels.instance") == {"provdier"}


def test_a_recorded_series_is_named_after_the_labels_that_it_is_summed_by():
    for name, expr in RECORDED.items():
        labels, _, _ = name.partition(":")
        grouped = set(re.split(r"\W+", GROUPING.findall(expr)[0].strip()))
        assert set(labels.split("_")) | {"job"} == grouped, f"{name} is summed by {grouped}"


@pytest.mark.parametrize("line", re.findall(r"`(aion-proxy [^`]+)`", (RULES / "alerts.yml").read_text("utf-8")))
def test_every_command_in_a_runbook_is_one_that_the_program_takes(line):
    words = re.sub(r"\{\{[^}]*\}\}", "acme", line).replace("…", "5").split()[1:]
    build_parser().parse_args(words)  # SystemExit says what it does not take
