"""
Twisted's own relay: C{portforward.py PORT DESTINATION_PORT}.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.protocols.portforward import ProxyFactory

port, destination = int(sys.argv[1]), int(sys.argv[2])
reactor.listenTCP(
    port,
    # Twisted declares another kind of factory than it takes.
    ProxyFactory("127.0.0.1", destination),  # type: ignore[arg-type]
    backlog=4096,
    interface="127.0.0.1",
)
reactor.run()
