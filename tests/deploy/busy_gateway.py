"""A real gateway under the demonstration's load, and a real Prometheus that looks at it: for tests and for pictures."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from gateway_process import ROOT, Gateway, eventually
from load import Load, make_keys
from prometheus_server import PrometheusServer

VARIABLES = {"$instance": ".*", "$__rate_interval": "20s"}
PATIENCE = 60.0


@contextlib.contextmanager
def watched_load(binary: str, folder: Path, seconds: float) -> Iterator[PrometheusServer]:
    """Load a gateway for so long, then yield the Prometheus that has seen it; everything is stopped at the end."""
    config, catalog = ((ROOT / "config" / name).read_text("utf-8") for name in ("gateway.yaml", "catalog.yaml"))
    config = config.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9090", "127.0.0.1:0")
    gateway = Gateway(folder, config, catalog)
    gateway.start()
    try:
        keys = make_keys(lambda *words: json.dumps(gateway.command(*(word for word in words if word != "--json"))))
        server = PrometheusServer(binary, folder, gateway.admin)
        try:
            load = Load(f"http://127.0.0.1:{gateway.api}", keys, rate=12.0, threads=12)
            loading = threading.Thread(target=load.run, args=(seconds,))
            loading.start()
            assert eventually(lambda: server.series("aion_budget_remaining_usd"), PATIENCE), "no budget was ever shown"
            loading.join(seconds + PATIENCE)
            yield server
        finally:
            server.stop()
    finally:
        gateway.stop()


def filled(expr: str) -> str:
    """A panel's query with its variables as Grafana fills them in."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr
