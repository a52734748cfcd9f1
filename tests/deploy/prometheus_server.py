"""Debian's Prometheus on loopback with the project's own rules, over whatever gateway a test names."""

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from gateway_process import ROOT, eventually

from tests.stores.redis_servers import free_ports

DEPLOY = ROOT / "deploy"
PATIENCE = 30.0


class PrometheusServer:
    """One server, with the shipped configuration but for where the gateway is and how often it looks."""

    def __init__(self, binary: str, folder: Path, gateway: int) -> None:
        (self.port,) = free_ports(1)
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{gateway}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'series'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        assert eventually(self._ready, PATIENCE), self._log.read_text("utf-8")[-4000:]

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The data of one call of its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def series(self, expr: str) -> list[dict[str, Any]]:
        """The series of an expression as they are now."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text("utf-8")[-4000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=PATIENCE) as answer:
                return answer.status == 200
        except OSError:
            return False
