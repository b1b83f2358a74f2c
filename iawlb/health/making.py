"""
Make the check that the settings of a destination ask for.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address

from iawlb.backend.address import placeOf
from iawlb.backend.connector import DestinationConnector
from iawlb.backend.places import Place
from iawlb.checkvalidators import Way, patternOf, unescaped, wayOf
from iawlb.core.destination import Destination
from iawlb.errors import InvalidSetting
from iawlb.health.calling import CallingCheck
from iawlb.health.connecting import ConnectingCheck, headerOf
from iawlb.health.dialogues import AgentLine, Expect, Http, PostgreSql, Redis
from iawlb.health.running import CommandCheck, Turns
from iawlb.health.securely import Securely
from iawlb.health.verdict import Check, Dialogue
from iawlb.settings import DestinationSettings

LONGEST_LOGIN = 1024
"""
The most bytes of a file with a password that are read.
"""


def addressOf(destination: str, given: str) -> str:
    """
    Return the address that a check or an agent is asked at.

    @param destination: The address of the destination.
    @param given: A port or an address, as in C{checkAddress}.
    @raise InvalidSetting: Only a port is given, and the destination has no host.
    """
    if not given.isdecimal():
        return given
    place = placeOf(destination, listening=False)
    if place is None or not place.host:
        raise InvalidSetting(
            f"{given!r} is a port, and {destination} has no host: write host:{given}"
        )
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"{host}:{given}"


def checkPlaces(destination: str, settings: DestinationSettings) -> None:
    """
    Check that it is known where a destination is to be checked.

    @param destination: The address of the destination.
    @raise InvalidSetting: It is not.
    """
    for given in (settings.checkAddress, settings.agent):
        if given:
            addressOf(destination, given)


class Checks:
    """
    Makes the checks of a pool's destinations.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._turns = Turns()

    def check(
        self, destination: Destination, connector: DestinationConnector, own: bool
    ) -> Check:
        """
        Make the check that the settings of a destination ask for.

        @param connector: Connects to where checks go.
        @param own: Whether that is where sessions go, too.
        """
        settings = destination.settings
        given: Any = settings.healthCheck
        if callable(given):
            return CallingCheck(given, destination)
        way = wayOf(given)
        assert way is not None
        if way.word == "command":
            return CommandCheck(
                self._reactor,
                settings.checkCommand,
                _environment(destination),
                self._turns,
            )
        header = headerOf(settings) if own else b""
        return ConnectingCheck(connector, _dialogue(way, destination), header)

    def agent(self, connector: DestinationConnector) -> Check:
        """
        Make the question to the destination's agent.
        """
        return ConnectingCheck(connector, AgentLine())


def _placeOf(destination: Destination) -> Place:
    return placeOf(destination.address, listening=False) or Place("", 0)


def _dialogue(way: Way, destination: Destination) -> Dialogue | None:
    settings = destination.settings
    host = way.host or _placeOf(destination).host
    name = None if isIPAddress(host) or isIPv6Address(host) else host or None
    if way.word in ("http", "https"):
        http = Http(
            settings.checkMethod,
            f"[{host}]" if ":" in host and not way.host else host or "localhost",
            way.detail,
            settings.checkStatus,
        )
        return http if way.word == "http" else Securely(name, http)
    if way.word == "tls":
        return Securely(name, None)
    if way.word == "send":
        wanted = settings.checkExpect
        return Expect(
            unescaped(settings.checkSend), patternOf(wanted) if wanted else None
        )
    if way.word == "postgresql":
        return PostgreSql(way.detail)
    if way.word == "redis":
        return Redis(_login(settings.checkPasswordFile))
    return AgentLine() if way.word == "agent" else None


def _environment(destination: Destination) -> dict[str, str]:
    place = _placeOf(destination)
    return {
        "IAWLB_POOL": destination.pool,
        "IAWLB_DESTINATION": destination.name,
        "IAWLB_ADDRESS": destination.address,
        "IAWLB_HOST": place.host,
        "IAWLB_PORT": str(place.port or ""),
        "IAWLB_PATH": place.path,
    }


def _login(path: str) -> list[bytes]:
    """
    Read the password, or the user and the password, from a file.

    @raise OSError: The file cannot be read.
    """
    if not path:
        return []
    with open(path, "rb") as file:
        return file.read(LONGEST_LOGIN).strip().split(b" ", 1)
