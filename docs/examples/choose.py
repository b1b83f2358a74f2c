"""
A balancer that asks a function of yours where each client goes.
"""

import sys

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import Balancer, Choice


async def choose(session):
    # Look into a database here, or ask another program; other clients do not wait.
    await deferLater(reactor, 0.01)
    first = session.info.firstBytes
    if first.startswith(b"GET "):
        return web
    if session.clientHost.startswith("127."):
        return Choice.WAIT
    return Choice.REFUSE


log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer = Balancer(reactor, takeSlot="first-byte")
web = balancer.addPool("web")
web.add("localhost:9001")
other = balancer.addPool("other", choose=choose)
other.add("localhost:9002")
other.listen("127.0.0.1:8080")
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
