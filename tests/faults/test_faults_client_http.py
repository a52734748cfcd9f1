"""Hostile and careless HTTP against a real gateway: each row is refused as its rule says, and reaches no provider.

One gateway serves all rows of the file; whatever a row does to its connection must not touch the next.
"""

from collections.abc import Iterator

import http_framing_vectors as framing
import http_head_vectors as heads
import pytest
from http_vectors import BODY, CHAT, SMUGGLED, Vector, chat, lines
from two_sides import TwoSides, envelope, two_sides

REFUSED = [
    *heads.START_LINES, *heads.TARGETS, *heads.FIELDS, *framing.LENGTHS, *framing.CODINGS, *framing.CHUNKS,
    *framing.URLS, *framing.METHODS, *framing.MEDIA,
]  # fmt: skip
TAKEN = [*heads.TAKEN, *framing.TAKEN]
MODELS = lines("GET /v1/models HTTP/1.1", "Host: gateway")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoSides]:
    with two_sides(tmp_path_factory.mktemp("gateway")) as sides:
        yield sides


def test_there_are_enough_rows_and_each_is_one_of_a_kind():
    rows = REFUSED + TAKEN
    assert len(rows) >= 200
    assert len({row.name for row in rows}) == len(rows)
    assert len({row.data for row in rows}) == len(rows)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_it_is_refused_in_the_envelope_and_reaches_no_provider(sides: TwoSides, row: Vector):
    before = sides.provider.counts
    with sides.client() as client:
        answer = client.ask(sides.bytes_of(row.data))
        envelope(answer, row.status, row.kind, row.code)
        assert (answer.header("Connection") == "close") is row.closed
        assert (answer.header("Allow") is not None) is (row.status == 405)
        if row.closed:
            assert client.ended()
        else:
            assert client.ask(MODELS, method="GET").status == 200
    assert sides.provider.counts == before


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row.name)
def test_what_http_allows_is_served(sides: TwoSides, row: Vector):
    before = sides.provider.requests
    with sides.client() as client:
        answer = client.ask(sides.bytes_of(row.data))
        assert answer.status == 200, answer.body
        assert answer.json["choices"][0]["message"]["content"] == "Hello."
        assert (answer.header("Connection") == "close") is row.closed
        if row.closed:
            assert client.ended()
        else:
            assert client.ask(MODELS, method="GET").status == 200
    assert sides.provider.requests == before + 1


# But for a request that is answered before its body has come: what stands there instead is refused after the answer.
CUT = [
    row for row in heads.FIELDS + framing.CODINGS + framing.CHUNKS if len(row.data) < 500 and CHAT.encode() in row.data
]
BYTEWISE = CUT[::7]


@pytest.mark.parametrize("row", BYTEWISE, ids=lambda row: row.name)
def test_it_is_refused_alike_however_its_bytes_are_cut(sides: TwoSides, row: Vector):
    before = sides.provider.counts
    data = sides.bytes_of(row.data.removesuffix(SMUGGLED))
    with sides.client() as client:
        client.sock.setsockopt(6, 1, 1)  # TCP_NODELAY: each byte travels alone
        for byte in data[:-1]:
            try:
                client.send(bytes([byte]))
            except ConnectionError:  # refused before its end
                break
        else:
            client.send(data[-1:] + SMUGGLED)
        answer = client.answer()
        assert (answer.status, answer.error["type"]) == (row.status, row.kind)
        assert client.ended()
    assert sides.provider.counts == before


@pytest.mark.parametrize("row", framing.LENGTHS[:3] + framing.CODINGS[:3] + heads.FIELDS[:3], ids=lambda row: row.name)
def test_a_good_request_before_it_is_answered_first(sides: TwoSides, row: Vector):
    with sides.client() as client:
        client.send(sides.bytes_of(chat() + row.data))
        assert client.answer().status == 200
        envelope(client.answer(), row.status, row.kind, row.code)
        assert client.ended()


def test_a_repeated_head_is_looked_at_as_the_first_was(sides: TwoSides):
    """A connection that has been good so far gets no more lenient reading."""
    good = sides.bytes_of(chat())
    with sides.client() as client:
        for _ in range(3):
            assert client.ask(good).status == 200
        client.send(good.replace(b"Content-Length: 61", b"Content-Length: +61") + SMUGGLED)
        envelope(client.answer(), 400, "invalid_request_error", "invalid_http")
        assert client.ended()


def test_one_hundred_requests_at_once_are_answered_in_their_order(sides: TwoSides):
    """C-11."""
    with sides.client() as client:
        client.send(b"".join(lines(f"GET /v1/models/none-{n} HTTP/1.1", "Host: gateway") + MODELS for n in range(50)))
        statuses = [client.answer(method="GET").status for _ in range(100)]
    assert statuses == [404, 200] * 50


@pytest.mark.parametrize("first", ["POST /v1/chat/completions HTTP/1.1", "GET /v1/models HTTP/1.1"])
def test_a_client_that_sends_no_more_still_gets_its_answer(sides: TwoSides, first: str):
    """C-12."""
    with sides.client() as client:
        client.send(sides.bytes_of(chat(first=first)))
        client.sock.shutdown(1)
        answer = client.answer()
        while answer.status == 100:
            answer = client.answer()
        assert answer.status == 200
        assert client.ended()


def test_all_requests_before_the_end_of_sending_are_answered(sides: TwoSides):
    """C-12."""
    with sides.client() as client:
        client.send(sides.bytes_of(chat()) + MODELS)
        client.sock.shutdown(1)
        final: list[int] = []
        while len(final) < 2:
            status = client.answer().status
            if status != 100:  # as many as the first answer takes long
                final.append(status)
        assert final == [200, 200]


@pytest.mark.parametrize("data", [chat()[:-1], chat()[: -len(BODY)], chat()[:40], b""])
def test_a_client_that_ends_within_its_request_costs_nothing(sides: TwoSides, data: bytes):
    """C-01."""
    before = sides.provider.counts
    with sides.client() as client:
        client.send(sides.bytes_of(data))
        client.sock.shutdown(1)
        assert client.ended()
    assert sides.provider.counts == before
