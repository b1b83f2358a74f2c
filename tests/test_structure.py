"""
Tests for the shape of the code: what imports what, and who provides what.
"""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReadDescriptor, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementedBy
from zope.interface.verify import verifyClass, verifyObject

import iawlb
from iawlb.backend.socketconnector import PlainEndpoint, Target
from iawlb.core.events import IObserver
from iawlb.core.policies import POLICIES, IPolicy
from iawlb.core.session import IRelay
from iawlb.observe.eventlog import EventLog
from iawlb.observe.statistics import Statistics
from iawlb.relay.context import RelayContext
from iawlb.relay.fast import FastRelay
from iawlb.relay.poller import SocketPoller
from iawlb.relay.portable import PortableRelay
from iawlb.relay.sends import SendWatch
from iawlb.relay.side import Side
from tests.doubles import Backend

PACKAGE = Path(iawlb.__file__).parent
TOP = Path(__file__).parent.parent

ROOMS = [
    # The ground.
    "errors",
    "collector",
    "compat",
    "clock",
    "networks",
    "validators",
    "listvalidators",
    "tlsvalidators",
    "networkvalidators",
    "proxyvalidators",
    "checkvalidators",
    "commandvalidators",
    "adminplace",
    "setting",
    "options",
    "options.basics",
    "options.proxy",
    "options.tls",
    "options.routing",
    "options.admission",
    "options.bounds",
    "options.health",
    "options.affinity",
    "options.wake",
    "settings",
    "arguments",
    "logformat",
    "processsettings",
    # Rules: no I/O.
    "core",
    "core.outcome",
    "core.text",
    "core.ratelimit",
    "core.retired",
    "core.origin",
    "core.routes",
    "core.pause",
    "core.condition",
    "core.answertimes",
    "core.standing",
    "core.destination",
    "core.clientinfo",
    "core.session",
    "core.affinity",
    "core.policy",
    "core.least",
    "core.source",
    "core.quick",
    "core.policies",
    "core.line",
    "core.fairline",
    "core.priorityline",
    "core.discipline",
    "core.lines",
    "core.gate",
    "core.queue",
    "core.events",
    "core.ends",
    "core.sources",
    "core.sessionlimits",
    "core.turnstile",
    "core.table",
    "tlshello",
    "tlshello.fields",
    "tlshello.hello",
    "tlshello.reader",
    "tlshello.alert",
    "proxyprotocol",
    "proxyprotocol.crc32c",
    "proxyprotocol.header",
    "proxyprotocol.tlvs",
    "proxyprotocol.textual",
    "proxyprotocol.binary",
    "proxyprotocol.reading",
    "proxyprotocol.writing",
    # Bytes both ways.
    "relay",
    "relay.resets",
    "relay.sends",
    "relay.keepalive",
    "relay.poller",
    "relay.watchtimer",
    "relay.context",
    "relay.ends",
    "relay.records",
    "relay.side",
    "relay.waiting",
    "relay.rules",
    "relay.portable",
    "relay.plain",
    "relay.tlstransport",
    "relay.fastsocket",
    "relay.fast",
    "relay.timed",
    "relay.measured",
    "relay.throttle",
    "relay.limited",
    "relay.kinds",
    "relay.judging",
    # What is told of it.
    "observe",
    "observe.outputs",
    "observe.writer",
    "observe.moments",
    "observe.clientfields",
    "observe.formats",
    "observe.eventlog",
    "observe.accessfile",
    "observe.syslog",
    "observe.targets",
    "observe.accesslog",
    "observe.counts",
    "observe.statistics",
    "observe.bytecounts",
    "observe.looplag",
    "observe.processfigures",
    # How destinations are reached.
    "backend",
    "backend.socketconnector",
    "backend.names",
    "backend.hints",
    "backend.strings",
    "backend.held",
    "backend.pem",
    "backend.filewatch",
    "backend.openssl",
    "backend.tlscontexts",
    "backend.certificates",
    "backend.tlsserver",
    "backend.tlslistener",
    "backend.handshakes",
    "backend.binding",
    "backend.checks",
    "backend.shortforms",
    "backend.places",
    "backend.address",
    "backend.connector",
    "backend.tlsfaults",
    "backend.tlsclient",
    "backend.tlsconnector",
    "backend.tlsextra",
    "backend.shortage",
    # Programs that are started when a client comes, or to check a destination.
    "programs",
    "programs.surroundings",
    "programs.become",
    "programs.output",
    "programs.program",
    "programs.shared",
    # Checks of destinations.
    "health",
    "health.verdict",
    "health.words",
    "health.dialogues",
    "health.securely",
    "health.connecting",
    "health.running",
    "health.calling",
    "health.making",
    # Pull, connect, relay.
    "workers",
    "workers.timelimits",
    "workers.deadlines",
    "workers.workerpool",
    "workers.timers",
    "workers.connectors",
    "workers.prober",
    "workers.checker",
    "workers.agent",
    "workers.slowstart",
    "workers.ejector",
    "workers.holdoff",
    "workers.serving",
    "workers.watch",
    "workers.measuring",
    "workers.greeting",
    "workers.worker",
    "workers.backups",
    "workers.starters",
    "workers.readiness",
    "workers.waking",
    "workers.wakingworker",
    "workers.alarm",
    "workers.rebinder",
    "workers.spiller",
    # Where clients come in.
    "frontend",
    "frontend.limits",
    "frontend.admission",
    "frontend.factory",
    "frontend.patience",
    "frontend.heads",
    "frontend.steps",
    "frontend.hellostep",
    "frontend.servername",
    "frontend.stepped",
    "frontend.firstbyte",
    "frontend.tlsstep",
    "frontend.refusals",
    "frontend.door",
    "frontend.proxyheader",
    "frontend.routing",
    "frontend.choosing",
    "frontend.stepmaker",
    "frontend.unixpath",
    "frontend.acceptor",
    "frontend.handover",
    "frontend.listener",
    "frontend.listeners",
    "frontend.entrance",
    # What a user meets.
    "shared",
    "roster",
    "pausing",
    "pool",
    "balancer",
    "service",
    # The configuration.
    "config",
    "config.lines",
    "config.wording",
    "config.document",
    "config.model",
    "config.keys",
    "config.environment",
    "config.section",
    "config.clashes",
    "config.pools",
    "config.read",
    "config.schema",
    # Changes while it runs.
    "control",
    "control.errors",
    "control.answers",
    "control.bodies",
    "control.waits",
    "control.targets",
    "control.drains",
    "control.deploy",
    "control.operations",
    "control.build",
    "control.plan",
    "control.newlisteners",
    "control.apply",
    "control.reload",
    "control.overlay",
    "control.statefile",
    "control.restore",
    "control.keeper",
    # HTTP for those who operate a balancer.
    "admin",
    "admin.problem",
    "admin.access",
    "admin.httplimits",
    "admin.turns",
    "admin.httprequest",
    "admin.httpchannel",
    "admin.jsontext",
    "admin.members",
    "admin.routes",
    "admin.server",
    "admin.place",
    "admin.port",
    "admin.gauges",
    "admin.sources",
    "admin.family",
    "admin.balancerfamilies",
    "admin.tlsfamilies",
    "admin.wakefamilies",
    "admin.destinationfamilies",
    "admin.families",
    "admin.exposition",
    "admin.eventring",
    "admin.eventstream",
    "admin.views",
    "admin.parts",
    "admin.schemas",
    "admin.openapi",
    "admin.reading",
    "admin.changing",
    "admin.api",
    "admin.pagefiles",
    "admin.metricsroute",
    "admin.metricsserver",
    # The process of its own.
    "process",
    "process.demoserver",
    "process.demo",
    "process.processlog",
    "process.logs",
    "process.drainreport",
    "process.notify",
    "process.optiontable",
    "process.optionhints",
    "process.launcher",
    "process.metering",
    "process.administration",
    "process.hangup",
    "process.reloading",
    "process.running",
    "process.options",
    # The command line.
    "tap",
    # The command, which asks a running balancer over HTTP.
    "command",
    "command.failures",
    "command.connection",
    "command.client",
    "command.text",
    "command.tables",
    "command.output",
    "command.calls",
    "command.outcome",
    "command.tlsnotes",
    "command.wording",
    "command.looking",
    "command.changing",
    "command.deploying",
    "command.eventstream",
    "command.events",
    "command.topview",
    "command.topscreen",
    "command.top",
    "command.completion",
    "command.serving",
    "command.local",
    "command.main",
]
"""
All modules; each imports only those above it, also for type checkers alone.
"""


