"""
A balancer that is told what to do over a Unix socket:
echo "pause a" | nc -U control.sock
"""

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineOnlyReceiver

from iawlb import IawlbError, LoadBalancer

balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    destinations=["localhost:9001 name=a"],
)


class Control(LineOnlyReceiver):
    """
    Takes one command: add, remove, pause, resume or list.
    """

    delimiter = b"\n"

    def lineReceived(self, line):
        command, _, rest = line.decode().partition(" ")
        try:
            if command == "add":
                self.answer(f"added {balancer.add(rest).name}")
            elif command == "remove":
                # Fires when the last of its sessions has ended.
                removing = balancer.remove(rest)
                removing.addCallback(lambda _: self.answer(f"removed {rest}"))
            elif command == "pause":
                balancer.pause(rest or None)
                self.answer("paused")
            elif command == "resume":
                balancer.resume(rest or None)
                self.answer("resumed")
            elif command == "list":
                lines = [
                    f"{each.name} {each.state} active={each.active}"
                    for each in balancer.destinations
                ]
                self.answer(*lines, f"waiting={balancer.waiting}")
            else:
                self.answer(f"no command {command!r}")
        except IawlbError as error:
            self.answer(str(error))

    def answer(self, *lines):
        for line in lines:
            self.sendLine(line.encode())
        self.transport.loseConnection()


log = textFileLogObserver(sys.stdout)
globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
UNIXServerEndpoint(reactor, "control.sock", mode=0o600).listen(
    Factory.forProtocol(Control)
)
reactor.run()
