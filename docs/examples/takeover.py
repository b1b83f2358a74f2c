"""
A server that answers what it can, and hands the rest to a balancer.
"""

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import InvalidSetting, LoadBalancer

log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer = LoadBalancer(reactor, destinations=["localhost:9001"])


class FirstLine(Protocol):
    """
    Answers "ping" itself. Other connections go to the queue, with the bytes that
    were read.
    """

    def __init__(self):
        self.read = b""

    def dataReceived(self, data):
        self.read += data
        if self.read.startswith(b"ping\n"):
            self.transport.write(b"pong\n")
            self.transport.loseConnection()
        elif b"\n" in self.read or len(self.read) > 1000:
            try:
                # Nothing is called here any more after this.
                balancer.takeOver(self, self.read)
            except InvalidSetting:
                self.transport.loseConnection()  # no room


balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
TCP4ServerEndpoint(reactor, 8080, interface="127.0.0.1").listen(
    Factory.forProtocol(FirstLine)
)
reactor.run()
