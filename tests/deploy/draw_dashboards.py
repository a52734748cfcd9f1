"""Draws the dashboards of deploy/grafana as pictures for the README, because Grafana itself is in no package here.

Each panel shows what a real Prometheus answered to its queries after it had looked at a real gateway under load; place,
form, unit and legend are those of the panel, the drawing is ours. As a program it takes `--seconds` and a little.
"""

import argparse
import html
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":  # else the tests have done so
    sys.path[:0] = [str(ROOT / name) for name in ("", "deploy/grafana", "deploy/demo", "tests/gateway", "tests/deploy")]

from busy_gateway import filled, watched_load
from make_dashboards import COLUMNS, dashboard_json
from panels import DASHBOARDS
from prometheus_server import PrometheusServer

PICTURES = ROOT / "deploy" / "grafana" / "pictures"
COLUMN, LINE, GAP = 48, 24, 6
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#ffb357", "#96d98d", "#c4162a")
POINTS = 120
MOST_IN_LEGEND = 6
SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
Series = tuple[str, list[tuple[float, float]]]


def main() -> None:
    """Load a gateway, and draw what its dashboards show of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long the gateway is under load")
    seconds = parser.parse_args().seconds
    binary = shutil.which("prometheus")
    if binary is None:
        raise SystemExit("prometheus is not on the PATH: apt install prometheus")
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="aion-pictures-") as folder,
        watched_load(binary, Path(folder), seconds) as prometheus,
    ):
        end = time.time() - 2
        for name, dashboard in DASHBOARDS.items():
            drawn = picture(dashboard_json(dashboard), prometheus, end - seconds + 20, end)
            (PICTURES / f"{name}.svg").write_text(drawn, "utf-8")


def picture(dashboard: dict[str, Any], prometheus: PrometheusServer, begin: float, end: float) -> str:
    """One dashboard as SVG."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * LINE + 40
    drawn = "drawn from what Prometheus answered to the panels' queries"
    parts = [text(12, 25, dashboard["title"], size=16), text(COLUMNS * COLUMN - 12, 25, drawn, end=True)]
    for panel in panels:
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP / 2, place["y"] * LINE + 40
        wide, high = place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
        parts.append(f'<g transform="translate({x:g},{y:g})">')
        parts.append(f'<rect width="{wide}" height="{high}" rx="3" fill="#181b1f"/>')
        parts.append(text(10, 19, panel["title"], size=13))
        found = asked(panel, prometheus, begin, end)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        if panel["type"] == "stat":
            value = found[0][1][-1][1] if found and found[0][1] else math.nan
            parts.append(text(wide / 2, high / 2 + 22, shown(value, unit), size=26, middle=True, colour=COLOURS[0]))
        elif panel["type"] == "bargauge":
            parts += bars(found, unit, wide, high)
        else:
            stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
            parts += lines(found, unit, wide, high, (begin, end), stacked=stacked)
        parts.append("</g>")
    size = f'width="{COLUMNS * COLUMN}" height="{height}" viewBox="0 0 {COLUMNS * COLUMN} {height}"'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#111217"/>\n{body}\n</svg>\n'
    )


def asked(panel: dict[str, Any], prometheus: PrometheusServer, begin: float, end: float) -> list[Series]:
    """The series of all queries of a panel, named by its legends."""
    found: list[Series] = []
    for target in panel["targets"]:
        step = (end - begin) / POINTS
        data = prometheus.ask("query_range", query=filled(target["expr"]), start=begin, end=end, step=step)["result"]
        for series in data:
            points = [(float(at), float(value)) for at, value in series["values"] if math.isfinite(float(value))]
            legend = target["legendFormat"]
            for name, value in series["metric"].items():
                legend = legend.replace(f"{{{{{name}}}}}", "gateway:9090" if name == "instance" else value)
            found.append((legend, points))
    return found


