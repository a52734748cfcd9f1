"""What an operator sees of a running gateway: readiness, metrics, log lines; and what nobody must see there."""

import json

import pytest
from gateway_process import eventually
from prometheus_client.parser import text_string_to_metric_families
from provider_scripts import failing, talking, usage, whole
from raw_client import chat, request_bytes

from conftest import MAIN_KEY, SECOND_KEY

FAMILIES = {
    "aion_requests": ("counter", {"endpoint", "model", "provider", "status", "stream"}),
    "aion_refused": ("counter", {"reason"}),
    "aion_tokens": ("counter", {"account", "model", "kind"}),
    "aion_cost_usd": ("counter", {"account", "model"}),
    "aion_usage_source": ("counter", {"source", "ending"}),
    "aion_request_duration_seconds": ("histogram", {"endpoint", "model"}),
    "aion_time_to_first_token_seconds": ("histogram", {"endpoint", "model"}),
    "aion_overhead_seconds": ("histogram", {"endpoint", "model"}),
    "aion_tokens_per_second": ("histogram", {"model"}),
    "aion_in_flight_requests": ("gauge", set()),
    "aion_open_streams": ("gauge", set()),
    "aion_upstream_attempts": ("counter", {"provider", "outcome"}),
    "aion_upstream_up": ("gauge", {"provider"}),
    "aion_store_up": ("gauge", set()),
    "aion_store_call_seconds": ("histogram", {"call"}),
    "aion_config_reload_success": ("gauge", set()),
    "aion_build_info": ("gauge", {"version"}),
}
FACTS = {
    "request_id", "account", "key_id", "endpoint", "model", "provider", "status", "ending", "prompt_tokens",
    "completion_tokens", "cost_usd", "ttft_ms", "duration_ms", "overhead_ms", "attempts", "timestamp", "stream",
}  # fmt: skip
PROMPT, SPOKEN = "prompt-7f3a-of-a-client", "answer-91cc-of-a-model"


def page(gateway) -> dict:
    families = text_string_to_metric_families(gateway.admin_page("/metrics")[1].decode())
    return {family.name: family for family in families}


@pytest.fixture
def busy(gateway, provider, key):
    """A gateway that has seen every kind of request, one of each, by this key or by none."""
    provider.on("main", talking([SPOKEN, " end"], usage(10, 4, cached=2)))
    provider.on("second", failing(500, f"boom {SECOND_KEY}"))
    for stream in (False, True):
        assert key.ask(content=PROMPT, stream=stream).status == 200
    assert key.ask("second", content=PROMPT).status == 502
    assert key.ask("down", content=PROMPT).status == 502
    assert key.ask(f"gpt-{PROMPT}").status == 400
    with gateway.client() as client:
        client.ask(request_bytes("GET", f"/{PROMPT}"))
        client.ask(request_bytes("GET", "/v1/models"))
        client.ask(chat(key.secret + "x"))
    poor = gateway.new_key(budget_nusd=1, budget_per="total")
    assert poor.ask(content=PROMPT).status == 429
    assert eventually(lambda: gateway.metric("aion_tokens_total", account=key.account, kind="completion") == 8)
    return gateway


def test_every_family_is_there_under_its_name_with_its_labels(busy):
    found = page(busy)
    for name, (kind, labels) in FAMILIES.items():
        assert found[name].type == kind, name
        assert found[name].documentation, name
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == labels, sample
        assert found[name].samples, name


def test_labels_are_from_closed_sets(busy, key):
    found = page(busy)
    told = {
        name: {sample.labels[name] for family in found.values() for sample in family.samples if name in sample.labels}
        for name in ("model", "provider", "endpoint", "stream", "kind", "source")
    }
    assert told["model"] <= {"unknown", *json.loads(models(busy))}
    providers = {
        *("main", "second", "quick", "drain", "counting", "down", "dialect", "native", "tagged", "literal", "silenced"),
    }
    assert told["provider"] <= {"none", *providers}
    assert told["endpoint"] <= {"chat", "responses", "models", "unknown"}
    assert told["stream"] == {"true", "false"}
    assert told["kind"] == {"prompt", "cached", "completion", "reasoning"}
    assert told["source"] <= {"upstream", "estimated", "none"}


def models(gateway) -> bytes:
    with gateway.client() as client:
        data = client.ask(request_bytes("GET", "/v1/models")).json["data"]
    return json.dumps([model["id"] for model in data]).encode()


def test_tokens_and_cost_are_counted_by_account(busy, key):
    def counted(kind):
        return busy.metric("aion_tokens_total", account=key.account, model="same", kind=kind)

    assert (counted("prompt"), counted("cached"), counted("completion")) == (20, 4, 8)
    cost = busy.metric("aion_cost_usd_total", account=key.account)
    assert round(cost * 10**12) == 2 * (8 * 800_000 + 2 * 200_000 + 4 * 1_600_000)


