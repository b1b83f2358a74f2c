"""
The command line, in memory.
"""

from __future__ import annotations

import gc
import os
import pty
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.application.service import Application, IService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb import tap
from iawlb.collector import easeCollector
from iawlb.core.destination import Destination
from iawlb.errors import InvalidConfiguration
from iawlb.process import options as optionsModule
from iawlb.process.drainreport import DrainReport
from iawlb.process.options import Options
from iawlb.process.optiontable import OPTIONS
from iawlb.processsettings import ProcessSettings
from iawlb.setting import optionName
from iawlb.settings import Settings
from iawlb.tap import Process, makeService
from tests.doubles import Wire, accept
from tests.manager import Manager
from tests.pem import Issued


class _Reactor(MemoryReactorClock):
    """
    A reactor that may find an address taken.

    @ivar taken: A port that cannot be listened on.
    @ivar free: The port that it returns when asked for any.
    @ivar turns: How many times it was run by hand.
    """

    taken: int | None = None
    free = 40000
    turns = 0

    def listenTCP(self, port: int, *args: Any, **kwargs: Any) -> Any:
        if port == self.taken:
            raise CannotListenError(None, port, OSError(98, "Address already in use"))
        return super().listenTCP(port or self.free, *args, **kwargs)

    def iterate(self, delay: float = 0) -> None:
        self.turns += 1

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        self.callLater(0, call, *args)


class _Case(SynchronousTestCase):
    """
    Parses command lines.
    """

    def setUp(self) -> None:
        """
        Leave the limit of open files as it is, and catch what is printed.
        """
        self.raised: list[bool] = []
        self.patch(optionsModule, "raiseFileLimit", lambda: self.raised.append(True))
        self.printed = StringIO()
        self.patch(sys, "stdout", self.printed)
        self.reactor: Any = _Reactor()

    def parse(self, *arguments: str) -> Options:
        """
        Parse a command line.
        """
        options = Options(self.reactor)
        options.parseOptions(arguments)
        return options

    def exits(self, *arguments: str) -> Any:
        """
        Parse a command line that ends the process.

        @return: What is the exit status, or the line on standard error.
        """
        return self.assertRaises(SystemExit, self.parse, *arguments).code

    def opened(self) -> list[Any]:
        """
        List what was asked of the reactor.
        """
        reactor = self.reactor
        return [
            *reactor.tcpServers,
            *reactor.unixServers,
            *reactor.tcpClients,
            *reactor.getDelayedCalls(),
        ]


def _addresses(options: Options) -> list[str]:
    return options.balancer.pools["default"].listeners.addresses


def _added(options: Options) -> list[Destination]:
    return options.balancer.pools["default"].destinations


def _names(options: Options) -> list[str]:
    return [each.name for each in _added(options)]


class AdminTests(_Case):
    """
    The options of the admin server.
    """

    def test_wrong(self) -> None:
        """
        What is wrong is said at once, by the option that has to be changed, also with
        C{--check}.
        """
        limit = self.parse("8080", "9001").balancer.table.limit
        for options, right in (
            (
                ["--admin=0.0.0.0:8405"],
                "--admin: .* can be reached from other machines",
            ),
            (["--admin=x"], "--admin: 'x' is not an address"),
            (["--admin=8405", "--admin-tokens=/no"], "--admin-tokens: cannot read /no"),
            (
                ["--admin=8405", f"--max-connections={limit}"],
                r"--max-connections: .* \+ 96 = ",
            ),
        ):
            for check in ([], ["--check"]):
                line = self.exits(*check, *options, "8080", "9001")
                self.assertRegex(line, f"^iawlb: {right}")
                self.assertNotIn("\n", line)

    def test_check(self) -> None:
        """
        C{--check} opens no admin server.
        """
        # A short path, as Unix sockets need.
        path = f"{self.enterContext(TemporaryDirectory())}/admin.sock"
        self.assertEqual(self.exits("--check", f"--admin={path}", "8080", "9001"), 0)
        self.assertFalse(os.path.exists(path))


class FileTests(_Case):
    """
    C{--config} builds the balancer of a file.
    """

    def setUp(self) -> None:
        """
        Write a file.
        """
        super().setUp()
        self.path = self.mktemp()
        # Short: the kernel takes 108 bytes.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.admin = f"{folder}/admin"
        self.write(
            "[pools.web]\nlisten = 8080\nqueue-timeout = 5\nslots = 9\n"
            "destination-slots = 2\n[pools.web.destinations]\na = 9001\n"
            "b = { address = 9002, slots = 4, weight = 3 }\n"
            "[pools.db]\nlisten = [{ address = '/a', mode = '600' }, 5432]\n"
            f"[global]\nlog = 'errors'\n[admin]\nlisten = '{self.admin}'\n"
        )

    def write(self, text: str) -> None:
        """
        Write another text into the file.
        """
        Path(self.path).write_text(text)

    def file(
        self, *arguments: str, usual: str | None = None, **environment: str
    ) -> Options:
        """
        Parse a command line with the file.
        """
        options = Options(self.reactor, usual, environment)
        options.parseOptions([f"--config={self.path}", *arguments])
        return options

    def refused(self, *arguments: str, **environment: str) -> list[str]:
        """
        Parse a command line that ends the process.

        @return: The lines on standard error.
        """
        error = self.assertRaises(SystemExit, self.file, *arguments, **environment)
        lines: list[str] = error.code.splitlines()
        return lines

    def test_pools(self) -> None:
        """
        Each pool has its own listeners, destinations and settings.
        """
        options = self.file()
        web, db = options.balancer.pools.values()
        self.assertEqual((web.name, db.name), ("web", "db"))
        self.assertEqual(web.listeners.addresses, ["8080"])
        self.assertEqual(db.listeners.addresses, ["/a", "5432"])
        self.assertEqual(
            [(each.name, each.slots, each.weight) for each in web.destinations],
            [("a", 2, 1), ("b", 4, 3)],
        )
        self.assertEqual(db.destinations, [])
        self.assertEqual((web.settings.queueTimeout, web.settings.poolSlots), (5, 9))
        self.assertEqual((db.settings.queueTimeout, db.settings.poolSlots), (30, 0))
        self.assertEqual(next(iter(db.listeners)).settings.mode, 0o600)
        self.assertEqual(options.balancer.settings.log, "errors")
        self.assertTrue(options.logs.access.errorsOnly)
        self.assertEqual(options.processSettings.admin, self.admin)
        self.assertEqual(options.configuration.path, os.path.abspath(self.path))
        self.assertEqual(self.opened(), [])

    def test_precedence(self) -> None:
        """
        The environment wins over the file, and options win over both.
        """
        options = self.file(
            "--rest=3s", IAWLB_QUEUE_TIMEOUT="7s", IAWLB_REST="1s", IAWLB_LOG="all"
        )
        for pool in options.balancer.pools.values():
            self.assertEqual(pool.settings.queueTimeout, 7)
            self.assertEqual(pool.settings.rest, 3)
        self.assertEqual(options.balancer.settings.log, "all")
        self.patch(os, "environ", {"IAWLB_REST": "8s"})
        options = Options(self.reactor)
        options.parseOptions([f"--config={self.path}"])
        self.assertEqual(options.balancer.pools["web"].settings.rest, 8)

    def test_flags(self) -> None:
        """
        An option without a value says nothing while it is not given: what the file or
        the environment says is so.
        """
        pool = "[pools.web]\nlisten = 8080\n"
        self.write(f"{pool}[global]\nabort-on-close = true\n[log]\nconnect = true\n")
        options = self.file()
        self.assertTrue(options.balancer.settings.abortOnClose)
        self.assertTrue(options.processSettings.logConnect)
        self.write(pool)
        options = self.file(IAWLB_ABORT_ON_CLOSE="yes")
        self.assertTrue(options.balancer.settings.abortOnClose)
        options = self.file("--abort-on-close", "--log-connect")
        self.assertTrue(options.balancer.settings.abortOnClose)
        self.assertTrue(options.processSettings.logConnect)

    def test_usualAdmin(self) -> None:
        """
        Where there is a usual place of the admin server, it is there, unless the file,
        the environment or an option says otherwise.
        """
        self.assertEqual(self.file(usual="/u").processSettings.admin, self.admin)
        admin = self.file("--admin=", usual="/u").processSettings.admin
        self.assertEqual(admin, "")
        self.write("[pools.web]\nlisten = 80")
        self.assertEqual(self.file().processSettings.admin, "")
        self.assertEqual(self.file(usual="/u").processSettings.admin, "/u")
        options = self.file(usual="/u", IAWLB_ADMIN="/e")
        self.assertEqual(options.processSettings.admin, "/e")

    def test_check(self) -> None:
        """
        C{--check} says that a file is right, or all that is wrong with it.
        """
        error = self.assertRaises(SystemExit, self.file, "--check")
        self.assertEqual(error.code, 0)
        self.assertEqual(self.printed.getvalue(), "iawlb: configuration is valid\n")
        self.write("[pools.web]\nlisten = 'x'\nrest = 'x'")
        self.assertEqual(
            self.refused("--check", "--policy=x"),
            [
                f"{self.path}:2: pools.web.listen: 'x' has no port: write 'x:8080'",
                f"{self.path}:3: pools.web.rest: 'x' is not a duration: write 500ms, "
                "30s, 5m or 1h, at most 168h",
                "--policy: 'x' is not one of least, fifo, first, source, quick",
            ],
        )

    def test_beside(self) -> None:
        """
        Addresses cannot stand beside a file.
        """
        for arguments, part in (
            (["--listen=80"], "--listen"),
            (["--dest=80"], "--dest"),
            (["--demo=2"], "--demo"),
            (["8080"], "an address"),
        ):
            (line,) = self.refused(*arguments)
            self.assertEqual(
                line,
                f"iawlb: {part} cannot stand beside --config: the file says where to "
                "listen and where to forward to",
            )

    def test_readAgain(self) -> None:
        """
        The file can be read again with the same options, also from another folder, and
        messages call it as the user did.
        """
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        options = self.file("--rest=3s")
        os.chdir("/")
        assert options.readAgain is not None
        self.assertEqual(options.readAgain(), options.configuration)
        os.chdir(here)
        self.write("[pools.web]\nlisten = 80\nrest = 'x'")
        os.chdir("/")
        error = self.assertRaises(InvalidConfiguration, options.readAgain)
        (line,) = error.mistakes
        self.assertTrue(line.startswith(f"{self.path}:3: pools.web.rest: "), line)
        self.assertIsNone(self.parse("8080", "9001").readAgain)

    def test_impossible(self) -> None:
        """
        What this machine cannot do is said with the place where it was asked for.
        """
        self.write("[global]\nmax-connections = 10000000\n[pools.a]\nlisten = 80")
        (line,) = self.refused()
        start = f"{self.path}:2: global.max-connections: 10000000 connections need"
        self.assertTrue(line.startswith(start), line)

    def test_placed(self) -> None:
        """
        A mistake that shows itself late is said with its place too, or with the option
        or variable that has made it.
        """
        end = "\n[pools.a]\nlisten = 80"
        self.write(f"[admin]\nlisten = '0.0.0.0:8405'{end}")
        (line,) = self.refused()
        self.assertTrue(line.startswith(f"{self.path}:2: admin.listen: 0.0.0.0"), line)
        self.write(f"[admin]\ntokens = '/nowhere'{end}")
        (line,) = self.refused("--admin=127.0.0.1:8405")
        start = f"{self.path}:2: admin.tokens: cannot read /nowhere"
        self.assertTrue(line.startswith(start), line)
        self.write(end)
        (line,) = self.refused("--admin=0.0.0.0:8405")
        self.assertTrue(line.startswith("--admin: 0.0.0.0:8405 can be"), line)
        (line,) = self.refused(IAWLB_ADMIN="0.0.0.0:8405")
        self.assertTrue(line.startswith("IAWLB_ADMIN: 0.0.0.0:8405 can be"), line)
        read = self.file().configuration
        self.assertEqual(read.mistake("log.to", "is full"), "log.to: is full")

    def test_serve(self) -> None:
        """
        The process of a file listens for all of its pools.
        """
        process = Process(self.file(), self.reactor)
        process.privilegedStartService()
        ports = [each[0] for each in self.reactor.tcpServers]
        self.assertEqual(ports, [8080, 5432])
        ((path, _, _, mode, _),) = self.reactor.unixServers
        self.assertEqual((path, mode), ("/a", 0o600))

    def test_withoutFile(self) -> None:
        """
        A command line without a file is described as a configuration too; variables
        count only where they are asked for.
        """
        options = Options(self.reactor, None, {"IAWLB_REST": "2s"})
        options.parseOptions(["8080", "9001", "--slots=3", "--admin=/x"])
        read = options.configuration
        (pool,) = read.pools.values()
        self.assertEqual((pool.name, read.path), ("default", None))
        self.assertEqual((pool.settings.slots, pool.settings.rest), (3, 2))
        self.assertEqual(read.process.admin, "/x")
        self.assertEqual([each.address for each in pool.listeners], ["8080"])
        (destination,) = pool.destinations.values()
        self.assertEqual((destination.name, destination.settings.slots), ("9001", 3))
        for path, origin in (
            ("pools.default.destination-slots", "--slots"),
            ("pools.default.rest", "IAWLB_REST"),
            ("pools.default.policy", "default"),
            ("pools.default.listen[0]", "--listen"),
            ("pools.default.destinations.9001", "--dest"),
            ("admin.listen", "--admin"),
            ("global.log", "default"),
        ):
            self.assertEqual(str(read.origins[path]), origin)
        self.patch(os, "environ", {"IAWLB_REST": "8s"})
        plain = self.parse("8080", "9001")
        self.assertEqual(plain.configuration.pools["default"].settings.rest, 0)
        self.assertEqual(
            self.assertRaises(
                SystemExit,
                Options(self.reactor, None, {"IAWLB_REST": "x"}).parseOptions,
                ["8080", "9001"],
            ).code,
            "iawlb: IAWLB_REST: 'x' is not a duration: write 500ms, 30s, 5m or 1h, at "
            "most 168h",
        )


