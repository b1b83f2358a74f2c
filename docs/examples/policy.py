"""
A balancer with a policy of its own: one network to one destination.
"""

import sys

from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from iawlb import IPolicy, LoadBalancer


@implementer(IPolicy)
class Tenants:
    """
    Clients of 127.0.0.0/8 are served by "local" alone, and wait for it; the
    others by whichever destination is the least busy.
    """

    binds = True

    def bind(self, session, available):
        if session.clientHost.startswith("127."):
            for each in available:
                if each.name == "local":
                    return each
        return None

    def choose(self, waiting):
        return min(waiting, key=lambda each: each.active)


log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    destinations=["localhost:9001 name=other", "localhost:9002 name=local"],
    policy=Tenants(),
)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