def test_attempts_and_reachability_are_told_by_provider(busy):
    assert busy.metric("aion_upstream_attempts_total", provider="main", outcome="ok") >= 2
    assert busy.metric("aion_upstream_attempts_total", provider="second", outcome="upstream_error") >= 1
    assert busy.metric("aion_upstream_attempts_total", provider="down", outcome="upstream_unavailable") >= 1
    assert busy.metric("aion_upstream_up", provider="down") == 0
    assert busy.metric("aion_upstream_up", provider="main") == 1


def test_refusals_are_counted_by_reason(busy):
    for reason in ("authentication", "budget"):
        assert busy.metric("aion_refused_total", reason=reason) >= 1


def test_what_is_open_is_shown_while_it_is_open(gateway, provider, key):
    provider.on("main", lambda exchange: exchange.wait_gone())
    with gateway.client() as one, gateway.client() as two:
        one.send(chat(key.secret))
        two.send(chat(key.secret, stream=True))
        provider.wait_asked(2)
        assert eventually(lambda: gateway.metric("aion_in_flight_requests") == 2)
        assert eventually(lambda: gateway.metric("aion_open_streams") == 1)
    assert eventually(lambda: gateway.metric("aion_in_flight_requests") == 0)
    assert eventually(lambda: gateway.metric("aion_open_streams") == 0)


def test_every_request_leaves_one_line_with_the_facts(busy, key):
    lines = busy.lines_of(key)
    assert len(lines) == 5
    streamed = next(line for line in lines if line["stream"])
    assert streamed.keys() >= FACTS, FACTS - streamed.keys()
    assert (streamed["status"], streamed["cost_usd"]) == (200, "0.0000132")
    assert 0 <= streamed["overhead_ms"] <= streamed["ttft_ms"] <= streamed["duration_ms"]
    ids = [line["request_id"] for line in busy.lines() if line["event"] == "request"]
    assert len(set(ids)) == len(ids)


def test_a_client_cannot_write_lines_into_the_log(gateway, provider, key):
    provider.on("main", whole())
    forged = '{"event":"request","forged":1}'
    data = request_bytes("POST", "/v1/chat/completions", b"{}", key=key.secret, X_Client_Request_Id=forged)
    with gateway.client() as client:
        client.ask(data)
    assert gateway.only_line_of(key)["client_request_id"] == forged
    assert not [line for line in gateway.lines() if "forged" in line]


def test_nothing_secret_is_in_log_metrics_or_files(busy, key):
    """Neither keys (ours, or of providers), nor what clients and models said to each other."""
    secrets = [key.secret, key.secret[:-6], MAIN_KEY, SECOND_KEY, PROMPT, SPOKEN]
    places = {"log": busy.log.read_bytes(), "metrics": busy.admin_page("/metrics")[1]}
    places |= {str(file): file.read_bytes() for file in busy.data_dir.rglob("*") if file.is_file()}
    assert len(places) > 3
    for place, data in places.items():
        for secret in secrets:
            assert secret.encode() not in data, f"{secret} is in {place}"


def test_the_admin_port_says_that_it_lives_and_is_ready(gateway):
    assert gateway.admin_page("/healthz")[0] == 200
    assert gateway.admin_page("/readyz") == (200, b'{"ready": true, "reasons": []}')
    assert gateway.admin_page("/nothing")[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/admin/api/accounts"])
def test_what_is_the_operator_s_is_not_on_the_api_s_port(gateway, path):
    with gateway.client() as client:
        assert client.ask(request_bytes("GET", path)).status == 404


def test_what_is_the_api_s_is_not_on_the_operator_s_port(gateway):
    assert gateway.admin_page("/v1/models")[0] == 404


def test_the_place_of_a_mistake_is_logged_if_the_gateway_found_it_and_not_as_a_provider_says_it(gateway, provider, key):
    said = {"error": {"message": "No.", "type": "invalid_request_error", "param": PROMPT, "code": None}}
    provider.on("main", lambda exchange: exchange.answer(said, 400))
    answer = key.ask(content=PROMPT)
    assert (answer.status, answer.error["param"]) == (400, PROMPT)
    assert "param" not in gateway.request_line(answer.request_id)
    with gateway.client() as client:
        wrong = json.dumps({"model": "same", "messages": [{"role": PROMPT}]}).encode()
        refused = client.ask(request_bytes("POST", "/v1/chat/completions", wrong, key=key.secret))
    assert gateway.request_line(refused.request_id)["param"] == refused.error["param"] == "messages[0].role"
