"""Which addresses a provider may be reached at: where a name may lead, and where only the operator's own word may.

A name is looked up by somebody else, whose answer may change between two requests: so it is the address itself that is
judged, each time before it is connected to. Pure: addresses in, a word out.
"""

import ipaddress
from enum import Enum
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCALHOST: Final = "localhost"
_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)
"""Where clouds give credentials to whoever asks from inside."""
_OWN: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7", "fec0::/10"),
    )
)
_PROTOCOLS: Final = ipaddress.IPv4Network("192.0.0.0/24")
"""For protocols, not for servers (RFC 6890); which of it is global depends on the version of Python's library."""
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_TRANSLATED: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
"""Networks whose addresses hold an IPv4 address, and by how many bits it stands from the right."""


class Reach(Enum):
    """How far an address reaches."""

    PUBLIC = "public"
    INSIDE = "inside"
    """This machine or a network of the operator's own."""
    SPECIAL = "special"
    """Link-local, metadata, multicast, unspecified, reserved: no provider listens there."""


def reach_of(address: _Address) -> Reach:
    """Say how far an address reaches; one that carries another inside reaches as far as that."""
    address = _carried(address)
    if address in _METADATA or address.is_multicast or address in _PROTOCOLS:
        return Reach.SPECIAL
    if any(address in network for network in _OWN):
        return Reach.INSIDE
    if not address.is_global or (isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST):
        return Reach.SPECIAL
    return Reach.PUBLIC


def may_connect(host: str, address: str, *, allow_private: bool) -> bool:
    """Tell whether a connection to `host` of a base URL may go to `address`, which is `host` itself or what it was
    looked up as.

    Public addresses always. An address of the inside if the operator wrote that very address, or `localhost` for this
    machine. Everything else only with `allow_private`.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if allow_private:
        return True
    reach = reach_of(found)
    if reach is Reach.INSIDE:
        return literal(host) == found or (host.rstrip(".").lower() == LOCALHOST and found.is_loopback)
    return reach is Reach.PUBLIC


def literal(host: str) -> _Address | None:
    """Return the address that a host is, None if it is a name (as `127.1` is: only the system's look-up reads that)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _carried(address: _Address) -> _Address:
    """Return the IPv4 address inside an IPv6 one, if there is one; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    for network, shift in _TRANSLATED:
        if address in network:
            return ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return address
