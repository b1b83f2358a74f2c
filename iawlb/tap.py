"""
The command line: C{twistd iawlb ...}.
"""

from __future__ import annotations

import getopt
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from iawlb.clock import useMonotonicTime
from iawlb.collector import easeCollector
from iawlb.errors import IawlbError, InvalidSetting
from iawlb.frontend.limits import raiseFileLimit
from iawlb.observe.writer import LogWriter
from iawlb.process.demo import Demo, demoNames
from iawlb.process.drainreport import DrainReport
from iawlb.process.launcher import plainErrors, tellFailure
from iawlb.process.logs import Logs, onStdout
from iawlb.process.notify import ServiceManager
from iawlb.process.optionhints import explain, explainWord
from iawlb.processsettings import ProcessSettings
from iawlb.service import LoadBalancer
from iawlb.settings import Settings, optionName
from iawlb.validators import count

_DESCRIPTION = """\
Connections wait in one queue; each destination's worker takes the next one when
it has a free slot, connects, and relays bytes until both sides are done.

  twistd -n iawlb 8080 9001 9002
  twistd -n iawlb --listen tcp:8080 --dest tcp:localhost:9001 \\
      --dest 'unix:/run/app.sock name=app slots=4'
  twistd -n iawlb 8080 --demo 3

An ADDRESS is a port, host:port, [v6]:port, /path of a Unix socket, or any
endpoint string of Twisted's with its options. Settings follow it: name=, and
for a destination also slots= and weight=.
"""

_OWN_OPTIONS = (
    ("listen=ADDRESS", "where to accept connections; may be given several times"),
    ("dest=ADDRESS", "where to forward them; may be given several times"),
    ("demo=N", "add N slow HTTP servers that answer with their name, to try it"),
    ("check", "check everything, open nothing; exit status 0 or 1"),
    ("version", "print the version"),
    ("help", "print this"),
)

_PROCESS = [
    each for each in fields(ProcessSettings) if each.metadata["section"] == "log"
]
OPTIONS = [*fields(Settings), *_PROCESS]
"""
The settings that are options.
"""
_OPTION_NAMES = {each.name: optionName(each) for each in OPTIONS}
_FLAGS = [optionName(each) for each in OPTIONS if not each.metadata["unit"]]

_WIDTH = 79
_COLUMN = 26


def _entry(option: str, text: str) -> str:
    """
    Return the lines of one option in the help.
    """
    lines = textwrap.wrap(text, _WIDTH - _COLUMN, break_on_hyphens=False)
    head = f"  --{option}"
    if len(head) >= _COLUMN:
        return head + "".join(f"\n{' ' * _COLUMN}{line}" for line in lines)
    return head.ljust(_COLUMN) + f"\n{' ' * _COLUMN}".join(lines)


