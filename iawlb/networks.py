"""
Networks of IP addresses, and the networks that clients come from.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from iawlb.errors import InvalidSetting

MAPPED = bytes(10) + b"\xff\xff"
"""
How an IPv6 address begins that stands for the IPv4 address in its last four bytes.
"""

_FIRST_MAPPED = MAPPED + bytes(4)
_LAST_MAPPED = MAPPED + b"\xff" * 4
_BEFORE_MAPPED = bytes(10) + b"\xff\xfe" + b"\xff" * 4
_BEHIND_MAPPED = bytes(9) + b"\x01" + bytes(6)


def packed(host: str) -> bytes | None:
    """
    Return an IP address as the 16 bytes of IPv6, so that an IPv4 address and the IPv6
    address that stands for it are the same; L{None} for what is no IP address, such as
    the path of a Unix socket.
    """
    try:
        if ":" in host:
            return inet_pton(AF_INET6, host.partition("%")[0])
        return MAPPED + inet_pton(AF_INET, host)
    except (OSError, ValueError):
        return None


def packedAddress(address: IAddress | None) -> bytes | None:
    """
    Return the IP address of a client as L{packed} does; L{None} for a client without
    one, such as one of a Unix socket.
    """
    if isinstance(address, IPv4Address | IPv6Address):
        return packed(address.host)
    return None


class Networks(tuple[str, ...]):
    """
    Networks and single addresses, each in its usual form. Whether one of them covers an
    address takes the same time for 10,000 networks as for one.
    """

    @cached_property
    def _ranges(self) -> tuple[list[bytes], list[bytes]]:
        """
        The first and the last address of each range, in order; no two ranges overlap.
        """
        firsts: list[bytes] = []
        lasts: list[bytes] = []
        for first, last in sorted(_rangesOf(self)):
            if lasts and first <= lasts[-1]:
                lasts[-1] = max(last, lasts[-1])
            else:
                firsts.append(first)
                lasts.append(last)
        return firsts, lasts

    def prepare(self) -> None:
        """
        Work out now what else the first question would have to wait for.
        """
        _ = self._ranges

    def covers(self, address: bytes) -> bool:
        """
        Return whether one of the networks holds an address.

        @param address: What L{packed} has made of it.
        """
        firsts, lasts = self._ranges
        index = bisect_right(firsts, address)
        return index > 0 and address <= lasts[index - 1]


def _rangesOf(networks: Iterable[str]) -> Iterable[tuple[bytes, bytes]]:
    """
    Iterate over the first and the last address of networks. A network of IPv6, such as
    C{::/0}, holds no client of IPv4.
    """
    for each in networks:
        first, bits = _parse(each)
        last = (int.from_bytes(first) | _rest(bits)).to_bytes(16)
        if bits < 96 and first <= _FIRST_MAPPED and _LAST_MAPPED <= last:
            yield first, _BEFORE_MAPPED
            yield _BEHIND_MAPPED, last
        else:
            yield first, last


def _parse(text: str) -> tuple[bytes, int]:
    """
    Return the bytes of a network's address, as L{packed} does, and how many of their
    bits make the network.

    The module C{ipaddress} takes five times as long, which matters for 10,000 networks.

    @raise ValueError: It is no network.
    """
    address, slash, bits = text.partition("/")
    found = packed(address)
    whole = 128 if ":" in address else 32
    number = whole
    # Masks in other forms, and names of interfaces, are no part of a network.
    if slash:
        number = int(bits) if bits.isascii() and bits.isdecimal() else -1
    if found is None or "%" in text or not 0 <= number <= whole or len(bits) > 3:
        raise ValueError(text)
    return found, 128 - whole + number


def _rest(bits: int) -> int:
    """
    Return a number whose bits are all that an address has beyond those of its network.
    """
    return (1 << (128 - bits)) - 1


def _written(address: bytes, bits: int) -> str:
    if bits >= 96 and address.startswith(MAPPED):
        text, bits, whole = inet_ntop(AF_INET, address[12:]), bits - 96, 32
    else:
        text, whole = inet_ntop(AF_INET6, address), 128
    return text if bits == whole else f"{text}/{bits}"


def networkOf(text: str) -> str:
    """
    Read a network, such as C{10.0.0.0/8}, or a single address.

    @return: The network in its usual form.
    @raise InvalidSetting: It is none; the message says what would be right.
    """
    try:
        address, bits = _parse(text)
    except ValueError:
        raise InvalidSetting(
            f"{text[:60]!r} is not a network: write 10.0.0.0/8, 2001:db8::/32 or an "
            "address"
        ) from None
    number = int.from_bytes(address)
    if number & _rest(bits):
        network = _written((number & ~_rest(bits)).to_bytes(16), bits)
        raise InvalidSetting(
            f"{text!r} is an address within a network: write {network} or "
            f"{_written(address, 128)}"
        )
    return _written(address, bits)


def sourceOf(address: bytes, mask: tuple[int, int]) -> bytes:
    """
    Return the bytes that all addresses of one network begin with, and no others.

    @param address: What L{packed} has made of an address.
    @param mask: How many bits of an IPv4 address, and of an IPv6 address, the network
        is made of.
    """
    bits = 96 + mask[0] if address.startswith(MAPPED) else mask[1]
    whole, rest = divmod(bits, 8)
    if not rest:
        return address[:whole]
    return address[:whole] + bytes((address[whole] & 0xFF00 >> rest & 0xFF,))


def sourceName(source: bytes, mask: tuple[int, int]) -> str:
    """
    Write a network that L{sourceOf} has returned for people.
    """
    address = source + bytes(16 - len(source))
    bits = 96 + mask[0] if source.startswith(MAPPED) else mask[1]
    return _written(address, bits)
