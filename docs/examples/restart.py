"""
Restart the server at each SIGHUP, without an error for any client:
python restart.py systemctl restart web
"""

import os
import signal
import sys

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.utils import getProcessValue
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import LoadBalancer
from iawlb.control.operations import Operations

balancer = LoadBalancer(
    reactor, listeners=["127.0.0.1:8080"], destinations=["localhost:9001"]
)
operations = Operations(balancer)


async def restart():
    # Clients wait from now on, each for a minute at most. The pause ends after two
    # minutes, whatever happens here.
    result = await operations.pause(
        target="default",
        maxPause="1m",
        drainTimeout="30s",
        by="restart.py",
        **{"for": "2m"},
    )
    if result["result"] == "done":
        command, *arguments = sys.argv[1:]
        status = await getProcessValue(command, arguments, env=os.environ)
        print("restarted, status", status, flush=True)
    else:
        print("not restarted:", result["left"], "connections are left", flush=True)
    # Those that have waited are let in over a second.
    await operations.resume(target="default", spread="1s", by="restart.py")


def hungUp(*_):
    reactor.callFromThread(lambda: ensureDeferred(restart()))


signal.signal(signal.SIGHUP, hungUp)
log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", operations.close)
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
