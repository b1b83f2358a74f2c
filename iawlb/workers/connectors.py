"""
The connectors of a pool's destinations.
"""

from __future__ import annotations

from typing import Any, cast

from iawlb.arguments import ClientEndpoint
from iawlb.backend.address import parseDestination
from iawlb.backend.connector import DestinationConnector
from iawlb.backend.socketconnector import SocketConnector
from iawlb.backend.tlsextra import tlsClientOf
from iawlb.core.retired import inUse
from iawlb.relay.context import RelayContext
from iawlb.settings import DestinationSettings, Settings


class Connectors:
    """
    Makes the connectors of a pool's destinations, all with the time-out that is set.
    """

    def __init__(
        self, reactor: Any, clock: Any, settings: Settings, context: RelayContext
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._settings = settings
        self._context = context
        # Those whose time-out has changed stay until their last connect is over.
        self._sockets: list[SocketConnector] = []
        self.renew()

    def renew(self) -> None:
        """
        Use the time-out as it is set now for the connectors that are made from now on.
        """
        self._sockets = inUse(self._sockets)
        poller = self._context.poller
        if poller is not None:
            timeout = self._settings.connectTimeout
            self._sockets.append(SocketConnector(self._clock, poller, timeout))

    def check(self, address: str | ClientEndpoint) -> None:
        """
        Check the address of a destination.

        @raise InvalidSetting: The address is wrong.
        """
        if isinstance(address, str):
            parseDestination(self._reactor, address, self._settings.connectTimeout)

    def to(
        self,
        address: str | ClientEndpoint,
        own: DestinationSettings,
        former: DestinationConnector | None = None,
    ) -> DestinationConnector:
        """
        Make the connector of a destination.

        @param own: The settings of the destination.
        @param former: The connector that the destination has, if it is to keep what
            speaks TLS with it.
        @raise InvalidSetting: The address, or a setting about TLS, is wrong.
        """
        timeout = self._settings.connectTimeout
        text, endpoint = repr(address), cast(Any, address)
        if isinstance(address, str):
            text, endpoint = parseDestination(self._reactor, address, timeout)
        sockets = self._sockets[-1] if self._sockets else None
        given = (self._reactor, self._clock, endpoint, timeout, self._context, sockets)
        connector = DestinationConnector(*given)
        client = former.client if former else tlsClientOf(self._clock, own, text)
        if client is not None:
            # Imported only here, as TLS is an extra.
            from iawlb.backend.tlsconnector import TlsConnector

            connector = TlsConnector(*given, client)
        connector.address, connector.text = address, text
        return connector

    def stop(self) -> None:
        """
        Stop the timers.
        """
        for each in self._sockets:
            each.stop()
