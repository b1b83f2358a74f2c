"""
Two pools in one process: python pools.py
"""

import sys

from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import Balancer

log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)

balancer = Balancer(reactor, maxConnections=400, queueTimeout="10s")

database = balancer.addPool("db", idleTimeout=0)
database.listen("127.0.0.1:0")
database.add("localhost:9002")

web = balancer.addPool("web", policy="first")
web.listen("127.0.0.1:8080")
web.add("localhost:9001", {"name": "a", "slots": 4})

balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
print("db listens on", database.listeners.addresses[0])
reactor.run()
