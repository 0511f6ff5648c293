"""Client address of a request: the peer's, or the one that a trusted proxy gives in X-Forwarded-For.

Anyone can send that header. It is used only if the peer is a trusted proxy: one on this computer, on a Space one of
its private network, or one of ETUDE_PROXIES. A visitor in the same private network is not a proxy and cannot evade the
limits with invented addresses.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from starlette.types import Scope

PROXIES = "ETUDE_PROXIES"  # addresses or networks (10.0.0.0/8) of trusted proxies, separated by commas
_OWN = ("127.0.0.0/8", "::1")
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trusted_proxies(environment: Mapping[str, str] = os.environ) -> tuple[Network, ...]:
    """The networks whose X-Forwarded-For is trusted. Raises ValueError for an entry of ETUDE_PROXIES that is no
    address."""
    told = [part.strip() for part in environment.get(PROXIES, "").split(",") if part.strip()]
    try:
        named = [ipaddress.ip_network(part, strict=False) for part in told]
    except ValueError as error:
        raise ValueError(f"{PROXIES} holds {error}; write addresses or networks, such as 10.0.0.0/8.") from None
    known = (*_OWN, *(_PRIVATE if environment.get("SPACE_HOST") else ()))
    return (*map(ipaddress.ip_network, known), *named)


def client_of(scope: Scope, trusted: tuple[Network, ...]) -> str:
    """The address that limits are counted by; for IPv6 the /64 network of one household."""
    peer = (scope.get("client") or ("", 0))[0]
    header = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    chain = [peer, *reversed([part.strip() for part in header.decode("latin-1").split(",") if part.strip()])]
    found = peer
    for address in chain:  # from here outwards, through trusted proxies only
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            break
        found = address if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
        if not any(ip in network for network in trusted):
            break
    return found
