"""The services of docker-compose.yml as processes of this machine: no engine, but the same programs and the same words.

Commands, environment, mounts, secrets and health checks are those of the file. What a container would have to itself is
translated, and nothing else: its paths into folders here, its ports into free ones, names of services into loopback.
The entrypoint of PostgreSQL's image, which makes the database at the first start, is done by its own tools.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compose_file import compose, mounts, secret_path
from gateway_process import ROOT

from tests.stores.redis_servers import free_ports

PATIENCE = 60.0
PORTS = {"gateway": (8080, 9090), "redis": (6379,), "postgres": (5432,), "prometheus": (9090,), "load": ()}
RUNS_AS = {"postgres": "nobody"}  # it refuses to run as root, which the tests may be
ENDS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


class ByHand:
    """All services but Grafana, which no package of Debian holds."""

    def __init__(self, folder: Path, postgresql: Path) -> None:
        self._folder = folder
        self._postgresql = postgresql
        self._services: Mapping[str, Any] = compose()["services"]
        free = iter(free_ports(sum(map(len, PORTS.values()))))
        self.ports = {(name, port): next(free) for name, ports in PORTS.items() for port in ports}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._secrets = folder / "secrets"
        subprocess.run(
            [ROOT / "deploy" / "make-secrets.sh", self._secrets], check=True, capture_output=True, timeout=30
        )
        for above in (folder, self._secrets):  # each container has its own view; here all look into the same folder
            above.chmod(0o755)

    # the life of a service

    def start(self, name: str, *more: str) -> None:
        """Start a service after those that it waits for are well."""
        service = self._services[name]
        for other in service.get("depends_on", {}):
            self.wait_well(other)
        entrypoint = service.get("entrypoint") or (["aion-proxy", "serve"] if name == "gateway" else [])
        entrypoint = entrypoint or (["prometheus"] if name == "prometheus" else [])
        words = [*self._words(name, [*entrypoint, *service.get("command", [])]), *more]
        if name == "redis":
            words += ["--bind", "127.0.0.1"]
        if name == "postgres":
            words += self._make_database(name)
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                words, cwd=self._own(name, "/"), env=self._environ(name), user=self._user(name), stdout=log, stderr=log
            )

    def wait_well(self, name: str) -> None:
        """Wait until a service's own health check says that it is well."""
        deadline = time.monotonic() + PATIENCE
        while not self.is_well(name):
            assert self._processes[name].poll() is None, f"{name} ended:\n{self.log(name)}"
            assert time.monotonic() < deadline, f"{name} was never well:\n{self.log(name)}"
            time.sleep(0.1)

    def is_well(self, name: str) -> bool:
        """What the service's health check says now."""
        how, *words = self._words(name, self._services[name]["healthcheck"]["test"])
        command = words if how == "CMD" else ["sh", "-c", *words]
        return not subprocess.run(
            command, env=self._environ(name), capture_output=True, timeout=PATIENCE, check=False
        ).returncode

    def wait(self, name: str) -> int:
        """Wait for the end of a service that ends by itself."""
        return self._processes[name].wait(PATIENCE)

    def stop(self, name: str) -> int:
        """Stop a service as an engine does; returns its exit code."""
        process = self._processes.pop(name)
        if process.poll() is None:
            process.send_signal(ENDS[self._services[name].get("stop_signal", "SIGTERM")])
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def stop_all(self) -> None:
        """Stop what still runs, in the order in which services need one another."""
        for name in [name for name in reversed(PORTS) if name in self._processes]:
            self.stop(name)

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """What `docker compose exec` does."""
        return subprocess.run(
            self._words(name, list(words)), env=self._environ(name), capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8")[-4000:]

    def secret(self, name: str) -> str:
        return (self._secrets / name).read_text("utf-8")

    # what is translated

    def _words(self, name: str, words: list[str]) -> list[str]:
        return [self._programs(self._translated(name, word)) for word in words]

    def _translated(self, name: str, text: str) -> str:
        """A text of a service with the paths, ports and names of this machine."""
        here = {
            mount.target: str(self._own(name, mount.target) if mount.is_volume else self._copied(mount.source))
            for mount in mounts(self._services[name])
        }
        if here:  # in one go, because one of our own folders may have another's path in its own
            paths = "|".join(map(re.escape, here))
            text = re.sub(rf"(?<![\w/])({paths})(?=/|$)", lambda found: here[found[1]], text)
        for secret in self._services[name].get("secrets", []):
            text = text.replace(secret_path(secret), str(self._secrets / secret))
        for port in PORTS[name]:
            free = str(self.ports[name, port])
            text = re.sub(rf"\b(?:0\.0\.0\.0|127\.0\.0\.1):{port}\b", f"127.0.0.1:{free}", text)
            text = re.sub(rf"(^|-p ){port}\b", rf"\g<1>{free}", text)
        return self._named(text)

    def _named(self, text: str) -> str:
        """A text with the addresses of services replaced."""
        for (name, port), free in self.ports.items():
            text = re.sub(rf"\b{name}:{port}\b", f"127.0.0.1:{free}", text)
        return text

    def _copied(self, source: str) -> Path:
        """A copy of a mounted folder in which services have the addresses of this machine."""
        copy = self._folder / "mounted" / source
        if not copy.exists():
            shutil.copytree(ROOT / source, copy)
            for file in (path for path in copy.rglob("*") if path.suffix in {".yml", ".yaml"}):
                file.write_text(self._named(file.read_text("utf-8")), "utf-8")
        return copy

    def _own(self, name: str, target: str) -> Path:
        """A service's volume."""
        own = self._folder / "volumes" / name / target.strip("/")
        own.mkdir(parents=True, exist_ok=True)
        user = self._user(name)
        if user is not None:
            os.chown(own, pwd.getpwnam(user).pw_uid, -1)
        return own

    def _environ(self, name: str) -> dict[str, str]:
        """Its own variables, and no other of this process but where programs are."""
        own = {key: self._translated(name, value) for key, value in self._services[name].get("environment", {}).items()}
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C", **own}

    def _programs(self, word: str) -> str:
        return {
            "python": sys.executable,
            "aion-proxy": str(Path(sys.executable).parent / "aion-proxy"),
            "postgres": str(self._postgresql / "postgres"),
            "pg_isready": str(self._postgresql / "pg_isready"),
        }.get(word, word)

    def _user(self, name: str) -> str | None:
        return RUNS_AS.get(name) if os.geteuid() == 0 else None

    def _make_database(self, name: str) -> list[str]:
        """Do what the image does at its first start, and return what its own configuration says."""
        environ = self._environ(name)
        self._own(name, "/var/lib/postgresql/data")
        done = subprocess.run(
            [
                str(self._postgresql / "initdb"),
                *("-D", environ["PGDATA"], "-U", environ["POSTGRES_USER"], "--no-sync", "--locale=C", "-E", "UTF8"),
                f"--pwfile={environ['POSTGRES_PASSWORD_FILE']}",
                *environ["POSTGRES_INITDB_ARGS"].split(),
            ],
            env=environ, user=self._user(name), cwd=self._own(name, "/"), capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        single = [str(self._postgresql / "postgres"), "--single", "-D", environ["PGDATA"], "postgres"]
        subprocess.run(
            single, input=f"CREATE DATABASE {environ['POSTGRES_DB']}\n", env=environ, user=self._user(name),
            cwd=self._own(name, "/"), capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        return ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
