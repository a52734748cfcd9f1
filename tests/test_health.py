"""The admin port: alive, ready or why not, and the metrics; nothing else."""

import pytest
from aiohttp import ClientSession, web
from prometheus_client.parser import text_string_to_metric_families

from proxy.health import OwnMetrics, admin_application, forget_worker, metrics_page


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
async def ask(tmp_path, reasons):
    runner = web.AppRunner(
        admin_application(OwnMetrics("1.2.3"), tmp_path, lambda: (not reasons, reasons)), access_log=None
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with ClientSession() as session:

        async def ask(path: str, method: str = "GET"):
            async with session.request(method, f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, answer.headers, await answer.read()

        yield ask
    await runner.cleanup()


async def test_a_process_that_can_answer_is_alive(ask, reasons):
    reasons.append("the store is away")
    assert (await ask("/healthz"))[0] == 200


async def test_it_is_ready_when_nothing_speaks_against_it(ask):
    status, headers, body = await ask("/readyz")
    assert (status, body) == (200, b'{"ready": true, "reasons": []}')
    assert headers["Content-Type"].startswith("application/json")


async def test_it_says_why_it_is_not_ready(ask, reasons):
    reasons.append("the store is away")
    status, _, body = await ask("/readyz")
    assert (status, body) == (503, b'{"ready": false, "reasons": ["the store is away"]}')


async def test_it_may_be_ready_and_say_what_is_wrong(tmp_path, aiohttp_client):
    readiness = True, ["the store is away"]
    client = await aiohttp_client(admin_application(OwnMetrics("1"), tmp_path, lambda: readiness))
    answer = await client.get("/readyz")
    assert (answer.status, await answer.json()) == (200, {"ready": True, "reasons": ["the store is away"]})


async def test_the_metrics_are_prometheus_text(ask):
    status, headers, body = await ask("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["aion_build_info"].samples[0].labels == {"version": "1.2.3"}
    assert families["aion_config_reload_success"].samples[0].value == 1


@pytest.mark.parametrize("path", ["/", "/v1/models", "/metrics/x", "/%00"])
async def test_anything_else_is_not_there_and_is_told_what_is(ask, path):
    status, _, body = await ask(path)
    assert status == 404
    for page in (b"/healthz", b"/readyz", b"/metrics"):
        assert page in body


async def test_another_method_is_told_which_are_allowed(ask):
    status, headers, body = await ask("/readyz", "POST")
    assert status == 405
    assert set(headers["Allow"].split(",")) == {"GET", "HEAD"}
    assert b'"error"' in body


async def test_a_probe_may_ask_for_the_head_alone(ask, reasons):
    reasons.append("no")
    assert (await ask("/readyz", "HEAD"))[0] == 503


class TestOwnMetrics:
    def value(self, own: OwnMetrics, name: str) -> float | None:
        return own.registry.get_sample_value(name)

    def test_a_reload_that_failed_shows_until_one_succeeds(self):
        own = OwnMetrics("1")
        own.reloaded(success=False, at=1.0)
        assert self.value(own, "aion_config_reload_success") == 0
        own.reloaded(success=True, at=2.0)
        assert self.value(own, "aion_config_reload_success") == 1

    def test_workers_that_died_are_counted(self):
        own = OwnMetrics("1")
        own.worker_restarted()
        own.worker_restarted()
        assert self.value(own, "aion_worker_restarts") == 2


class TestWorkersFiles:
    def test_a_file_that_nothing_was_written_to_yet_does_no_harm(self, tmp_path):
        (tmp_path / "counter_0.db").touch()
        (tmp_path / "gauge_livesum_0.db").touch()
        assert b"aion_build_info" in metrics_page(OwnMetrics("1"), tmp_path)

    def test_only_the_gauges_of_the_worker_that_died_go(self, tmp_path):
        stay = ["counter_1.db", "histogram_1.db", "gauge_livesum_0.db", "gauge_livemin_11.db", "gauge_all_1.db"]
        go = ["gauge_livesum_1.db", "gauge_livemin_1.db"]
        for name in (*stay, *go):
            (tmp_path / name).touch()
        forget_worker(tmp_path, 1)
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted(stay)
        forget_worker(tmp_path, 1)
