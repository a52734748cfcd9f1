"""Writes Grafana's JSON of the dashboards in `panels.py` into the folder that is provisioned.

`python deploy/grafana/make_dashboards.py` after every change there; a test compares what is written with what would be.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panels import DASHBOARDS, Dashboard, Form, Panel

FOLDER = Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHTS = {Form.STAT: 4, Form.LINES: 8, Form.BARS: 8}
Json = dict[str, Any]


def dashboard_json(dashboard: Dashboard) -> Json:
    """One dashboard as Grafana provisions it: without an id of its own, with the uid that links point at."""
    return {
        "uid": dashboard.uid,
        "id": None,
        "title": dashboard.title,
        "tags": ["aion-proxy"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["aion-proxy"], "title": "aion-proxy", "keepTime": True}],
        "templating": {"list": [_datasource(), _instance()]},
        "annotations": {"list": [_alerts()]},
        "panels": list(_placed(dashboard)),
    }


def text_of(dashboard: Dashboard) -> str:
    """The file of one dashboard."""
    return json.dumps(dashboard_json(dashboard), indent=1, ensure_ascii=False) + "\n"


def _placed(dashboard: Dashboard) -> Iterator[Json]:
    number, top = 1, 0
    for row in dashboard.rows:
        width, height = COLUMNS // len(row), max(HEIGHTS[panel.form] for panel in row)
        for column, panel in enumerate(row):
            place = {"x": column * width, "y": top, "w": width, "h": height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            number += 1
        top += height


def _panel(panel: Panel) -> Json:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            **({} if panel.form is Form.LINES else {"instant": True, "range": False}),
        }
        for number, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.form.value,
        "title": panel.title,
        "description": panel.what,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": _custom(panel)}, "overrides": []},
        "options": _options(panel),
    }


def _custom(panel: Panel) -> Json:
    if panel.form is not Form.LINES:
        return {}
    stacking = {"mode": "normal" if panel.stacked else "none"}
    return {"fillOpacity": 25 if panel.stacked else 5, "lineWidth": 1, "showPoints": "never", "stacking": stacking}


def _options(panel: Panel) -> Json:
    now = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.form is Form.STAT:
        return {"reduceOptions": now, "colorMode": "value", "graphMode": "none"}
    if panel.form is Form.BARS:
        return {"reduceOptions": now, "orientation": "horizontal", "displayMode": "basic"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}


def _datasource() -> Json:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _instance() -> Json:
    query = "label_values(aion_build_info, instance)"
    return {
        "name": "instance",
        "type": "query",
        "label": "Gateway",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "instance"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _alerts() -> Json:
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": DATASOURCE,
        "expr": 'ALERTS{alertname=~"Aion.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(text_of(dashboard), "utf-8")


if __name__ == "__main__":
    main()
