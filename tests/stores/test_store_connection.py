"""The connection to the store: batching, order, and every way in which a server can let one down."""

import asyncio
import contextlib
import os
import signal
import socket
from urllib.parse import urlsplit

import pytest
from explained import explained
from redis.asyncio.connection import SSLConnection

from proxy.errors import StoreUnavailable
from proxy.stores.connection import BATCH_LIMIT, FIRST_PAUSE, StoreConnection
from proxy.stores.data_dir import ask
from proxy.stores.embedded import EmbeddedStore
from proxy.stores.scripts import Script, load_script
from proxy.stores.server import Server
from tests.stores.fake_server import fake_server, pong

QUICK = {"call_timeout": 0.1, "connect_timeout": 0.1}


@contextlib.asynccontextmanager
async def connected(url, **options):
    connection = StoreConnection(url, **options)
    try:
        await connection.connect()
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may hurt; it writes before it answers, so that nothing is lost when it is killed."""
    server = EmbeddedStore.start(tmp_path / "data")
    assert ask(server.path, b"CONFIG SET appendfsync always") == b"+OK\r\n"
    yield server
    server.stop()


class Changes:
    """Records what `on_change` was told, and lets a test wait for it."""

    def __init__(self):
        self.told = []
        self.news = asyncio.Event()

    def __call__(self, up):
        self.told.append(up)
        self.news.set()

    async def until(self, *told):
        async with asyncio.timeout(10):
            while tuple(self.told) != told:
                self.news.clear()
                await self.news.wait()


def kill(server):
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


# one lane, many calls


async def test_replies_belong_to_their_calls(store):
    replies = await asyncio.gather(*[store.call("ECHO", str(number)) for number in range(2000)])

    assert replies == [str(number).encode() for number in range(2000)]


async def test_calls_of_one_turn_of_the_loop_go_out_as_one_piece(tmp_path):
    async with fake_server(tmp_path) as fake, connected(fake.url) as connection:
        await asyncio.gather(*[connection.call("ECHO", number) for number in range(10)])

        assert [len(piece) for piece in fake.pieces] == [10]


async def test_a_long_queue_goes_out_in_bounded_batches(tmp_path):
    async with fake_server(tmp_path) as fake, connected(fake.url) as connection:
        await asyncio.gather(*[connection.call("PING") for _ in range(BATCH_LIMIT + 1)])

        assert max(len(piece) for piece in fake.pieces) <= BATCH_LIMIT


async def test_an_error_of_the_server_concerns_its_own_call_only(store):
    good, bad, also_good = store.call("ECHO", "a"), store.call("NO-SUCH-COMMAND"), store.call("ECHO", "b")

    assert await good == b"a"
    with pytest.raises(StoreUnavailable, match="unknown command"):
        await bad
    assert await also_good == b"b"
    assert store.up


async def test_words_may_be_bytes_text_and_numbers(store):
    await store.call("SET", b"\xff\x00", 7)

    assert await store.call("GET", b"\xff\x00") == b"7"
    assert await store.call("GET", "nothing") is None


async def test_a_word_of_another_type_fails_at_the_caller(store):
    with pytest.raises(TypeError):
        store.call("SET", "a", None)

    assert await store.call("ECHO", "b") == b"b"


async def test_a_call_cancelled_before_it_went_out_is_never_sent(tmp_path):
    async with fake_server(tmp_path) as fake, connected(fake.url) as connection:
        calls = [connection.call("ECHO", name) for name in "abc"]
        calls[1].cancel()

        assert (await calls[0], await calls[2]) == (b"a", b"c")
        assert fake.pieces == [[[b"ECHO", b"a"], [b"ECHO", b"c"]]]


async def test_a_call_cancelled_on_its_way_leaves_the_others_their_replies(tmp_path):
    sent = asyncio.Event()

    def slow_first(command):
        sent.set()
        return b"$1\r\n%s\r\n" % command[1]

    async with fake_server(tmp_path, slow_first) as fake, connected(fake.url) as connection:
        calls = [connection.call("ECHO", name) for name in "abc"]
        await sent.wait()
        calls[0].cancel()

        assert (await calls[1], await calls[2]) == (b"b", b"c")


async def test_durations_are_told_per_name(embedded_url):
    told = []
    async with connected(embedded_url, on_call=lambda name, seconds: told.append((name, seconds))) as connection:
        script = Script("answer", "#!lua\nreturn 42", "0" * 40)
        await asyncio.gather(
            connection.call("ECHO", "a"), connection.call("ECHO", "b"), connection.script(script, (), ())
        )

    assert sorted(name for name, _ in told) == ["ECHO", "answer", "answer"]
    assert all(0 <= seconds < 10 for _, seconds in told)


# scripts


async def test_a_script_that_the_server_does_not_know_is_sent_as_text_once(store):
    script = load_script("probe")
    await store.call("SCRIPT", "FLUSH")

    assert await asyncio.gather(*[store.script(script, ("p",), ()) for _ in range(5)]) == [1] * 5
    assert await store.call("SCRIPT", "EXISTS", script.sha) == [1]


async def test_a_script_that_fails_is_not_run_again(store):
    text = "#!lua\nredis.call('INCR', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')"
    script = Script("bad", text, await store.call("SCRIPT", "LOAD", text))

    with pytest.raises(StoreUnavailable, match="wrong kind of value"):
        await store.script(script, ("n",), ())

    assert await store.call("GET", "n") == b"1"


# servers that go and come


async def test_a_server_that_dies_fails_what_waits_and_is_used_again_when_it_is_back(own_server):
    changes = Changes()
    async with connected(own_server.url, on_change=changes) as connection:
        await connection.call("SET", "a", "1")
        blocked = connection.call("BLPOP", "nothing", "0")
        await connection_is_busy(own_server)
        behind = connection.call("ECHO", "b")
        kill(own_server)

        for call in (blocked, behind):
            with pytest.raises(StoreUnavailable, match=r"store\.sock cannot be used"):
                await call
        await changes.until(True, False)
        assert not connection.up
        assert "cannot be used" in connection.detail

        own_server.restart()
        await changes.until(True, False, True)
        assert await connection.call("GET", "a") == b"1"
        assert connection.detail == ""


async def connection_is_busy(server):
    """Wait until the server has a client that it keeps waiting."""
    async with asyncio.timeout(10), connected(server.url) as other:
        while b"blocked_clients:1" not in await other.call("INFO", "clients"):  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.001)


async def test_calls_fail_at_once_while_the_store_is_away(tmp_path):
    connection = StoreConnection(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(StoreUnavailable, match=r"nobody\.sock"):
        await connection.connect()

    call = connection.call("PING")

    assert call.done()
    with pytest.raises(StoreUnavailable):
        await call
    await connection.close()


async def test_a_store_that_comes_later_is_used_by_itself(tmp_path):
    changes = Changes()
    connection = StoreConnection(f"unix://{tmp_path}/data/store.sock", on_change=changes)
    with pytest.raises(StoreUnavailable):
        await connection.connect()

    server = EmbeddedStore.start(tmp_path / "data")
    try:
        await changes.until(True)
        assert await connection.call("ECHO", "a") == b"a"
    finally:
        await connection.close()
        server.stop()


async def test_a_server_restarted_while_nothing_was_asked_is_not_noticed_by_callers(own_server):
    changes = Changes()
    async with connected(own_server.url, on_change=changes, idle_check=60) as connection:
        await connection.call("SET", "a", "1")
        kill(own_server)
        own_server.restart()
        for _ in range(3):
            await asyncio.sleep(0)  # let the loop see the end of the old connection

        assert await connection.call("GET", "a") == b"1"
        assert changes.told == [True]


async def test_a_server_that_dies_while_nothing_is_asked_is_noticed(own_server):
    changes = Changes()
    async with connected(own_server.url, on_change=changes, idle_check=0.01):
        kill(own_server)

        await changes.until(True, False)


async def test_a_server_that_accepts_and_never_answers_is_given_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as black_hole:
        black_hole.bind(str(tmp_path / "hole.sock"))
        black_hole.listen()
        connection = StoreConnection(f"unix://{tmp_path}/hole.sock", **QUICK)

        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match="did not answer in time"):
                await connection.connect()
            await connection.close()


async def test_a_server_that_falls_silent_fails_its_calls_and_the_connection(tmp_path):
    changes = Changes()
    async with fake_server(tmp_path, lambda command: None) as fake:
        async with connected(fake.url, on_change=changes, **QUICK) as connection:
            calls = [connection.call("ECHO", name) for name in "ab"]

            for call in calls:
                with pytest.raises(StoreUnavailable, match="did not answer in time"):
                    await call
            await changes.until(True, False, True)
        assert len(fake.connections) == 2


async def test_a_server_that_ends_connections_at_once_is_not_asked_in_a_frenzy(tmp_path):
    async with fake_server(tmp_path) as fake:
        connection = StoreConnection(fake.url)
        serve = fake.greet

        def greet_and_cut(writer, commands):
            greeted = serve(writer, commands)
            writer.close()
            return greeted

        fake.greet = greet_and_cut
        await connection.connect()
        clock = asyncio.get_running_loop().time
        begun = clock()
        while len(fake.connections) < 4:
            connection.call("PING").add_done_callback(asyncio.Future.exception)
            await asyncio.sleep(0.001)
        assert clock() - begun > 2 * FIRST_PAUSE
        await connection.close()


async def test_after_closing_calls_fail(embedded_url):
    async with connected(embedded_url) as connection:
        pass

    with pytest.raises(StoreUnavailable, match="was closed"):
        await connection.call("PING")


async def test_closing_fails_what_waits(tmp_path):
    async with fake_server(tmp_path, lambda command: None) as fake, connected(fake.url) as connection:
        sent = connection.call("ECHO", "a")
        await fake.asked.wait()
        queued = connection.call("ECHO", "b")
        await connection.close()

        for call in (sent, queued):
            with pytest.raises(StoreUnavailable):
                await call


# replies that belong to somebody else


async def test_a_reply_that_nobody_asked_for_is_never_given_to_a_later_call(tmp_path):
    async with fake_server(tmp_path) as fake, connected(fake.url) as connection:
        fake.answer = lambda command: b"+first\r\n+one too many\r\n"
        assert await connection.call("ECHO", "a") == b"first"
        fake.answer = lambda command: b"+mine\r\n"

        assert await connection.call("ECHO", "b") == b"mine"
        assert len(fake.connections) == 2


async def test_a_connection_that_is_not_trusted_is_dropped_and_made_anew(tmp_path):
    changes = Changes()
    async with fake_server(tmp_path) as fake, connected(fake.url, on_change=changes) as connection:
        await connection.call("ECHO", "a")

        assert connection.distrust("mixed up").detail == "mixed up"

        await changes.until(True, False, True)
        assert await connection.call("ECHO", "b") == b"b"


async def test_nothing_that_a_distrusted_connection_still_says_is_believed(tmp_path):
    async with fake_server(tmp_path, lambda command: None) as fake, connected(fake.url) as connection:
        call = connection.call("ECHO", "a")
        await fake.asked.wait()
        connection.distrust("mixed up")
        fake.connections[-1].write(b"+anything\r\n")

        with pytest.raises(StoreUnavailable, match="mixed up"):
            await call


async def test_what_is_no_protocol_at_all_fails_the_call(tmp_path):
    async with fake_server(tmp_path, lambda command: b"HTTP/1.1 400\r\n") as fake, connected(fake.url) as connection:
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            await connection.call("ECHO", "a")


# servers that refuse


@pytest.fixture
async def guarded(own_server):
    """A server with a password, and a user who may only read."""
    async with connected(own_server.url) as connection:
        await connection.call("ACL", "SETUSER", "reader", "on", ">reader-secret", "~*", "+@read", "+info", "+ping")
        await connection.call("CONFIG", "SET", "requirepass", "right-secret")
    return own_server.url.removeprefix("unix://")


async def test_the_right_password_opens_the_store(guarded):
    async with connected(f"unix://:right-secret@{guarded}") as connection:
        assert connection.up


async def test_a_wrong_password_is_explained_and_not_repeated(guarded):
    detail = await explained(f"unix://:wrong-secret@{guarded}")

    assert detail == f"the store at {guarded} refused the user name or password: correct them in `store`"


async def test_a_missing_password_is_explained(guarded):
    assert "refused the user name or password" in await explained(f"unix://{guarded}")


async def test_a_user_without_the_rights_is_explained(guarded):
    detail = await explained(f"unix://reader:reader-secret@{guarded}")

    assert "does not allow its user what is needed" in detail
    assert "reader-secret" not in detail


async def test_a_read_only_replica_is_explained(own_server):
    async with connected(own_server.url) as connection:
        await connection.call("REPLICAOF", "127.0.0.1", "1")

    assert "read only replica" in await explained(own_server.url)


async def test_a_server_that_becomes_a_replica_is_left(own_server):
    changes = Changes()
    async with connected(own_server.url, on_change=changes) as connection:
        await connection.call("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable):
            await connection.call("SET", "a", "1")
        await changes.until(True, False)

        async with connected_to_replica(own_server) as other:
            await other("REPLICAOF", "NO", "ONE")
        await changes.until(True, False, True)


@contextlib.asynccontextmanager
async def connected_to_replica(server):
    """A bare connection, because ours does not use replicas."""
    reader, writer = await asyncio.open_unix_connection(server.path)

    async def say(*words):
        writer.write(" ".join(words).encode() + b"\r\n")
        return await reader.readline()

    yield say
    writer.close()
    await writer.wait_closed()


async def test_a_server_that_is_too_old_is_explained(tmp_path):
    async with fake_server(tmp_path, info=b"# Server\r\nredis_version:6.2.14\r\n") as fake:
        assert "version 7.0 or newer is needed" in await explained(fake.url)


async def test_a_server_that_hides_its_version_is_used(tmp_path):
    async with fake_server(tmp_path, pong, info=b"") as fake, connected(fake.url) as connection:
        assert connection.up


# addresses


async def test_a_password_is_in_no_representation():
    connection = StoreConnection("redis://admin:hunter2@store.example:7000/3")

    assert connection.address == "store.example:7000"
    assert "hunter2" not in repr(connection)
    assert repr(connection).startswith("<StoreConnection store.example:7000 down")


def test_a_password_that_an_error_repeats_is_taken_out():
    server = Server("redis://:hunter2@localhost", 1.0)

    assert server.explain(OSError("no such thing as hunter2")).count("***") == 1


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost?db=x"])
def test_an_address_of_another_form_is_refused(url):
    with pytest.raises(ValueError, match=r"(?i)url"):
        Server(url, 1.0)


def test_an_option_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="remove them"):
        Server("redis://:hunter2@localhost?colour=red", 1.0)


def test_rediss_speaks_tls_and_verifies_the_server():
    connection = Server("rediss://store.example", 1.0)._kind(**Server("rediss://store.example", 1.0)._options)

    assert isinstance(connection, SSLConnection)
    assert connection.check_hostname
    assert connection.cert_reqs.name == "CERT_REQUIRED"


async def test_a_tcp_address_with_a_database(own_server, unused_tcp_port):
    """The bundled server is told to listen on TCP for this test."""
    async with connected(own_server.url) as unix:
        await unix.call("CONFIG", "SET", "port", unused_tcp_port)
        async with connected(f"redis://127.0.0.1:{unused_tcp_port}/3") as tcp:
            assert urlsplit(f"redis://{tcp.address}").port == unused_tcp_port
            await tcp.call("SET", "a", "in three")
        assert await unix.call("GET", "a") is None
        await unix.call("SELECT", "3")
        assert await unix.call("GET", "a") == b"in three"


async def test_redis_py_still_has_the_private_attributes_that_lines_are_made_of():
    """`Line` leans on them: if a new redis-py moves them, this says so before anything else."""
    connection = Server("redis://localhost", 1.0)._kind()

    assert asyncio.iscoroutinefunction(connection._parser.read_response)
    assert asyncio.iscoroutinefunction(connection._parser.read_from_socket)
    assert hasattr(connection._parser, "_reader")
    assert type(connection._parser).__name__ == "_AsyncHiredisParser"
    assert connection._writer is None
