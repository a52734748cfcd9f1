"""What is made of a provider's configuration once: its head lines, its secrets, and what survives a reload."""

import asyncio

from proxy.upstream.providers import Upstream, open_upstreams
from raw_upstream import answering, http, raw_upstream
from specimens import KEY, provider


def upstream(**fields) -> Upstream:
    made = provider(**fields)
    return Upstream("one", made, made.base_url, asyncio.get_running_loop())


async def test_the_key_is_sent_as_a_bearer():
    assert upstream().head_lines == f"Authorization: Bearer {KEY}\r\n".encode()


async def test_the_key_may_have_a_header_of_its_own():
    assert upstream(auth_header="api-key").head_lines == f"api-key: {KEY}\r\n".encode()


async def test_the_key_may_be_kept_back():
    assert upstream(auth_header="none").head_lines == b""


async def test_without_a_key_nothing_is_sent():
    assert upstream(api_key=None).head_lines == b""


async def test_the_operators_own_headers_follow():
    lines = upstream(headers={"X-Title": "Gateway"}).head_lines
    assert lines == f"Authorization: Bearer {KEY}\r\nX-Title: Gateway\r\n".encode()


async def test_the_path_of_the_base_url_is_kept():
    assert upstream(base_url="http://h/api/v1").origin.path == "/api/v1"


async def test_the_field_of_earlier_reasoning_is_learnt_from_answers():
    provider = upstream()
    provider.learn("reasoning_content")
    provider.learn(None)
    assert provider.reasoning_field == "reasoning_content"


async def test_the_field_that_a_profile_names_is_not_learnt_anew():
    provider = upstream(reasoning_field="reasoning")
    provider.learn("reasoning_content")
    assert provider.reasoning_field == "reasoning"


async def test_its_secrets_are_its_key_its_headers_and_where_it_is():
    found = upstream(base_url="http://inner.host:8000/v1", headers={"X-Token": "token-1"}).secrets()
    assert {KEY, "token-1", "http://inner.host:8000/v1", "inner.host:8000", "inner.host"} <= set(found)


async def test_a_provider_without_a_key_has_no_empty_secret():
    assert all(upstream(api_key=None).secrets())


async def test_it_shows_its_host_and_never_its_key():
    shown = repr(upstream(base_url="http://h:8000/v1"))
    assert shown == "<Upstream one at h:8000>"


async def test_a_reload_keeps_what_did_not_change_and_closes_the_rest():
    loop = asyncio.get_running_loop()
    async with raw_upstream(answering(http(b"{}"))) as server:
        kept, changed, gone = (provider(server.port) for _ in range(3))
        former = open_upstreams({"kept": kept, "changed": changed, "gone": gone}, {}, loop)
        closed = [former[name].pool for name in ("changed", "gone")]
        new = open_upstreams(
            {"kept": provider(server.port), "changed": provider(server.port, api_key="another"), "new": provider()},
            {},
            loop,
            former,
        )
        assert new["kept"] is former["kept"]
        assert new["changed"] is not former["changed"]
        assert new.keys() == {"kept", "changed", "new"}
        assert [pool._closed for pool in closed] == [True, True]
        assert not new["kept"].pool._closed


async def test_a_built_in_provider_is_where_it_was_started():
    made = provider(base_url=None, api_key=None, builtin="demo")
    loop = asyncio.get_running_loop()
    one = open_upstreams({"demo": made}, {"demo": "http://127.0.0.1:1111/v1"}, loop)
    assert one["demo"].origin.port == 1111
    again = open_upstreams({"demo": made}, {"demo": "http://127.0.0.1:2222/v1"}, loop, one)
    assert again["demo"].origin.port == 2222
    assert one["demo"].pool._closed
