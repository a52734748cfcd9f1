"""A store's URL says how its server is found; its passwords stay with the servers that they are meant for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url

from proxy.mistakes import Wrong
from proxy.store_url import Node, Topology, read_store_url


def test_one_server_is_one_server():
    url = read_store_url("rediss://user:pw@redis.example:6380/2?ssl_ca_certs=ca.pem")

    assert (url.topology, url.nodes) == (Topology.SINGLE, (Node("redis.example", 6380),))
    assert url.server == "rediss://user:pw@redis.example:6380/2?ssl_ca_certs=ca.pem"


def test_a_cluster_is_found_through_its_nodes():
    url = read_store_url("redis+cluster://user:pw@10.0.0.1:7000,[::1]:7001,third")

    assert url.topology is Topology.CLUSTER
    assert url.nodes == (Node("10.0.0.1", 7000), Node("::1", 7001), Node("third", 6379))
    assert url.server == "redis://user:pw@10.0.0.1:7000"


def test_a_service_of_sentinels_has_a_name_and_may_have_a_database():
    url = read_store_url("redis+sentinel://user:p%2Cw@h1:26379,h2/my%20store/3")

    assert (url.topology, url.service) == (Topology.SENTINEL, "my store")
    assert url.nodes == (Node("h1", 26379), Node("h2", 26379))
    assert parse_url(url.server)["password"] == "p,w"
    assert parse_url(url.server)["db"] == 3


def test_the_credentials_of_the_servers_are_not_shown_to_the_sentinels():
    url = read_store_url("redis+sentinel://user:secret@h1/main?sentinel_username=watch&sentinel_password=w%40tch")

    assert "secret" not in url.sentinel
    assert "tch" not in url.server
    assert parse_url(url.sentinel)["username"] == "watch"
    assert parse_url(url.sentinel)["password"] == "w@tch"


def test_tls_is_for_the_sentinels_too():
    url = read_store_url("rediss+sentinel://h1/main?ssl_ca_certs=ca.pem")

    assert url.sentinel == "rediss://h1:26379?ssl_ca_certs=ca.pem"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://a,b", "several"),
        ("redis+sentinel://a,b", "service"),
        ("redis+sentinel://a/main/x", "service"),
        ("redis+sentinel:///main", "host"),
        ("redis+cluster://a:1,", "host"),
        ("redis+cluster://a:1,b:70000", "host"),
        ("redis+cluster://a/1", "numbered"),
        ("redis+cluster:", "starts with"),
        ("redis+unix://a", "starts with"),
        ("redis://[::1", "host"),
        ("redis://a b", "starts with"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_remedy(url, why):
    with pytest.raises(Wrong, match=why):
        read_store_url(url)


@given(st.text(alphabet="xz", min_size=1, max_size=4), st.text(alphabet="%,:;!", min_size=1, max_size=9))
def test_a_password_is_in_no_representation(user, password):
    for scheme, rest in (("redis", ""), ("redis+cluster", ",h2"), ("redis+sentinel", ",h2/main")):
        shown = repr(read_store_url(f"{scheme}://{user}:{password}@h1{rest}"))
        assert not set("xz%;!") & set(shown)
