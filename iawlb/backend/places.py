"""
Find out whether a destination is where the balancer itself listens.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_IP = IPv4Address | IPv6Address
_LOOPBACK: tuple[_IP, ...] = (ip_address("127.0.0.1"), ip_address("::1"))


@dataclass(frozen=True, slots=True)
class Place:
    """
    The place that an address names.

    @ivar host: A name, an IP address, or nothing for all of IPv4.
    @ivar port: The port; 0 for a Unix socket, and for a port yet to be picked.
    @ivar path: The path of a Unix socket.
    @ivar v6only: Whether a listener at that IPv6 address takes no IPv4 clients.
    """

    host: str
    port: int
    path: str = ""
    v6only: bool = False


def isOwn(address: _IP) -> bool:
    """
    Return whether an IP address is one of this machine's.
    """
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            # This sends nothing. Only for a connection to itself does a machine use the
            # same address at both ends.
            asking.connect((str(address), 9))
        except OSError:
            return False
        return bool(asking.getsockname()[0] == str(address))


def reaches(destination: Place, listener: Place) -> bool:
    """
    Return whether a connect to a destination arrives at a listener.
    """
    if destination.path or listener.path:
        paths = [os.path.abspath(each.path or "/") for each in (destination, listener)]
        return paths[0] == paths[1]
    if destination.port != listener.port or not listener.port:
        return False
    here = _addresses(listener.host or "0.0.0.0")[:1]
    if not here:
        return destination.host.lower() == listener.host.lower()
    there = _addresses(destination.host)
    if not here[0].is_unspecified:
        # A connect to the address of all interfaces goes to the loopback.
        loops = [_LOOPBACK[each.version == 6] for each in there if each.is_unspecified]
        return here[0] in (*there, *loops)
    if not there:
        return destination.host.lower() == socket.gethostname().lower()
    taken = {here[0].version}
    if here[0].version == 6 and not listener.v6only:
        taken.add(4)
    return any(isOwn(each) for each in there if each.version in taken)


def clash(one: Place, other: Place) -> bool:
    """
    Return whether two listeners cannot be there at a time.
    """
    if one.path or other.path:
        return os.path.abspath(one.path or "/") == os.path.abspath(other.path or "/")
    if one.port != other.port or not one.port:
        return False
    here, there = (_addresses(each.host or "0.0.0.0")[:1] for each in (one, other))
    if not here or not there:
        return one.host.lower() == other.host.lower()
    if here[0].version == there[0].version:
        return here == there or here[0].is_unspecified or there[0].is_unspecified
    # All of IPv6 is all of IPv4 too.
    (six,) = [each for each in (one, other) if each.host.count(":")]
    return ip_address(six.host).is_unspecified and not six.v6only


def _addresses(host: str) -> tuple[_IP, ...]:
    """
    List the IP addresses of a host, as far as they are known without a lookup.
    """
    if host.lower() == "localhost":
        return _LOOPBACK
    try:
        return (ip_address(host),)
    except ValueError:
        return ()
