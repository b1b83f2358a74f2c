"""
A balancer that writes its record of each session as a line of JSON.
"""

import json
import sys

from twisted.internet import reactor
from zope.interface import implementer

from iawlb import IObserver, LoadBalancer
from iawlb.core.events import SESSION_ENDED


@implementer(IObserver)
class JSONLines:
    """
    Writes ended sessions; what it is told of else, it does not write.
    """

    def sessionChanged(self, session, event):
        if event != SESSION_ENDED:
            return
        record = {
            "client": session.client,
            "destination": session.destination,
            "code": session.outcome.code,
            "seconds": round(session.ended - session.accepted, 3),
            "bytesIn": session.bytesIn,
            "bytesOut": session.bytesOut,
        }
        print(json.dumps(record), file=sys.stdout, flush=True)

    def destinationChanged(self, destination, event):
        pass

    def listenerChanged(self, name, address, event):
        print(json.dumps({"listener": address, "event": event}), flush=True)


balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    destinations=["localhost:9001"],
    # Add iawlb.observe.eventlog.EventLog() to keep the log lines as well.
    observers=[JSONLines()],
)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