class OptionsTests(_Case):
    """
    The options on the command line reach the balancer.
    """

    def test_positional(self) -> None:
        """
        PORT [[HOST:]PORT]... is where to listen, and the destinations.
        """
        options = self.parse("8080", "9001", "127.0.0.1:9002", "[::1]:9003")
        self.assertEqual(_addresses(options), ["8080"])
        self.assertEqual(
            [each.address for each in _added(options)],
            ["tcp:localhost:9001", "tcp:127.0.0.1:9002", r"tcp:\:\:1:9003"],
        )

    def test_repeated(self) -> None:
        """
        --listen and --dest can be given several times, and --dest beside
        destinations without an option.
        """
        options = self.parse(
            "--listen=8080", "--listen", "/a", "--dest=9001", "--dest", "9002"
        )
        self.assertEqual(_addresses(options), ["8080", "/a"])
        self.assertEqual(_names(options), ["9001", "9002"])
        self.assertEqual(
            _names(self.parse("80", "9002", "--dest", "9001")), ["9001", "9002"]
        )

    def test_anyOrder(self) -> None:
        """
        Options can stand before, between and behind addresses, in full or
        shortened, and behind -- there are only addresses.
        """
        for line in (
            ("--slots=4", "--policy", "fifo", "8080", "9001", "9002"),
            ("8080", "9001", "9002", "--policy", "fifo", "--slots=4"),
            ("8080", "--slots", "4", "9001", "--policy=fifo", "9002"),
            ("8080", "--slot", "4", "--pol=fifo", "--", "9001", "9002"),
        ):
            options = self.parse(*line)
            self.assertEqual(_addresses(options), ["8080"])
            self.assertEqual(_names(options), ["9001", "9002"])
            self.assertEqual(options.balancer.settings.slots, 4)
            self.assertEqual(options.balancer.settings.policy, "fifo")

    def test_lastWins(self) -> None:
        """
        Of a setting given twice, the last counts.
        """
        options = self.parse("8080", "9001", "--slots=4", "--slots=5")
        self.assertEqual(options.balancer.settings.slots, 5)

    def test_defaults(self) -> None:
        """
        Without options everything is as the help says; the limit of open files is
        raised, and nothing is opened before twistd starts the service.
        """
        options = self.parse("8080", "9001")
        self.assertEqual(options.balancer.settings, Settings())
        self.assertEqual(options.demo, 0)
        self.assertEqual(self.raised, [True])
        self.assertEqual(self.opened(), [])
        self.assertEqual(self.printed.getvalue(), "")

    def test_everySetting(self) -> None:
        """
        Every setting has an option, which sets it, but for one that makes sense only
        with several pools.
        """
        own = Path(self.mktemp()).absolute()
        issued = Issued("own", authority=True)
        own.write_bytes(issued.pem + issued.keyPem)
        given: dict[str, tuple[str, object]] = {
            "policy": ("source", "source"),
            "slots": ("3", 3),
            "poolSlots": ("6", 6),
            "rest": ("10ms", 0.01),
            "whenDown": ("refuse", "refuse"),
            "queueSize": ("7", 7),
            "maxConnections": ("5", 5),
            "backlog": ("9", 9),
            "acceptBatch": ("2", 2),
            "acceptDelay": ("7ms", 0.007),
            "takeSlot": ("first-byte", "first-byte"),
            "abortOnClose": ("", True),
            "relay": ("portable", "portable"),
            "bufferSize": ("64k", 65536),
            "strictTls": ("", True),
            "log": ("errors", "errors"),
            "connectTimeout": ("2s", 2.0),
            "queueTimeout": ("1m", 60.0),
            "handshakeTimeout": ("0", 0.0),
            "idleTimeout": ("2h", 7200.0),
            "halfClosedTimeout": ("3.5", 3.5),
            "answerTimeout": ("31s", 31.0),
            "drainTimeout": ("5m", 300.0),
            "keepaliveIdle": ("90", 90.0),
            "keepaliveInterval": ("5s", 5.0),
            "keepaliveCount": ("7", 7),
            "userTimeout": ("3s", 3.0),
            "backoff": ("200ms", 0.2),
            "backoffMax": ("9s", 9.0),
            "acceptProxy": ("::1,unix", ("::1", "unix")),
            "proxyTimeout": ("12s", 12.0),
            "sendProxy": ("v2", "v2"),
            "proxyTlvs": ("alpn,ssl", ("alpn", "ssl")),
            "tls": ("", True),
            "tlsCa": (f"{own}", f"{own}"),
            "tlsName": ("db.example", "db.example"),
            "tlsVerify": ("no", False),
            "tlsCertificate": (f"{own}", f"{own}"),
            "tlsKey": (f"{own}", f"{own}"),
            "tlsAlpn": ("h2,x", ("h2", "x")),
            "serverNames": ("a.example,*.b", ("a.example", "*.b")),
            "protocols": ("h2", ("h2",)),
            "allow": ("10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
            "deny": ("10.1.0.0/16", ("10.1.0.0/16",)),
            "maxSessions": ("500", 500),
            "sessionRate": ("100", "100/s"),
            "maxPerSource": ("20", 20),
            "sourceRate": ("5/m", "5/m"),
            "sourceMask": ("24,48", (24, 48)),
            "overLimit": ("refuse", "refuse"),
            "fairness": ("", True),
            "clientTimeout": ("11s", 11.0),
            "bandwidthIn": ("1m", 1024 * 1024),
            "bandwidthOut": ("64k", 65536),
            "maxAge": ("12h", 43_200.0),
            "maxAgeJitter": ("25%", 0.25),
            "affinity": ("tlv:0xE0", "tlv:224"),
            "loadFactor": ("125%", 1.25),
            "spillAfter": ("2s", 2.0),
            "healthCheck": ("http:/health", "http:/health"),
            "checkAddress": ("9100", "9100"),
            "checkInterval": ("3s", 3.0),
            "checkFast": ("1s", 1.0),
            "checkDown": ("4s", 4.0),
            "checkTimeout": ("5s", 5.0),
            "rise": ("3", 3),
            "fall": ("4", 4),
            "checkMethod": ("HEAD", "HEAD"),
            "checkStatus": ("200,404", ("200", "404")),
            "checkSend": ("PING\\r\\n", "PING\\r\\n"),
            "checkExpect": ("re:PONG", "re:PONG"),
            "checkCommand": ("check -x", ("check", "-x")),
            "checkPasswordFile": ("/etc/password", "/etc/password"),
            "agent": ("9101", "9101"),
            "ejectAfter": ("5", 5),
            "slowStart": ("30s", 30.0),
            "endOnDown": ("", True),
        }
        known = [each for each in fields(Settings) if each.name != "through"]
        self.assertEqual(set(given), {each.name for each in known})
        line = [
            f"--{optionName(each)}={given[each.name][0]}".rstrip("=") for each in known
        ]
        settings = self.parse("8080", "9001", *line).balancer.settings
        for name, (_, value) in given.items():
            self.assertEqual((name, getattr(settings, name)), (name, value))
        error = self.assertRaises(
            SystemExit, self.parse, "8080", "9001", "--through=web"
        )
        self.assertIn("--through: a command line has one pool", str(error))

    def test_processOptions(self) -> None:
        """
        The options of the access log are settings of the process.
        """
        options = self.parse(
            "8080",
            "9001",
            "--log-format=json",
            "--log-to=/nowhere/log",
            "--log-null=no",
            "--log-connect",
            "--log-interval=1m",
            "--log-level=warn",
        )
        self.assertEqual(
            options.processSettings,
            ProcessSettings(
                logFormat="json",
                logTo="/nowhere/log",
                logNull=False,
                logConnect=True,
                logInterval=60,
                logLevel="warn",
            ),
        )
        self.assertFalse(options.logs.access.endsOnly)

    def test_behindAddresses(self) -> None:
        """
        Settings of one destination or listener are written behind its address; --slots
        is for destinations without their own.
        """
        options = self.parse(
            "--listen=8080 name=front",
            "--dest=tcp:localhost:9001 name=a slots=4 weight=2",
            "--dest=9002",
            "--slots=7",
        )
        shown = [(each.name, each.slots, each.weight) for each in _added(options)]
        self.assertEqual(shown, [("a", 4, 2), ("9002", 7, 1)])

    def test_demo(self) -> None:
        """
        --demo adds destinations, so that none has to be given.
        """
        self.assertEqual(self.parse("8080", "--demo=3").demo, 3)
        self.assertEqual(_names(self.parse("8080", "9001", "--demo=3")), ["9001"])

    def test_check(self) -> None:
        """
        --check says that the configuration is valid, opens nothing, and ends with
        status 0.
        """
        self.assertEqual(self.exits("--check", "8080", "9001"), 0)
        self.assertEqual(self.printed.getvalue(), "iawlb: configuration is valid\n")
        self.assertEqual(self.opened(), [])
        self.assertIn("65536", self.exits("--check", "65536", "9001"))

    def test_version(self) -> None:
        """
        --version prints our version, not Twisted's.
        """
        self.assertEqual(self.exits("--version"), 0)
        self.assertEqual(self.printed.getvalue(), f"iawlb {version('iawlb')}\n")

    def test_help(self) -> None:
        """
        --help fits into 80 columns, and names every option, with its unit, its
        default and its choices.
        """
        self.assertEqual(self.exits("--help"), 0)
        shown = self.printed.getvalue()
        self.assertLessEqual(max(map(len, shown.splitlines())), 80)
        self.assertTrue(shown.isascii())
        for option in ("listen=ADDRESS", "dest=ADDRESS", "demo=N", "check", "version"):
            self.assertIn(f"\n  --{option} ", shown)
        words = " ".join(shown.split())
        for each in OPTIONS:
            head = f"--{optionName(each)}={each.metadata['unit']}".rstrip("=")
            _, found, text = words.partition(f" {head} ")
            self.assertEqual(found.strip(), head)
            self.assertIn(f"(default {each.metadata['shown']})", text.split(" --")[0])
        for word in ("least", "fifo", "first", "source", "hold", "refuse"):
            self.assertIn(word, words)

    def test_own(self) -> None:
        """
        Without a reactor of the caller's, the running one is used; without arguments,
        those of the process.
        """
        self.patch(sys, "argv", ["iawlb", "8080", "9001"])
        options = Options()
        options.parseOptions()
        self.assertEqual(_addresses(options), ["8080"])

    def test_bad(self) -> None:
        """
        A wrong command line ends in one line, which names the option and quotes
        the bad value.
        """
        good = ("--listen=8080", "--dest=9001")
        for line, *parts in (
            ((), "nowhere to listen"),
            (("--dest=9001",), "nowhere to listen"),
            (("8080",), "no destination"),
            (("--listen=8080",), "no destination"),
            (("8080", "9001", "--listen=8081"), "'8080'", "--listen"),
            (("8080", "0"), "destination: '0'"),
            (("8080", "abc"), "destination: 'abc'"),
            (("8080", "9001", "9001"), "destination: ", "'9001'", "name="),
            (("8080", "-1"), "-1"),
            ((*good, "--nothing"), "--nothing"),
            ((*good, "--no\nthing"), r"--no\nthing"),
            ((*good, "--slots"), "--slots"),
            ((*good, "--check=1"), "--check"),
            ((*good, "--b=1"), "--b"),
            ((*good, "--slots=-1"), "--slots: '-1'", "from 0 to"),
            ((*good, "--connect-timeout=0"), "--connect-timeout: '0'"),
            ((*good, "--idle-timeout=1y"), "--idle-timeout: '1y'"),
            ((*good, "--buffer-size=1"), "--buffer-size: '1'", "64k"),
            ((*good, "--policy=best"), "--policy: 'best'", "least"),
            ((*good, "--when-down=stop"), "--when-down: 'stop'", "hold"),
            ((*good, "--max-connections=9999999"), "--max-connections: 9999999"),
            ((*good, "--log-format={clent}"), "--log-format: {clent}", "{client}"),
            ((*good, "--log-to=x.log"), "--log-to: 'x.log'", "from / on"),
            ((*good, "--demo=0"), "--demo: '0'"),
            ((*good, "--demo=2", "--state=/x"), "--state does not go with --demo"),
            ((*good, "--demo=2", "--dest=9 name=demo-2"), "--demo: ", "'demo-2'"),
            ((*good, "--dest=9002 slots=x"), "--dest: slots: 'x'"),
            ((*good, "--dest=9 send-proxy=3"), "--dest: send-proxy: '3'"),
            ((*good, "--tls-ca=/ca"), "--tls-ca: no TLS is spoken"),
            ((*good, "--dest=9 tls-ca=/ca"), "--dest: tls-ca: no TLS is spoken"),
            ((*good, "--dest=/x tls=yes"), "--dest: tls-name: the address"),
            ((*good, "--listen=/x tls-min=1"), "--listen: tls-min: '1'"),
            ((*good, "--dest=9002 name=9001"), "--dest: ", "'9001'"),
            ((*good, "--listen=8081 slots=1"), "--listen: ", "'slots'"),
        ):
            message = self.exits(*line)
            self.assertEqual(message.splitlines(), [message])
            for part in ("iawlb: ", *parts):
                self.assertIn(part, message)
        self.assertEqual(self.opened(), [])


class ProcessTests(_Case):
    """
    The balancer as a process of twistd's.
    """

    def setUp(self) -> None:
        """
        Catch what goes to standard error, and the signal handlers.
        """
        super().setUp()
        self.eased: list[bool] = []
        self.patch(tap, "easeCollector", lambda: self.eased.append(True))
        self.errors = StringIO()
        self.patch(sys, "__stderr__", self.errors)
        self.handlers: dict[int, Callable[..., object]] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.passedOn: list[int] = []
        self.patch(
            signal,
            "getsignal",
            lambda _: lambda number, frame: self.passedOn.append(number),
        )

    def process(self, *arguments: str, parent: Any = None) -> Process:
        """
        Make the service.

        @param parent: What stands for twistd's own options.
        """
        options = self.parse(*arguments)
        options.parent = parent
        return Process(options, self.reactor)

    def test_makeService(self) -> None:
        """
        twistd gets a service that is not started yet.
        """
        timed: list[Any] = []
        self.patch(tap, "useMonotonicTime", timed.append)
        service: Any = makeService(self.parse("8080", "9001"))
        self.assertEqual(len(timed), 1)
        self.assertTrue(verifyObject(IService, service))
        self.assertFalse(service.running)
        self.assertEqual(self.opened(), [])

    def test_log(self) -> None:
        """
        As a part of twistd's application, the process takes the log over before the log
        begins; in a program that makes an application itself, it does not.
        """
        self.patch(sys, "stdout", self.enterContext(open(os.devnull, "w")))
        parent = {
            "nodaemon": True,
            "logfile": "-",
            "syslog": False,
            "logger": None,
        }
        for given, taken in ((parent, True), (None, False)):
            process = self.process("8080", "9001", "--log=errors", parent=given)
            application = Application("iawlb")
            process.setServiceParent(application)
            log = process._options.logs.access
            self.assertEqual(log.writer is not None, taken)
            self.assertIs(application.getComponent(ILogObserver), log.writer)
            self.assertTrue(log.errorsOnly)
            if log.writer is not None:
                log.writer.close()
        self.assertFalse(self.parse("8080", "9001").logs.access.errorsOnly)

    def test_placeNotOpened(self) -> None:
        """
        A place for the access log that cannot be opened is one line, which names the
        option.
        """
        process = self.process("8080", "9001", "--log-to=/nowhere/log")
        stop = self.assertRaises(
            SystemExit, process.setServiceParent, Application("iawlb")
        )
        self.assertEqual(
            str(stop),
            "iawlb: --log-to: cannot write the access log to /nowhere/log: No such "
            "file or directory",
        )

    def test_demoOnTerminal(self) -> None:
        """
        On a terminal the lines of the demo are shown bare, and those of sessions
        that ended well only if they are asked for; elsewhere both are log lines.
        """
        reading, writing = pty.openpty()
        self.addCleanup(os.close, reading)
        terminal = self.enterContext(os.fdopen(writing, "w"))
        nowhere = self.enterContext(open(os.devnull, "w"))
        folder = self.enterContext(TemporaryDirectory())
        for output, name, arguments, bare, errorsOnly in (
            (terminal, "-", [], True, True),
            (terminal, None, ["--log=all"], True, False),
            (terminal, f"{folder}/log", [], False, False),
            (nowhere, "-", [], False, False),
        ):
            self.patch(sys, "stdout", output)
            parent = {
                "nodaemon": True,
                "logfile": name,
                "syslog": False,
                "logger": None,
            }
            process = self.process("8080", "--demo=1", *arguments, parent=parent)
            process.setServiceParent(Application("iawlb"))
            log = process._options.logs.access
            assert log.writer is not None and process._demo is not None
            self.assertEqual(log.errorsOnly, errorsOnly)
            process._demo.show("states")
            log.writer.close()
            if bare:
                self.assertEqual(os.read(reading, 100), b"states\r\n")

    def test_eased(self) -> None:
        """
        Once the process has started, the garbage collector is eased, once; in a program
        that embeds the balancer it is not, as the program decides that.
        """
        process = self.process("8080", "9001")
        process.privilegedStartService()
        self.assertEqual(self.eased, [])
        process.startService()
        self.assertEqual(self.eased, [True])
        self.successResultOf(process.stopService())

    def test_started(self) -> None:
        """
        The process listens while it has its privileges, once.
        """
        process = self.process("8080", "9001")
        process.privilegedStartService()
        self.assertEqual([each[0] for each in self.reactor.tcpServers], [8080])
        process.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.successResultOf(process.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_demo(self) -> None:
        """
        With --demo the demo servers are started too.
        """
        process = self.process("8080", "--demo=2")
        process.privilegedStartService()
        process.startService()
        ports = [each[0] for each in self.reactor.tcpServers]
        self.assertEqual(ports, [8080])
        self.assertEqual(len(self.reactor.adoptedPorts), 2)
        self.assertEqual(
            [each.name for each in process._balancer.pools["default"].destinations],
            ["demo-1", "demo-2"],
        )
        self.successResultOf(process.stopService())

    def _fails(self, start: Callable[[], None]) -> None:
        error = self.assertRaises(SystemExit, start)
        self.assertEqual(error.code, 1)
        self.assertEqual(
            self.errors.getvalue(),
            "iawlb: cannot listen on 8080: Address already in use\n",
        )
        # A Unix socket that was opened before it is removed in that turn.
        self.assertEqual(self.reactor.turns, 1)

    def test_taken(self) -> None:
        """
        An address that is taken ends the process with status 1 and one line,
        whether twistd or twist runs it.
        """
        self.reactor.taken = 8080
        self._fails(self.process("8080", "9001").privilegedStartService)

    def test_takenUnderTwist(self) -> None:
        """
        So it does under twist, which starts a service in one step.
        """
        self.reactor.taken = 8080
        self._fails(self.process("8080", "9001", parent={}).startService)

    def test_takenDaemon(self) -> None:
        """
        A daemon that cannot start reports why to the waiting twistd. By then the file
        with its process number is gone, since twistd ends at once.
        """
        self.reactor.taken = 8080
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(reading, False)  # a pipe that stays open fails the test
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "twistd.pid")
        path.write_text("1")
        parent = {"pidfile": str(path), "statusPipe": writing}
        process = self.process("8080", "9001", parent=parent)
        left: list[bool] = []

        def write(number: int, data: bytes, write: Any = os.write) -> None:
            left.append(path.exists())
            write(number, data)

        self.patch(os, "write", write)
        self._fails(process.privilegedStartService)
        self.assertEqual(left, [False])
        told = os.read(reading, 1000)
        self.assertEqual(told, b"1 cannot listen on 8080: Address already in use")
        self.assertEqual(os.read(reading, 1), b"")

    def test_withoutFile(self) -> None:
        """
        It does not matter if the file with the process number is gone already.
        """
        self.reactor.taken = 8080
        parent = {"pidfile": "/nowhere/twistd.pid"}
        process = self.process("8080", "9001", parent=parent)
        self._fails(process.privilegedStartService)

    def test_drain(self) -> None:
        """
        The first signal lets sessions finish; the second, of either kind, closes
        them at once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            process, client = self._served()
            stopping = process.stopService()
            self.reactor.advance(5)
            self.assertNoResult(stopping)
            self.assertIsNone(client.closing)
            self.handlers[number](number, None)
            self._cut(client, stopping)
            self.assertEqual(self.passedOn, [])

    def test_signalsTogether(self) -> None:
        """
        Two signals that come before the reactor has acted on the first cut the drain
        short too; Twisted gets the first only.
        """
        process, client = self._served()
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.handlers[signal.SIGINT](signal.SIGINT, None)
        self.assertEqual(self.passedOn, [signal.SIGTERM])
        self.reactor.advance(0)
        self._cut(client, process.stopService())

    def said(self) -> Callable[[], list[str]]:
        """
        Collect the messages of the process while it drains.

        @return: A function that returns the messages since its last call.
        """
        events: list[LogEvent] = []
        self.patch(DrainReport, "log", Logger(observer=events.append))  # type: ignore[arg-type]

        def since() -> list[str]:
            lines = [formatEvent(each) for each in events]
            events.clear()
            return lines

        return since

    def test_progress(self) -> None:
        """
        While the process waits for connections, it logs how many there are, how long it
        still waits, and how to end the wait; and it stops logging when they are gone.
        """
        said = self.said()
        process, client = self._served()
        stopping = process.stopService()
        self.assertEqual(
            said(),
            [
                "waiting for 1 connection, up to 30 s; Ctrl-C or SIGTERM once more "
                "closes it now"
            ],
        )
        self.reactor.advance(4.9)
        self.assertEqual(said(), [])
        self.reactor.advance(0.1)
        self.assertEqual(said(), ["waiting for 1 connection, up to 25 s more"])
        client.lose()
        self.reactor.advance(0)
        self.successResultOf(stopping)
        self.assertEqual((said(), self.reactor.getDelayedCalls()), ([], []))

    def test_progressOfSeveral(self) -> None:
        """
        Several connections are counted, until their time is over.
        """
        said = self.said()
        process = self.process("8080", "127.0.0.1:9001", "--drain-timeout=8s")
        process.privilegedStartService()
        process.startService()
        clients = [accept(self.reactor.tcpServers[0][1]) for _ in range(2)]
        stopping = process.stopService()
        (line,) = said()
        self.assertIn("2 connections, up to 8 s", line)
        self.assertIn("closes them now", line)
        self.reactor.advance(5)
        self.assertEqual(said(), ["waiting for 2 connections, up to 3 s more"])
        self.reactor.advance(5)
        self.assertEqual(said(), [])
        for client in clients:
            client.lose()
        self.reactor.advance(0)
        self.successResultOf(stopping)

    def test_progressCut(self) -> None:
        """
        When the drain is cut short the log says so, and nothing else follows; also if
        it was cut before it began.
        """
        said = self.said()
        for early in (False, True):
            process, client = self._served()
            handler = self.handlers[signal.SIGTERM]
            if early:
                handler(signal.SIGTERM, None)
                handler(signal.SIGTERM, None)
                process._stopSignalled = True
                self.reactor.advance(0)
                stopping = process.stopService()
            else:
                stopping = process.stopService()
                said()
                handler(signal.SIGTERM, None)
            self._cut(client, stopping)
            self.assertIn("closing 1 connection now", said())
            self.reactor.advance(9)
            self.assertEqual(said(), [])

    def test_progressOfNothing(self) -> None:
        """
        Nothing is logged when there is no connection to wait for, or no time to wait.
        """
        said = self.said()
        process = self.process("8080", "9001")
        process.privilegedStartService()
        process.startService()
        self.reactor.whenRunningHooks.pop()[0]()
        self.successResultOf(process.stopService())
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.reactor.advance(0)
        process = self.process("8081", "127.0.0.1:9001", "--drain-timeout=0")
        process.privilegedStartService()
        process.startService()
        client = accept(self.reactor.tcpServers[-1][1])
        stopping = process.stopService()
        client.lose()
        self.reactor.advance(0)
        self.successResultOf(stopping)
        self.assertEqual(said(), [])

    def test_serviceManager(self) -> None:
        """
        systemd is told when the reactor runs, and before the listeners close.
        """
        folder = self.enterContext(TemporaryDirectory())
        manager = self.enterContext(Manager(f"{folder}/notify"))
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": manager.address})
        process = self.process("8080", "9001")
        process.privilegedStartService()
        process.startService()
        self.assertEqual(manager.read(), [])
        for hook, arguments, keywords in self.reactor.whenRunningHooks:
            hook(*arguments, **keywords)
        self.assertEqual(manager.all("READY"), ["1"])
        self.successResultOf(process.stopService())
        self.assertEqual(manager.all("STOPPING"), ["1"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_ignoredSignal(self) -> None:
        """
        A signal that the shell makes the process ignore stays ignored.
        """
        self.patch(signal, "getsignal", lambda _: signal.SIG_IGN)
        self._served()
        self.assertEqual(self.handlers, {})

    def _served(self) -> tuple[Process, Wire]:
        """
        Start a process that has one client.
        """
        process = self.process("8080", "127.0.0.1:9001")
        process.privilegedStartService()
        process.startService()
        self.reactor.whenRunningHooks.pop()[0]()
        return process, accept(self.reactor.tcpServers.pop()[1])

    def _cut(self, client: Wire, stopping: Deferred[None]) -> None:
        """
        Check that the client is closed at once and nothing is left.
        """
        self.reactor.advance(0)
        self.assertIsNotNone(client.closing)
        client.lose()
        self.reactor.advance(0)
        self.successResultOf(stopping)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class CollectorTests(SynchronousTestCase):
    """
    The garbage collector of a process of its own.
    """

    def test_eased(self) -> None:
        """
        Objects that exist at the start are not examined again, and newer ones seldom;
        but the collector stays on.
        """
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        gc.unfreeze()  # what the runner froze
        before = gc.get_threshold()
        easeCollector()
        self.assertGreater(gc.get_freeze_count(), 10_000)
        self.assertTrue(gc.isenabled())
        for now, then in zip(gc.get_threshold(), before, strict=True):
            self.assertGreater(now, then)
