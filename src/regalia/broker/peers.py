"""Who asks: addresses, and how much each of them may cost."""

from __future__ import annotations

import ipaddress

_IPV6_PREFIX = 64  # bits; a smaller part of an IPv6 address is free to choose for whoever has it


def peer_of(host: str) -> str:
    """The peer that an address belongs to: itself, or for IPv6 its /64 network.

    Args:
        host: address of the other end of a connection; empty if it has none.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
