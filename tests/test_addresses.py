"""URLs, credentials and headers of the configuration can be used where they go, and never show what is secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.addresses import (
    parse_base_url,
    parse_collector,
    parse_header_name,
    parse_header_value,
    parse_ledger,
    parse_secret,
    parse_store,
)
from proxy.mistakes import Wrong, describe_value


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        (None, None),
    ],
)
def test_a_base_url_is_taken_without_its_trailing_slash(written, taken):
    assert parse_base_url(written) == taken


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "http:///v1",
        "http://h:99999",
        "http://[::1",
        "http://h/ v1",
        "http://h/\tv1",
        "http://h/v1?",
        "http://h/#",
        "https://u@h/v1",
        5,
        "http://exämple",
    ],
)
def test_what_is_no_base_url_is_refused(url):
    with pytest.raises(Wrong):
        parse_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://127.0.0.1",
        "redis://:pw@127.0.0.1:6379/2",
        "rediss://user:pw@h/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=1",
        "redis+cluster://user:pw@127.0.0.1:7000,127.0.0.1:7001",
        "rediss+sentinel://:pw@127.0.0.1:26379,[::1]:26379/mymaster/2",
    ],
)
def test_a_store_is_the_embedded_one_or_a_url(url):
    assert parse_store(url) == url


@pytest.mark.parametrize(
    "url", ["", "redis", "redis://", "http://h", "unix://", "redis://h:port", "redis://h/x", None, 6379]
)
def test_what_is_no_store_is_refused(url):
    with pytest.raises(Wrong):
        parse_store(url)


@pytest.mark.parametrize("url", ["embedded", "postgresql://user:pw@127.0.0.1:5432/usage", "postgresql:///usage"])
def test_a_ledger_is_the_embedded_one_or_a_database(url):
    assert parse_ledger(url) == url


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector.example/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
        (None, None),
    ],
)
def test_a_collector_without_a_path_has_the_standard_s(written, taken):
    assert parse_collector(written) == taken


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:4318", "grpc://h:4317", "http://u:p@h", "http://h?a=b", "http://h#a", 1]
)
def test_what_is_no_collector_is_refused(url):
    with pytest.raises(Wrong):
        parse_collector(url)


@pytest.mark.parametrize("url", ["", "mysql://h/usage", "postgres", None])
def test_what_is_no_ledger_is_refused(url):
    with pytest.raises(Wrong):
        parse_ledger(url)


def test_a_credential_does_not_show_itself():
    secret = parse_secret("sk-very-secret")
    assert secret is not None
    assert secret.get_secret_value() == "sk-very-secret"
    assert "very" not in f"{secret!r} {secret}"


@given(st.text(min_size=1, max_size=60) | st.integers() | st.lists(st.text(min_size=1), min_size=1))
def test_a_credential_is_one_line_of_visible_ascii_or_refused_without_being_quoted(value):
    try:
        secret = parse_secret(value)
    except Wrong as refusal:
        problem = refusal.problem
    else:
        assert secret is not None
        text = secret.get_secret_value()
        assert text == value
        assert text.strip() == text
        assert all(" " <= character <= "~" for character in text)
        return
    assert "{value}" not in problem


def test_a_header_needs_a_value():
    with pytest.raises(Wrong):
        parse_header_value(None)


@pytest.mark.parametrize("name", ["X-Title", "http-referer", "anthropic_version"])
def test_further_headers_may_have_any_other_name(name):
    assert parse_header_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "AUTHORIZATION",
        "content-type",
        "Accept-Encoding",
        "connection",
        "transfer-encoding",
        "",
        "a b",
        "a:b",
        "ä",
        "a\r\nb",
        1,
    ],
)
def test_headers_that_the_gateway_sets_and_what_is_no_name_are_refused(name):
    with pytest.raises(Wrong):
        parse_header_name(name)


@given(
    scheme=st.sampled_from(["redis://", "postgresql://", "https://", "redis+cluster://", ""]),
    user=st.text(alphabet="abc", max_size=3),
    password=st.text(alphabet=st.sampled_from("SECRET:/?#@[]%"), min_size=1).map(lambda text: f"{text}S"),
)
def test_a_password_in_a_url_is_never_described(scheme, user, password):
    """Whatever characters it has, and however little the rest looks like a URL."""
    described = describe_value(f"{scheme}{user}:{password}@host:6379/0")
    assert not set("SECRT") & set(described)
