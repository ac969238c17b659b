"""Which network addresses a picture may be fetched from: the public internet, this network if asked."""

from __future__ import annotations

import ipaddress
from typing import Literal

Reach = Literal["public", "local", "never"]

# Provider-side services that answer on public or shared addresses.
_METADATA = {
    ipaddress.ip_address("168.63.129.16"),  # Azure: host agent and DNS
    ipaddress.ip_address("100.100.100.200"),  # Alibaba Cloud: instance metadata
    ipaddress.ip_address("192.0.0.192"),  # Oracle Cloud: instance metadata
    ipaddress.ip_address("fd00:ec2::254"),  # Amazon: instance metadata
    ipaddress.ip_address("fd20:ce::254"),  # Google: instance metadata
}
# What is handed out on the internet (RFC 4291); all the rest of IPv6 is special.
_GLOBAL_6 = ipaddress.ip_network("2000::/3")
_SPECIAL_6 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them: an IPv4 address in disguise
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PRIVATE_4 = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_PRIVATE_6 = ipaddress.ip_network("fc00::/7")
# Older Pythons call some of these global.
_SPECIAL_4 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)


def reach_of(address: str) -> Reach:
    """How far an IP address lies: "public", "local" (loopback or a private network), or "never".

    Never: link-local (cloud metadata lives there), multicast, unspecified, reserved, documentation, shared
    carrier space, tunnels, and known metadata services. IPv4 inside IPv6 is judged as the IPv4 it is.
    Raises ValueError for what is no IP address.
    """
    ip = ipaddress.ip_address(address)
    if ip in _METADATA:
        return "never"
    if isinstance(ip, ipaddress.IPv4Address):
        return _reach_4(ip)
    inner = ip.ipv4_mapped
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    if inner is not None:
        return reach_of(str(inner))
    if ip.is_loopback or (ip in _PRIVATE_6 and ip.scope_id is None):
        return "local"
    special = any(ip in network for network in _SPECIAL_6)
    return "public" if ip in _GLOBAL_6 and not special else "never"


def _reach_4(ip: ipaddress.IPv4Address) -> Reach:
    if ip.is_loopback or any(ip in network for network in _PRIVATE_4):
        return "local"
    if any(ip in network for network in _SPECIAL_4) or not ip.is_global:
        return "never"
    return "public"
