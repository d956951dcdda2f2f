"""Where events may be sent: what the operator allows, and what nobody may (addresses of this machine and of networks' own).

A receiver is named by a client, so the address it leads to is never trusted: the scheme, host and port must stand in the
operator's list, and every address that the host's name leads to is looked at again at each delivery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from service.core.errors import Invalid

Address = IPv4Address | IPv6Address
PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(r"(https?)://(\[[0-9A-Fa-f:./]+\]|[^/:\[\]@\s]+(?:/[0-9]{1,2})?)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*", re.ASCII)
NEVER = tuple(
    ip_network(n)
    for n in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/128", "::1/128", "fe80::/10", "ff00::/8", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16",
    )
)  # fmt: skip
"""Never sent to, whatever the list says: this machine, links, groups, and forms that wrap another address."""
LISTED_ONLY = (ip_network("100.64.0.0/10"), ip_network("10.0.0.0/8"), ip_network("172.16.0.0/12"),
               ip_network("192.168.0.0/16"), ip_network("fc00::/7"))  # fmt: skip
"""A name may lead here only if the list names the network itself: receivers on the government extranet."""
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class Place:
    """Scheme, host (a name in small letters, or an address) and port of a receiver's URL."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> Address | None:
        try:
            return ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Allowed:
    """The operator's list. Empty: clients register no receivers. `loopback`: a sandbox may send to its own machine."""

    names: frozenset[tuple[str, str, int]] = frozenset()
    networks: tuple[tuple[str, IPv4Network | IPv6Network, int], ...] = ()
    loopback: bool = False

    @classmethod
    def parse(cls, text: str, *, loopback: bool = False) -> Allowed:
        """`https://host[:port]` and `http://10.1.0.0/16:8443`, parted by commas. Raises ValueError."""
        names, networks = set(), []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            found = _ENTRY.fullmatch(entry.rstrip("/") if entry.count("/") == 3 and entry.endswith("/") else entry)
            if found is None:
                raise ValueError(f"expected https://host[:port] or https://network/bits[:port], got {entry!r}")
            scheme, host, port = found[1], found[2].strip("[]").lower().rstrip("."), int(found[3] or PORTS[found[1]])
            if not 1 <= port <= 65535:
                raise ValueError(f"expected a port between 1 and 65535 in {entry!r}")
            try:
                networks.append((scheme, ip_network(host), port))
            except ValueError:
                if not _NAME.fullmatch(host):
                    raise ValueError(f"expected a host or a network in {entry!r}") from None
                names.add((scheme, host, port))
        return cls(frozenset(names), tuple(networks), loopback)

    def takes(self, place: Place) -> bool:
        """Whether the list names this place, as a host or by its address."""
        if (place.scheme, place.host, place.port) in self.names:
            return True
        return place.address is not None and self._names_network(place.scheme, place.address, place.port)

    def _names_network(self, scheme: str, address: Address, port: int) -> bool:
        return any(
            (scheme, port) == (s, p) and address.version == n.version and address in n for s, n, p in self.networks
        )

    def refused(self, place: Place, addresses: Iterable[Address]) -> str | None:
        """Why nothing is sent to a place that leads to these addresses; None when every one of them is in order."""
        if not self.takes(place):
            return "the operator's list does not name it"
        looked = 0
        for address in addresses:
            looked += 1
            wrapped = getattr(address, "ipv4_mapped", None)
            if wrapped is not None or getattr(address, "scope_id", None):
                return "it leads to a wrapped or scoped address"
            if _within(address, _LOOPBACK) and self.loopback and self._names_network(place.scheme, address, place.port):
                continue
            if _within(address, NEVER):
                return "it leads to an address that is never sent to"
            if _within(address, LISTED_ONLY) and not self._names_network(place.scheme, address, place.port):
                return "it leads into a private network that the operator's list does not name"
        return None if looked else "its name leads nowhere"


def _within(address: Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address.version == n.version and address in n for n in networks)


def place_of(url: str) -> Place:
    """The place that a receiver's URL names. Raises Invalid for anything but a plain http(s) URL."""
    wrong = Invalid.field("/url", "expected a plain URL such as https://receiver.example.cn/jieban, without user or #")
    if not url.isascii() or any(c <= " " or c in '\\"<>^`{|}' for c in url):
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in PORTS or not host or "@" in parts.netloc or parts.fragment or port == 0:
        raise wrong
    if "%" in host or (":" not in host and not _NAME.fullmatch(host)):
        raise wrong
    return Place(parts.scheme, host, port or PORTS[parts.scheme])


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one try. `error` None: taken. `gone`: 410, never again. `wait_seconds`: Retry-After."""

    error: str | None
    gone: bool = False
    wait_seconds: int | None = None
