"""
The process of C{twistd iawlb ...}.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import Any, NoReturn, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from iawlb.clock import useMonotonicTime
from iawlb.collector import easeCollector
from iawlb.errors import IawlbError, InvalidSetting
from iawlb.observe.writer import LogWriter
from iawlb.process.demo import Demo
from iawlb.process.drainreport import DrainReport
from iawlb.process.launcher import plainErrors, tellFailure
from iawlb.process.logs import onStdout
from iawlb.process.notify import ServiceManager
from iawlb.process.options import Options
from iawlb.service import LoadBalancer

__all__ = ["Options", "Process", "makeService"]


class Process(MultiService):
    """
    The balancer as a process of its own. An error that would be an exception in another
    program is one line and exit status 1 here, and the process handles the signals.
    """

    log = Logger()

    def __init__(self, options: Options, reactor: Any) -> None:
        super().__init__()
        self._options = options
        self._reactor = reactor
        self._balancer = options.balancer
        self._stopSignalled = False
        self._cutAsked = False
        self._report = DrainReport(reactor, options.balancer)
        self._manager = ServiceManager(options.balancer)
        reloader = options.running.reloading.reloader
        reloader.began, reloader.ended = self._manager.reloading, self._manager.reloaded
        self._demo: Demo | None = None
        if options.demo:
            balancer = cast(LoadBalancer, options.balancer)
            self._demo = Demo(reactor, balancer, options.demo)
        served: IService = self._demo or options.balancer
        served.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """
        Become a part of the application, whose log begins after this.
        """
        super().setServiceParent(parent)
        launcher, logs = self._options.parent, self._options.logs
        try:
            logs.begin(launcher, parent)
        except InvalidSetting as error:
            mistake = self._options.configuration.mistake("log.to", error)
            raise SystemExit(f"iawlb: {mistake}") from None
        if logs.messages is not None and onStdout(launcher):
            self._showDemo(logs.messages)

    def privilegedStartService(self) -> None:
        """
        Bind and listen.

        @raise SystemExit: An address cannot be listened on.
        """
        # Whoever sees that it listens may send the signal.
        self._options.running.reloading.hangup.install()
        try:
            launcher: dict[str, Any] = self._options.parent or {}
            self._options.running.open(launcher.get("uid"))
            super().privilegedStartService()
        except IawlbError as error:
            self._cannotStart(error)

    def startService(self) -> None:
        """
        Begin to serve. C{twist} calls this without L{privilegedStartService}.

        @raise SystemExit: An address cannot be listened on.
        """
        self._options.running.reloading.hangup.install()
        try:
            self._options.running.open()
            super().startService()
            self._options.running.start()
        except IawlbError as error:
            self._cannotStart(error)
        self._reactor.callWhenRunning(self._manager.started)
        self._reactor.callWhenRunning(self._installSignalHandlers)
        easeCollector()

    def stopService(self) -> Deferred[None]:
        """
        Drain; a second signal cuts the drain short.
        """
        self._stopSignalled = True
        self._manager.stopping()
        self._options.running.stopping()
        stopping = ensureDeferred(self._stop())
        if self._cutAsked:
            self._cut()
        else:
            self._report.follow(stopping)
        return stopping

    async def _stop(self) -> None:
        """
        Stop the balancer, and then what lets people watch how it stops.
        """
        try:
            await super().stopService()
        finally:
            self._manager.stopped()
            await self._options.running.stop()

    def _showDemo(self, writer: LogWriter) -> None:
        """
        On a terminal, write the demo's lines bare, and leave out the long lines of
        sessions that ended well, among which the demo's lines would be lost.

        @param writer: Writes to standard output.
        """
        if self._demo is not None and sys.stdout.isatty():
            self._demo.show = lambda line: writer.write(f"{line}\n")
            if self._options["log"] is None:
                self._options.logs.access.errorsOnly = True

    def _installSignalHandlers(self) -> None:
        """
        Keep a second signal from Twisted's own handlers, also one that comes before the
        reactor has acted on the first: they would raise.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            first = signal.getsignal(number)
            # A signal that the shell makes this process ignore stays ignored.
            if callable(first):
                signal.signal(number, partial(self._signalled, first))

    def _signalled(self, first: Any, number: int, frame: Any) -> None:
        if self._stopSignalled:
            self._reactor.callFromThread(self._cut)
        else:
            self._stopSignalled = True
            first(number, frame)

    def _cut(self) -> None:
        self._cutAsked = True
        self._report.cut()
        self._balancer.cutDrain()

    def _cannotStart(self, error: IawlbError) -> NoReturn:
        """
        End the process, as twistd does after an exception.
        """
        launcher: dict[str, Any] = self._options.parent or {}
        # Write the error to the log too, since a daemon has no standard error; with
        # twistd, sys.stderr is the log by now.
        self.log.error("{why}", why=str(error))
        print(f"iawlb: {error}", file=sys.__stderr__)
        self._options.running.stop()
        # Listeners that were opened are closed, and their Unix sockets removed, in the
        # next turn of the reactor.
        # The argument is one that asyncio's reactor asks for.
        self._reactor.iterate(0)
        tellFailure(launcher, error)
        raise SystemExit(1)


def makeService(options: Options) -> IService:
    """
    Make the service that twistd runs.
    """
    from twisted.internet import reactor

    # Called before the balancer sets a timer; the timers that Twisted has set already
    # are moved too.
    useMonotonicTime(reactor)
    plainErrors(options.parent or {})
    return Process(options, reactor)
