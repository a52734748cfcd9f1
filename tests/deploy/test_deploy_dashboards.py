"""Every query of every panel and rule, run by a real Prometheus that has scraped a real gateway under a small load."""

import html
import json
import math
import re
import shutil
import time
from collections.abc import Iterator

import pytest
import yaml
from busy_gateway import filled, watched_load
from draw_dashboards import picture
from gateway_process import ROOT
from make_dashboards import FOLDER, dashboard_json, text_of
from panels import DASHBOARDS
from prometheus_server import DEPLOY, PrometheusServer

from tests.conftest import missing

SECONDS = 20.0
QUERIES = [
    pytest.param(query.expr, id=f"{name}: {panel.title} {query.legend}".strip())
    for name, dashboard in DASHBOARDS.items()
    for row in dashboard.rows
    for panel in row
    for query in panel.queries
]
RULES = [
    rule
    for file in ("recording.yml", "alerts.yml")
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules" / file).read_text("utf-8"))["groups"]
    for rule in group["rules"]
]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A Prometheus that has looked at a busy gateway for a while, and looks on."""
    binary = shutil.which("prometheus") or missing("prometheus", "prometheus")
    with watched_load(binary, tmp_path_factory.mktemp("gateway"), SECONDS) as server:
        yield server


@pytest.mark.parametrize("expr", QUERIES)
def test_every_query_of_a_panel_has_data(prometheus, expr):
    values = [float(series["value"][1]) for series in prometheus.series(filled(expr))]
    assert [value for value in values if math.isfinite(value)], f"{filled(expr)} gave {values}"


@pytest.mark.parametrize("record", [rule["record"] for rule in RULES if "record" in rule])
def test_every_recorded_series_has_data(prometheus, record):
    assert [series for series in prometheus.series(record) if math.isfinite(float(series["value"][1]))]


def test_prometheus_can_evaluate_every_rule(prometheus):
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert not [rule for rule in rules if rule["health"] != "ok"]


def test_a_busy_gateway_that_is_well_wakes_nobody(prometheus):
    about_to = prometheus.series('ALERTS{severity="page", alertname!="AionErrorBudgetBurnsFast"}')
    assert about_to == [], "the load has failing requests on purpose, and nothing else"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_picture_of_a_dashboard_shows_every_panel_with_its_data(prometheus, name):
    dashboard = dashboard_json(DASHBOARDS[name])
    drawn = picture(dashboard, prometheus, time.time() - SECONDS, time.time())
    told = [html.unescape(one) for one in re.findall(r"<text [^>]*>([^<]*)</text>", drawn)]
    assert {panel["title"] for panel in dashboard["panels"]} <= set(told)
    assert "no data" not in told


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_s_files_are_those_that_are_made(name):
    text = (FOLDER / f"{name}.json").read_text("utf-8")
    assert text == text_of(DASHBOARDS[name]), "run: python deploy/grafana/make_dashboards.py"


def test_every_file_in_the_folder_is_made():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(f"{name}.json" for name in DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_given_another_datasource_and_keeps_its_uid(name):
    dashboard = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert (dashboard["uid"], dashboard["id"]) == (f"aion-{name}", None)
    assert "__inputs" not in dashboard
    panels = dashboard["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_the_width_and_do_not_overlap(name):
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_what_is_provisioned_is_where_it_is_looked_for():
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text("utf-8"))["datasources"][0]
    assert source["uid"] == "aion-prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "aion-proxy.yaml").read_text("utf-8"))["providers"]
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]["volumes"]
    assert any(re.fullmatch(rf"\./deploy/grafana/dashboards:{provider['options']['path']}:ro", one) for one in mounts)
