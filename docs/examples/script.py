"""
A balancer in a plain script: python script.py
"""

import sys

from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver

from iawlb import IawlbError, LoadBalancer

log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
try:
    balancer = LoadBalancer(
        reactor,
        listeners=["127.0.0.1:8080"],
        destinations=["localhost:9001", "localhost:9002"],
    )
    balancer.startService()
except IawlbError as error:
    sys.exit(str(error))
# Ctrl-C and SIGTERM then wait for the connections to finish.
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
