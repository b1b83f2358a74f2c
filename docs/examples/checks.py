"""
A balancer whose destinations are checked by a function of yours.
"""

import os
import sys

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import LoadBalancer


async def check(destination):
    # Ask what knows how the destination is; other checks do not wait.
    await deferLater(reactor, 0.01)
    if os.path.exists(f"maintenance-{destination.name}"):
        return "drain"
    return "ready up"


log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    policy="first",
    healthCheck=check,
    checkInterval="200ms",
)
balancer.add("localhost:9001", name="one")
balancer.add("localhost:9002", name="two")
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
