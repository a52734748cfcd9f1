"""The sockets that the gateway listens on: bound once, by the supervisor, and handed down to its workers."""

import asyncio
import errno
import socket
from typing import Final

from proxy.quantities import Address

BIND_SECONDS: Final = 5.0
"""How long an address may still be taken by a predecessor that was killed and whose workers are winding down."""


class CannotStart(Exception):  # noqa: N818 - the state of the gateway
    """The gateway cannot start; the message is one sentence that says what to do."""


async def listen(address: Address) -> socket.socket:
    """Listen on an address. Raises `CannotStart` with what to do if it cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BIND_SECONDS
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
            listener.listen(4096)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or loop.time() > deadline:
                message = f"cannot listen on {address}: {error.strerror}; stop what uses it, or choose another address"
                raise CannotStart(message) from None
            await asyncio.sleep(0.1)
        else:
            listener.settimeout(0)
            return listener


def address_of(listener: socket.socket) -> Address:
    """Return where a socket listens: the port may have been the system's choice."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)
