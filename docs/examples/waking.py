"""
A balancer that starts a server when a client comes, and stops it when none has come for
a while.
"""

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.wire import Echo

from iawlb import LoadBalancer

ports = {}


async def start(destination):
    # Here it is a server of this program. It may be a machine of a cloud.
    endpoint = serverFromString(reactor, "tcp:9001:interface=127.0.0.1")
    ports[destination.name] = await endpoint.listen(Factory.forProtocol(Echo))


async def stop(destination):
    await ports.pop(destination.name).stopListening()


log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer = LoadBalancer(reactor, listeners=["127.0.0.1:8080"])
balancer.add(
    "localhost:9001",
    name="echo",
    ensureRunning=start,
    ensureStopped=stop,
    idleTimeout="500ms",
)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
