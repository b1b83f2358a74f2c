"""
The server of C{--metrics}: it serves C{/metrics} alone, to whoever can reach it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from iawlb.admin.access import Access, Asker, Role
from iawlb.admin.metricsroute import Metrics
from iawlb.admin.place import Place
from iawlb.admin.routes import RouteTable
from iawlb.admin.server import AdminServer

MOST_CONNECTIONS = 16
"""
The number of connections that may be open.
"""


class OpenAccess(Access):
    """
    The rules of an address where everybody may read. Only an address of this machine
    alone is kept from the pages of other sites.
    """

    def identify(self, transport: Any, authorization: str | None, peer: str) -> Asker:
        """
        Let everybody read, with whatever token.
        """
        return Asker(Role.READ, peer)

    def checkHost(self, header: str | None, asker: Asker) -> None:
        """
        Refuse other names for an address of this machine alone.

        @raise Problem: The header C{Host} names another host.
        """
        if self._loopback:
            super().checkHost(header, asker)


def metricsServer(clock: IReactorTime, metrics: Metrics, place: Place) -> AdminServer:
    """
    Make the server of a place for metrics.
    """
    return AdminServer(
        clock,
        RouteTable([metrics.route()]),
        OpenAccess(place.host, None),
        what="metrics",
        mostConnections=MOST_CONNECTIONS,
        audit=lambda asker, what, result: None,
        tag=lambda: "",
    )
