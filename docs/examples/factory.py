"""
A balancer fed by an endpoint of the program's own.
"""

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import LoadBalancer

log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer = LoadBalancer(reactor, destinations=["localhost:9001"])
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
# Any endpoint that takes a factory, or service of yours that wraps one.
TCP4ServerEndpoint(reactor, 8080, interface="127.0.0.1").listen(balancer.factory)
reactor.run()