def moduleNames() -> list[str]:
    """
    List the modules of the package, without the package's own name.
    """
    names = []
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names.append(".".join(part for part in parts if part != "__init__"))
    return sorted(filter(None, names))


def imports(node: ast.AST) -> Iterator[str]:
    """
    Name all that is imported, in functions too, and for type checkers alone.
    """
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        # A name that is imported may be a module.
        yield from (f"{node.module}.{each.name}" for each in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def importedRooms(path: Path) -> set[str]:
    """
    Name the modules of ours that a file imports.
    """
    found = set()
    for name in imports(ast.parse(path.read_text())):
        package, _, inner = name.partition(".")
        if package == "iawlb":
            # The longest that is a module; the rest is a name in it.
            while inner not in ROOMS and inner:
                inner = inner.rpartition(".")[0]
            found.add(inner)
    return found


class RoomTests(SynchronousTestCase):
    """
    The order of the modules.
    """

    def test_allAreListed(self) -> None:
        """
        Each module has its place in the order.
        """
        self.assertEqual(moduleNames(), sorted(ROOMS))

    def test_importOnlyThoseAbove(self) -> None:
        """
        A reader who reads the modules in order never meets one that was not read
        before.
        """
        for place, name in enumerate(ROOMS):
            path = PACKAGE.joinpath(*name.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            below = importedRooms(path) - set(ROOMS[:place])
            self.assertEqual(below, set(), f"{name} imports what stands below it")

    def test_rulesKnowNoReactor(self) -> None:
        """
        The rules open no connection: they import no part of Twisted that could.
        """
        allowed = tuple(
            f"twisted.internet.{each}." for each in ("address", "defer", "interfaces")
        )
        rules = [name for name in ROOMS if name.startswith("core.")]
        self.assertTrue(rules)
        for name in rules:
            path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
            for each in imports(ast.parse(path.read_text())):
                known = not each.startswith(("socket", "select", "twisted."))
                others = ("twisted.logger.", "twisted.python.failure.")
                known = known or each.startswith((*allowed, *others))
                self.assertTrue(known, f"{name}: {each}")

    def test_pluginImportsNothingOfOurs(self) -> None:
        """
        C{twistd --help} runs none of our code.
        """
        path = TOP / "twisted" / "plugins" / "iawlb_plugin.py"
        self.assertEqual(importedRooms(path), set())

    def test_twistedIsNotHidden(self) -> None:
        """
        The folder of the plugin neither hides Twisted from programs that run Python
        here, nor the plugin from C{twistd}.
        """
        for folder in ("twisted", "twisted/plugins"):
            self.assertFalse((TOP / folder / "__init__.py").exists(), folder)

    def test_reactorIsNotImported(self) -> None:
        """
        Importing any part of iawlb installs no reactor, so that C{--reactor} and
        programs that embed it can still choose one.
        """
        modules = ", ".join(f"iawlb.{name}" for name in ROOMS)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys, {modules}\n"
                "sys.exit('twisted.internet.reactor' in sys.modules)",
            ],
            timeout=60,
            check=False,
            capture_output=True,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class InterfaceTests(SynchronousTestCase):
    """
    Objects that declare an interface of ours provide it.
    """

    def provides(self, interface: type[Interface], provider: Any) -> None:
        """
        Check that both an object and its class provide an interface.
        """
        verifyObject(interface, provider)
        verifyClass(interface, type(provider))
        self.assertIn(interface, implementedBy(type(provider)))

    def test_policies(self) -> None:
        """
        Each policy is one.
        """
        for kind in POLICIES.values():
            self.provides(IPolicy, kind())

    def test_eventLog(self) -> None:
        """
        The event log is an observer.
        """
        self.provides(IObserver, EventLog())

    def test_statistics(self) -> None:
        """
        The statistics are an observer.
        """
        self.provides(IObserver, Statistics(Clock()))

    def test_portableRelay(self) -> None:
        """
        The portable relay is a relay.
        """
        owner: Any = None
        client, server = (Side(owner, RelayContext(1024)) for _ in range(2))
        relay = PortableRelay(client, server, lambda: None, lambda outcome: None)
        self.provides(IRelay, relay)

    def test_fastRelay(self) -> None:
        """
        The fast relay is a relay too, and the object that serves its sockets is a
        reader of the reactor.
        """
        poller = SocketPoller(MemoryReactorClock(), 1024)
        sides: list[socket.socket] = []
        for _ in range(2):
            mine, other = socket.socketpair()
            self.addCleanup(mine.close)
            self.addCleanup(other.close)
            sides.append(mine)
        client, server = sides
        relay = FastRelay(
            client, server, poller, SendWatch(), lambda: None, lambda outcome: None
        )
        self.provides(IRelay, relay)
        self.provides(IReadDescriptor, poller)

    def test_plainEndpoint(self) -> None:
        """
        An endpoint that plain sockets can connect to is an endpoint all the same.
        """
        target = Target(socket.AF_UNIX, "/nowhere")
        self.provides(IStreamClientEndpoint, PlainEndpoint(Backend(), target))