class Options(usage.Options):
    """
    The options of the command line.

    @ivar balancer: The balancer that the options describe, once they are parsed.
    @ivar processSettings: The settings of the process around the balancer.
    @ivar logs: Writes all log lines, once the options are parsed.
    """

    synopsis = "[options] [PORT [[HOST:]PORT]...]"
    optFlags = (("check", None, ""), *((option, None, "") for option in _FLAGS))
    optParameters = (
        ("demo", None, None, ""),
        *(
            (option, None, None, "")
            for option in _OPTION_NAMES.values()
            if option not in _FLAGS
        ),
    )

    def __init__(self, reactor: Any = None) -> None:
        super().__init__()
        self._reactor = reactor
        self.balancer: LoadBalancer
        self.processSettings = ProcessSettings()
        self.logs: Logs
        self.demo = 0
        self["listen"] = []
        self["dest"] = []
        self._positional: tuple[str, ...] = ()

    def getUsage(self, width: int | None = None) -> str:
        """
        Return the help: 80 columns, grouped, each option with its default.
        """
        parts = ["", _DESCRIPTION]
        parts.extend(_entry(*each) for each in _OWN_OPTIONS)
        group = ""
        for each in OPTIONS:
            if each.metadata["group"] != group:
                group = each.metadata["group"]
                parts.append(f"\n{group}:")
            text = f"{each.metadata['text']} (default {each.metadata['shown']})"
            unit = each.metadata["unit"]
            value = f"={unit}" if unit else ""
            parts.append(_entry(f"{optionName(each)}{value}", text))
        return "\n".join(parts) + "\n"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line. Options may stand before and behind addresses.

        @raise SystemExit: An argument is wrong: one line on standard error says which,
            and the status is 1. (Twisted would print the whole help.)
        """
        given = list(sys.argv[1:] if options is None else options)
        try:
            # usage.Options stops at the first address.
            found, addresses = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
            takesValue = {each.rstrip("=") for each in self.longOpt if each[-1] == "="}
            first = [
                f"{option}={value}"
                if option.removeprefix("--") in takesValue
                else option
                for option, value in found
            ]
            super().parseOptions([*first, "--", *addresses])
        except getopt.error as error:
            raise SystemExit(f"iawlb: {explain(error, self)}") from None
        except (usage.UsageError, InvalidSetting) as error:
            raise SystemExit(f"iawlb: {error}") from None

    def opt_listen(self, address: str) -> None:
        """
        Add an address to accept connections on.
        """
        self["listen"].append(address)

    def opt_dest(self, address: str) -> None:
        """
        Add an address to forward connections to.
        """
        self["dest"].append(address)

    def opt_version(self) -> None:
        """
        Print the version.
        """
        print(f"iawlb {version('iawlb')}")
        raise SystemExit(0)

    def parseArgs(self, *addresses: str) -> None:
        """
        Read the form C{PORT [[HOST:]PORT]...}: the first is the address to listen on.
        """
        for each in addresses:
            why = explainWord(each, self)
            if why is not None:
                raise usage.UsageError(why)
        self._positional = addresses

    def postOptions(self) -> None:
        """
        Build the balancer, which checks everything and opens nothing.
        """
        reactor = self._reactor
        if reactor is None:
            # Imported only here: twistd has read its own --reactor by now.
            from twisted.internet import reactor
        raiseFileLimit()
        settings: dict[str, Any] = {
            name: bool(self[option]) if option in _FLAGS else self[option]
            for name, option in _OPTION_NAMES.items()
            if self[option] is not None
        }
        own = {each.name for each in _PROCESS} & settings.keys()
        process = {name: settings.pop(name) for name in own}
        if self["demo"] is not None:
            self.demo = _read("--demo", count(1, 100), self["demo"])
        listeners = [("--listen", each) for each in self["listen"]]
        destinations = [("--dest", each) for each in self["dest"]]
        if self._positional and listeners:
            first = self._positional[0]
            raise usage.UsageError(
                f"{first!r} without an option would be where to listen, as --listen "
                f"is: write --dest {first} if it is a destination"
            )
        listeners += [("PORT", each) for each in self._positional[:1]]
        destinations += [("destination", each) for each in self._positional[1:]]
        if not listeners:
            raise usage.UsageError(
                "nowhere to listen: give --listen tcp:8080, or a PORT"
            )
        if not destinations and not self.demo:
            raise usage.UsageError(
                "no destination: give --dest tcp:localhost:9001, or --demo 3 to try"
            )
        try:
            self.processSettings = ProcessSettings(**process)
            self.logs = Logs(reactor, self.processSettings)
            access = self.logs.access
            self.balancer = LoadBalancer(reactor, observers=[access], **settings)
        except InvalidSetting as error:
            # The message begins with the name in Python, such as connectTimeout.
            name, _, why = str(error).partition(": ")
            raise InvalidSetting(f"--{_OPTION_NAMES[name]}: {why}") from None
        access.errorsOnly = self.balancer.settings.log == "errors"
        access.follow(self.balancer)
        for option, address in listeners:
            _read(option, self.balancer.listen, address)
        for option, address in destinations:
            _read(option, self.balancer.add, address)
        taken = {each.name for each in self.balancer.destinations}
        for name in taken.intersection(demoNames(self.demo)):
            raise usage.UsageError(
                f"--demo: there is a destination {name!r} already; give it another name"
            )
        if self["check"]:
            print("iawlb: configuration is valid")
            raise SystemExit(0)


def _read(option: str, read: Callable[[Any], Any], value: Any) -> Any:
    """
    Read an option's value.

    @raise InvalidSetting: The value is wrong; the message names the option.
    """
    try:
        return read(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"{option}: {error}") from None


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
        self._demo: Demo | None = None
        if options.demo:
            self._demo = Demo(reactor, options.balancer, options.demo)
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
            raise SystemExit(f"iawlb: --log-to: {error}") from None
        if logs.messages is not None and onStdout(launcher):
            self._showDemo(logs.messages)

    def privilegedStartService(self) -> None:
        """
        Bind and listen.

        @raise SystemExit: An address cannot be listened on.
        """
        try:
            super().privilegedStartService()
        except IawlbError as error:
            self._cannotStart(error)

    def startService(self) -> None:
        """
        Begin to serve. C{twist} calls this without L{privilegedStartService}.

        @raise SystemExit: An address cannot be listened on.
        """
        try:
            super().startService()
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
        stopping = ensureDeferred(super().stopService()).addBoth(self._stopped)
        if self._cutAsked:
            self._cut()
        else:
            self._report.follow(stopping)
        return stopping

    def _stopped(self, result: Failure | None) -> Failure | None:
        self._manager.stopped()
        return result

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