def lines(
    found: list[Series], unit: str, wide: float, high: float, span: tuple[float, float], *, stacked: bool
) -> Iterator[str]:
    """Lines over time, or areas on one another."""
    left, top, bottom = 62.0, 32.0, 54.0
    begin, end = span
    layers = stack(found) if stacked else [(name, points, None) for name, points in found]
    most = nice(max((value for _, points, _ in layers for _, value in points), default=0.0))

    def x(at: float) -> float:
        return left + (at - begin) / (end - begin) * (wide - left - 12)

    def y(value: float) -> float:
        return high - bottom - value / most * (high - top - bottom)

    for part in range(3):
        value = most * part / 2
        yield f'<path d="M{left} {y(value):.1f}H{wide - 12}" stroke="#2c3235"/>'
        yield text(left - 6, y(value) + 4, shown(value, unit), size=10, end=True, colour="#9fa7b3")
    for at in (begin, (begin + end) / 2, end):
        label = time.strftime("%H:%M:%S", time.gmtime(at))
        yield text(x(at), high - bottom + 15, label, size=10, middle=at not in span, end=at == end, colour="#9fa7b3")
    for number, (_, points, below) in enumerate(layers):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        if below is not None and points:
            back = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in reversed(below))
            yield f'<polygon points="{path} {back}" fill="{colour}" fill-opacity="0.3"/>'
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    yield from legend([name for name, _, _ in layers], left, high - 14, wide)


def stack(found: list[Series]) -> list[tuple[str, list[tuple[float, float]], list[tuple[float, float]]]]:
    """Each series on top of those before it, and what it stands on."""
    layers = []
    total: dict[float, float] = {}
    for name, points in found:
        below = [(at, total.get(at, 0.0)) for at, _ in points]
        for at, value in points:
            total[at] = total.get(at, 0.0) + value
        layers.append((name, [(at, total[at]) for at, _ in points], below))
    return layers


def bars(found: list[Series], unit: str, wide: float, high: float) -> Iterator[str]:
    """One bar for each series, as long as its last value."""
    last = [(name, points[-1][1]) for name, points in found if points]
    most = max([1.0 if unit == "percentunit" else 0.0, *(value for _, value in last)]) or 1.0
    step = min(30.0, (high - 40) / max(len(last), 1))
    for number, (name, value) in enumerate(last):
        y = 36 + number * step
        long = max(0.0, value / most) * (wide - 300)
        yield text(14, y + 15, name, size=12)
        yield f'<rect x="200" y="{y}" width="{long:.1f}" height="{step - 8:.1f}" fill="{COLOURS[0]}"/>'
        yield text(210 + long, y + 15, shown(value, unit), size=12)


def legend(names: list[str], x: float, y: float, wide: float) -> Iterator[str]:
    """The names of the lines, as many as there is room for."""
    for number, name in enumerate(names[:MOST_IN_LEGEND]):
        width = 22 + 6.2 * len(name)
        if x + width > wide:
            return
        yield f'<rect x="{x:g}" y="{y - 7:g}" width="12" height="3" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield text(x + 17, y, name, size=11, colour="#ccccdc")
        x += width + 8


def nice(value: float) -> float:
    """The next round number above a value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * 1.0001)


def shown(value: float, unit: str) -> str:
    """A number with its unit as Grafana writes it, nearly."""
    if math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
    if unit == "bytes":
        size, name = next((size, name) for size, name in SIZES if value >= size or size == 1)
        return f"{value / size:.3g} {name}"
    if unit == "currencyUSD":
        return f"${value:.4g}"
    plain = f"{value / 1e3:.3g} K" if value >= 10_000 else f"{value:.4g}"
    return f"{plain} req/s" if unit == "reqps" else plain


def text(
    x: float, y: float, words: str, *, size: int = 12, middle: bool = False, end: bool = False, colour: str = "#d8d9da"
) -> str:
    """One line of text."""
    anchor = "middle" if middle else "end" if end else "start"
    looks = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {looks}>{html.escape(words)}</text>'


if __name__ == "__main__":
    main()
