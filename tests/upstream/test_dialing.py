"""How a connection to a provider is opened: the address that was judged is the one that is connected to."""

import asyncio
import socket

import pytest

from proxy.upstream import dialing
from proxy.upstream.dialing import Dialer, Origin
from proxy.wire.upstream_error import UpstreamError
from raw_upstream import raw_upstream, silent
from waiting import WAIT

HOST = "provider.example"


class Names:
    """Looks a name up as the test says: each time with the next of its answers, in the end always with the last."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host, port):
        self.asked += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)) for address in addresses]


def dialer(names: Names, port: int, **more: object) -> Dialer:
    loop = asyncio.get_running_loop()
    return Dialer(Origin(tls=False, host=HOST, port=port, path=""), timeout=WAIT, loop=loop, look_up=names, **more)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"])
async def test_a_name_that_leads_inside_is_not_connected_to(address):
    async with raw_upstream(silent) as upstream:
        with pytest.raises(UpstreamError) as error:
            await dialer(Names([address]), upstream.port).dial(asyncio.Protocol)
        assert upstream.connections == 0
    assert error.value.kind == "upstream_unavailable"
    assert "allow_private" in error.value.detail
    assert HOST not in error.value.detail
    assert address not in error.value.detail


async def test_the_operator_may_allow_it():
    async with raw_upstream(silent) as upstream:
        protocol = await dialer(Names(["127.0.0.1"]), upstream.port, allow_private=True).dial(asyncio.Protocol)
        assert isinstance(protocol, asyncio.Protocol)
        assert upstream.connections == 1


async def test_a_name_is_looked_up_once_for_every_connection_and_judged_each_time():
    """Between the judgement and the connection nobody is asked again, so that no second answer can differ."""
    names = Names(["127.0.0.1"])
    async with raw_upstream(silent) as upstream:
        allowed = dialer(names, upstream.port, allow_private=True)
        for times in (1, 2):
            await allowed.dial(asyncio.Protocol)
            assert names.asked == times


async def test_only_what_was_judged_to_be_public_is_handed_on_to_be_connected_to(monkeypatch):
    tried = []

    async def start_connection(addresses, **_):
        tried.append([address[4][0] for address in addresses])
        raise ConnectionRefusedError

    monkeypatch.setattr(dialing.aiohappyeyeballs, "start_connection", start_connection)
    names = Names(["10.0.0.1", "8.8.8.8", "127.0.0.1", "1.1.1.1"], ["8.8.8.8"], ["127.0.0.1"])
    outside = dialer(names, 443)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await outside.dial(asyncio.Protocol)
    assert tried == [["8.8.8.8", "1.1.1.1"], ["8.8.8.8"]], "the third answer led inside"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('10.1.2.3', 9), [Errno 113] x"),
            "refused, No route",
        ),
        (ConnectionRefusedError(111, "Connect call failed ('10.1.2.3', 9)"), "Connection refused"),
        (socket.gaierror(-2, f"{HOST}: name unknown"), "[host]: name unknown"),
        (UnicodeError(HOST), "UnicodeError"),
    ],
)
async def test_what_the_log_is_told_has_neither_host_nor_address(error, words):
    async def failing(host, port):
        raise error

    with pytest.raises(UpstreamError) as raised:
        await dialer(failing, 9).dial(asyncio.Protocol)
    assert words.split(", ")[-1] in raised.value.detail
    assert HOST not in raised.value.detail
    assert "10.1.2.3" not in raised.value.detail
