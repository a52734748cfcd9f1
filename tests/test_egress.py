"""Where a connection to a provider may go: by the address alone, whatever name it had."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.egress import Reach, may_connect, reach_of

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
INSIDE = [
    *("127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("::1", "fd12::1", "fc00::1", "fec0::1"),
    *("::ffff:127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:a00:1::1", "2002:7f00:1::"),
]
SPECIAL = [
    *("169.254.169.254", "169.254.170.2", "169.254.1.1", "100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1"),
    *("239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("192.0.0.8", "::", "fe80::1", "ff02::1", "fd00:ec2::254", "2001:db8::1", "100::1", "64:ff9b:1::1", "::8.8.8.8"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::ffff:0.0.0.0", "2001::1"),
]


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        *((text, Reach.PUBLIC) for text in PUBLIC),
        *((text, Reach.INSIDE) for text in INSIDE),
        *((text, Reach.SPECIAL) for text in SPECIAL),
    ],
)
def test_an_address_reaches_as_far_as_what_it_carries(text, reach):
    assert reach_of(ipaddress.ip_address(text)) is reach


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_may_lead_to_a_public_address(address):
    assert may_connect("provider.example", address, allow_private=False)


@pytest.mark.parametrize("host", ["provider.example", "127.1", "0x7f000001", "2130706433", "", "localhost.example"])
@pytest.mark.parametrize("address", [*INSIDE, *SPECIAL, "fe80::1%eth0"])
def test_a_name_may_lead_nowhere_else_unless_the_operator_says_so(host, address):
    assert not may_connect(host, address, allow_private=False)
    assert may_connect(host, address, allow_private=True)


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_of_the_inside_that_the_operator_wrote_is_what_the_operator_meant(address):
    assert may_connect(address, address, allow_private=False)
    assert not may_connect(address, "10.99.99.99", allow_private=False)


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_needs_more_than_being_written(address):
    assert not may_connect(address, address, allow_private=False)


@pytest.mark.parametrize(
    ("address", "may"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("169.254.169.254", False)]
)
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost."])
def test_localhost_is_this_machine_and_nothing_else(host, address, may):
    assert may_connect(host, address, allow_private=False) is may


def test_what_is_no_address_is_nowhere():
    assert not may_connect("provider.example", "provider.example", allow_private=True)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_reaches_as_far_inside_of_any_other(address):
    for carrier in (
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        ipaddress.IPv6Address((0x2002 << 112) | int(address) << 80),
    ):
        assert reach_of(ipaddress.ip_address(str(carrier))) is reach_of(address)


@given(st.ip_addresses())
def test_no_address_counts_as_public_that_the_registries_call_anything_else(address):
    if reach_of(address) is Reach.PUBLIC and not (address.version == 6 and int(address) >> 112 in (0x2002, 0x64)):
        others = (address.is_private, address.is_loopback, address.is_link_local, address.is_multicast)
        assert (address.is_global, any(others)) == (True, False)
