"""
A balancer whose log never holds it up, and costs little for each connection.
"""

import sys

from twisted.internet import reactor
from twisted.logger import globalLogBeginner

from iawlb import LoadBalancer
from iawlb.observe.eventlog import EventLog
from iawlb.observe.writer import LogWriter

writer = LogWriter(reactor, sys.stdout)
# All lines of Twisted's logger, yours too.
globalLogBeginner.beginLoggingTo([writer], redirectStandardIO=False)
balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    destinations=["localhost:9001"],
    # The lines of sessions, past Twisted's logger.
    observers=[EventLog(writer=writer)],
)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
