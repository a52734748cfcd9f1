"""What the ledger's database keeps of people, and the requests that they look at, in SQLite and PostgreSQL."""

from dataclasses import replace

from rows import HOUR, row

from proxy.ledger import people
from proxy.ledger.database import Ledger
from proxy.ledger.people import AuditEntry, DashboardToken
from proxy.ledger.requests import Filter, Place, Quality, counts, newest, one, quality
from proxy.ledger.schema import CUT_SHORT

TOKEN = DashboardToken("dt_1", "acme", "d" * 64, "Ann", 1_000)
ENTRY = AuditEntry("1", 1_000, "operator", "create key", "acme", "acme", '{"name":"é"}', "begun")


def test_a_token_is_found_by_its_digest_and_its_id(ledger: Ledger):
    with ledger.writing() as connection:
        people.add_token(connection, TOKEN)
        people.add_token(connection, replace(TOKEN, token_id="dt_2", digest="e" * 64, account="other"))
    with ledger.reading() as connection:
        assert people.token_with(connection, "d" * 64) == people.token(connection, "dt_1") == TOKEN
        assert people.token_with(connection, "f" * 64) is None
        assert people.tokens_of(connection, "acme") == [TOKEN]


def test_a_token_that_is_revoked_again_was_revoked_when_it_was(ledger: Ledger):
    with ledger.writing() as connection:
        people.add_token(connection, TOKEN)
        people.revoke_token(connection, "dt_1", 2_000)
        people.revoke_token(connection, "dt_1", 3_000)
    with ledger.reading() as connection:
        assert people.token(connection, "dt_1") == replace(TOKEN, revoked_at=2_000)


def test_a_token_is_good_until_it_is_revoked_or_over():
    assert TOKEN.good(10**15)
    assert not replace(TOKEN, revoked_at=2_000).good(3_000)
    assert replace(TOKEN, expires_at=2_000).good(1_999)
    assert not replace(TOKEN, expires_at=2_000).good(2_000)


def test_entries_come_the_latest_first_by_account_and_page(ledger: Ledger):
    with ledger.writing() as connection:
        for number in range(4):
            of = "acme" if number % 2 else "other"
            people.add_entry(connection, replace(ENTRY, entry_id=str(number), at=1_000 + number, account=of))
        people.set_outcome(connection, "3", "done", "key_1")
    with ledger.reading() as connection:
        assert [entry.entry_id for entry in people.entries(connection, None, 3)] == ["3", "2", "1"]
        assert [entry.entry_id for entry in people.entries(connection, None, 3, before=(1_001, "1"))] == ["0"]
        (last, first) = people.entries(connection, "acme", 9)
    assert (last.outcome, last.subject) == ("done", "key_1")
    assert first == replace(ENTRY, entry_id="1", at=1_001)


def test_entries_of_the_same_moment_are_on_one_page_or_on_the_next(ledger: Ledger):
    with ledger.writing() as connection:
        for number in range(5):
            people.add_entry(connection, replace(ENTRY, entry_id=str(number), at=1_000))
    with ledger.reading() as connection:
        first = people.entries(connection, None, 2)
        second = people.entries(connection, None, 9, before=(first[-1].at, first[-1].entry_id))
    assert [entry.entry_id for entry in (*first, *second)] == ["4", "3", "2", "1", "0"]


def test_requests_are_read_back_as_they_were_written_the_latest_first(ledger: Ledger):
    written = [row(number, stream=bool(number % 2), metadata='{"a":1}') for number in range(4)]
    ledger.insert(written)
    with ledger.reading() as connection:
        assert newest(connection, Filter(), 9) == written[::-1]
        assert newest(connection, Filter(), 2, Place(HOUR + 2, written[2].request_id)) == [written[1], written[0]]
        assert one(connection, written[1].request_id) == written[1]
        assert one(connection, "req_none") is None


def test_requests_are_found_by_their_ending_the_rare_ones_by_an_index(ledger: Ledger):
    written = [row(number, ending="cut" if number % 3 else "complete") for number in range(6)]
    ledger.insert(written)
    with ledger.reading() as connection:
        for ending in ("cut", "complete", "crashed"):
            assert newest(connection, Filter(ending=ending), 9) == [
                one for one in reversed(written) if one.ending == ending
            ]
        if connection.dialect.name == "sqlite":  # PostgreSQL reads a table of six rows without any index
            query = f"EXPLAIN QUERY PLAN SELECT * FROM usage WHERE ending = ? AND {CUT_SHORT}"  # noqa: S608 - ours
            (plan,) = connection.exec_driver_sql(query, ("cut",)).all()
            assert "usage_cut_short" in plan[-1]


def test_requests_of_one_moment_are_all_on_some_page(ledger: Ledger):
    ledger.insert([row(number, started_at=HOUR) for number in range(5)])
    seen, place = [], None
    with ledger.reading() as connection:
        while page := newest(connection, Filter(account="acme"), 2, place):
            seen += [record.request_id for record in page]
            place = Place(page[-1].started_at, page[-1].request_id)
    assert sorted(seen) == [row(number).request_id for number in range(5)]


def test_quality_looks_at_the_latest_alone(ledger: Ledger):
    ledger.insert(
        [
            row(1, ending="crashed", ttft_ms=1),
            row(2, ending="client_gone", ttft_ms=30),
            row(3, ending="cut", ttft_ms=10),
            row(4, ttft_ms=20),
            row(5, ttft_ms=None, account="other"),
        ]
    )
    with ledger.reading() as connection:
        assert quality(connection, Filter(), 4).together == Quality(4, 1, 20)
        assert quality(connection, Filter(account="other"), 4).together == Quality(1, 0, None)
        assert quality(connection, Filter(account="nobody"), 4).together == Quality(0, 0, None)
        assert (counts(connection, None), counts(connection, "other"), counts(connection, "nobody")) == (5, 1, 0)
