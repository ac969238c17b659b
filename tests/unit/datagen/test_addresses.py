"""Which addresses are on the public internet, whatever dress they wear."""

from __future__ import annotations

import pytest

from talent_factory.datagen.addresses import reach_of


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "192.167.0.1", "2606:4700::1111", "2a00:1450::1"],
)
def test_public(address: str) -> None:
    assert reach_of(address) == "public"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.0.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::1", "fd12::1"],
)
def test_local(address: str) -> None:
    assert reach_of(address) == "local"


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # metadata of most clouds
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "0.0.0.0",
        "0.1.2.3",
        "100.64.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::7f00:1",  # 127.0.0.1, the old way
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "2002:7f00:1::",  # 127.0.0.1 through 6to4
        "2002:808:808::",
        "3fff::1",
        "5f00::1",
        "64:ff9b:1::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "::ffff:0:0",
    ],
)
def test_never(address: str) -> None:
    assert reach_of(address) == "never"


def test_ipv4_inside_ipv6_is_judged_as_itself() -> None:
    assert reach_of("::ffff:127.0.0.1") == "local"
    assert reach_of("::ffff:10.0.0.1") == "local"
    assert reach_of("::ffff:8.8.8.8") == "public"
    assert reach_of("64:ff9b::808:808") == "public"
    assert reach_of("64:ff9b::7f00:1") == "local"


@pytest.mark.parametrize("address", ["", "localhost", "2130706433", "0x7f.1", "1.2.3", "::g"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError):
        reach_of(address)
