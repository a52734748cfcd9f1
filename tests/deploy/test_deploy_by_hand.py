"""The services of docker-compose.yml run and are well, by their own health checks: real servers, no engine."""

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from by_hand import PATIENCE, ByHand
from gateway_process import eventually

from tests.conftest import missing

LOAD_SECONDS = "4"


def programs_of_postgresql() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else missing("PostgreSQL", "postgresql")


@pytest.fixture(scope="module")
def stack() -> Iterator[ByHand]:
    """Everything that `docker compose --profile demo up` starts, but Grafana; the load has ended."""
    for program, package in (("redis-server", "redis-server"), ("prometheus", "prometheus"), ("wget", "wget")):
        _ = shutil.which(program) or missing(program, package)
    # Not in pytest's own folder, into which no other user can look, such as the one that PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="aion-compose-", dir="/tmp") as folder:
        stack = ByHand(Path(folder), programs_of_postgresql())
        try:
            for name in ("redis", "postgres", "gateway", "prometheus"):
                stack.start(name)
            stack.start("load", "--seconds", LOAD_SECONDS)
            assert stack.wait("load") == 0, stack.log("load")
            yield stack
        finally:
            stack.stop_all()


@pytest.mark.parametrize("name", ["gateway", "redis", "postgres", "prometheus"])
def test_a_service_is_well_by_its_own_health_check(stack, name):
    stack.wait_well(name)


def test_the_load_asks_and_is_answered(stack):
    assert " requests in " in stack.log("load")


def test_what_the_load_used_is_in_postgresql(stack):
    password, port = stack.secret("ledger_password"), stack.ports["postgres", 5432]
    with psycopg.connect(f"postgresql://gateway:{password}@127.0.0.1:{port}/usage") as connection:
        assert eventually(lambda: connection.execute("SELECT count(*) FROM usage").fetchone()[0] > 0, PATIENCE)


def test_nobody_gets_into_the_database_without_its_password(stack):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://gateway@127.0.0.1:{stack.ports['postgres', 5432]}/usage").close()


def test_accounts_are_in_redis_for_the_gateway_s_user_alone(stack):
    port = stack.ports["redis", 6379]
    with redis.Redis(port=port, username="gateway", password=stack.secret("store_password")) as gateway:
        assert next(gateway.scan_iter("aion:*"), None)
        with pytest.raises(redis.exceptions.NoPermissionError):
            gateway.get("something else")
        assert gateway.config_get("appendonly") == {"appendonly": "yes"}
        assert gateway.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with redis.Redis(port=port) as nobody:
        assert nobody.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            nobody.get("aion:x")


def test_the_gateway_s_commands_work_in_its_container(stack):
    done = stack.run("gateway", "aion-proxy", "accounts", "list", "--json")
    assert done.returncode == 0, done.stderr
    assert {one["account"] for one in json.loads(done.stdout)["accounts"]} >= {"demo_web", "demo_batch", "demo_tight"}


def test_prometheus_sees_the_gateway(stack):
    def sees() -> bool:
        url = f"http://127.0.0.1:{stack.ports['prometheus', 9090]}/api/v1/query?query=up"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return [one["value"][1] for one in json.load(answer)["data"]["result"]] == ["1"]

    assert eventually(sees, PATIENCE)


def test_a_health_check_notices_that_its_service_is_ill(stack):
    """And the gateway ends well when it is told to."""
    assert stack.stop("gateway") == 0
    assert not stack.is_well("gateway")
