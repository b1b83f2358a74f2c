"""
What the calls of the Python API take, and what they say of the rest.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from iawlb import IObserver, IPolicy, LoadBalancer, Observer, Policy
from iawlb.arguments import (
    BalancerArguments,
    ClientEndpoint,
    DestinationArguments,
    Duration,
    GlobalArguments,
    ListenerArguments,
    PolicyName,
    PoolArguments,
    Rate,
    ServerEndpoint,
    Size,
)
from iawlb.checkvalidators import (
    check,
    escaped,
    expected,
    method,
    place,
    statuses,
)
from iawlb.commandvalidators import commandLine
from iawlb.errors import InvalidSetting
from iawlb.options.bounds import share
from iawlb.settings import DestinationSettings, ListenerSettings, Settings
from iawlb.tlsvalidators import hostName, poolOrNone
from tests.doubles import Recorder

LONGEST = 200


CHECKS: dict[Any, tuple[str, str]] = {
    check: ("tcp", "str"),
    place: ("9001", "str"),
    method: ("GET", "str"),
    statuses: ("2xx", "tuple[str, ...]"),
    escaped: ("PING", "str"),
    expected: ("PONG", "str"),
    commandLine: ("true", "tuple[str, ...]"),
}
"""
A value that each validator of what checks ask takes, and the type that it returns.
"""


class TableTests(SynchronousTestCase):
    """
    The types for type checkers agree with the table of settings.
    """

    def same(self, arguments: type, table: type[Any], *apart: str) -> None:
        """
        Check that arguments and settings have the same names and types.

        @param apart: Settings that are arguments of their own.
        """
        types = get_type_hints(arguments)
        known = {each.name: each for each in fields(table)}
        self.assertEqual(sorted([*apart, *types]), sorted(known))
        for name, taken in types.items():
            self.sameType(taken, known[name].metadata["read"], known[name].type)

    def sameType(self, taken: Any, read: Any, value: Any) -> None:
        """
        Check that a type says what a validator takes.

        @param taken: What type checkers let pass.
        @param read: The validator.
        @param value: The type of what it makes of that.
        """
        if get_origin(taken) is Literal:
            words = get_args(taken)
            for word in words:
                self.assertEqual(read(word), word)
            error = self.assertRaises(InvalidSetting, read, "other")
            self.assertTrue(str(error).endswith(f"one of {', '.join(words)}"), error)
            return
        if read is share:
            self.assertEqual((read("10%"), read(0.1)), (0.1, 0.1))
        elif taken == Duration:
            self.assertIn(value, ("float", "float | str"))
            self.assertEqual((read("2s"), read(3)), (2.0, 3.0))
        elif taken == Size and value == "int":
            self.assertEqual((read("64k"), read(65536)), (65536, 65536))
        elif taken is bool:
            self.assertEqual(value, "bool")
            self.assertEqual((read(True), read("no")), (True, False))
        elif read in CHECKS:
            text, of = CHECKS[read]
            self.assertEqual(value, of)
            self.assertIn(read(text), (text, (text,)))
        elif taken == Iterable[str] | str:
            self.assertEqual(value, "tuple[str, ...]")
            self.assertEqual((read(["/a", "/b"]), read("/a")), (("/a", "/b"), ("/a",)))
        elif taken == Sequence[str] | str:
            self.assertIn(value, ("tuple[str, ...]", "Networks"))
            self.assertEqual(read(""), ())
        elif taken == Sequence[str]:
            self.assertEqual(value, "tuple[str, ...]")
            self.assertEqual(read(["a", "b c"]), ("a", "b c"))
            self.assertRaises(InvalidSetting, read, "a")
        elif taken == Callable[..., Any]:
            self.assertEqual((value, read(print)), ("Any", print))
            self.assertRaises(InvalidSetting, read, "print")
        elif taken == Rate and value == "str":
            self.assertEqual((read("7/m"), read(7)), ("7/m", "7/s"))
        elif taken == tuple[int, int] | str:
            self.assertEqual(value, "tuple[int, int]")
            self.assertEqual((read("24,48"), read((24, 48))), ((24, 48), (24, 48)))
        elif taken == int | str:
            # The mode and the group of a Unix socket.
            self.assertEqual(value, "int | None")
            self.assertEqual((read(7), read(None)), (7, None))
        elif taken is float:
            self.assertEqual(value, "float")
            self.assertEqual(read(1.25), 1.25)
        elif taken == str | Callable[[Any], object]:
            self.assertIs(read(len), len)
        elif taken is int:
            self.assertEqual(value, "int")
            self.assertEqual(read(7), 7)
            self.assertRaises(InvalidSetting, read, "7k")
        else:
            self.assertEqual((taken, value), (str, "str"))
            given = "any" if read in (hostName, poolOrNone) else "/any"
            self.assertEqual(read(given), given)

    def test_balancer(self) -> None:
        """
        Each setting of the balancer is an argument.
        """
        self.same(BalancerArguments, Settings, "policy")
        (policy,) = [each for each in fields(Settings) if each.name == "policy"]
        self.sameType(PolicyName, policy.metadata["read"], policy.type)

    def test_scopes(self) -> None:
        """
        A type checker finds a setting of the whole balancer that is given to a pool.
        """
        for arguments, scope in ((PoolArguments, "pool"), (GlobalArguments, "global")):
            table = [each for each in fields(Settings) if each.name != "policy"]
            names = {each.name for each in table if each.metadata["scope"] == scope}
            self.assertEqual(set(arguments.__annotations__), names)

    def test_others(self) -> None:
        """
        The settings of destinations and listeners agree in the same way.
        """
        self.same(DestinationArguments, DestinationSettings)
        self.same(ListenerArguments, ListenerSettings)

    def test_interfaces(self) -> None:
        """
        The types of policies, observers and endpoints for type checkers agree with the
        interfaces of the same name.
        """
        for kind, interface in (
            (Policy, IPolicy),
            (Observer, IObserver),
            (ServerEndpoint, IStreamServerEndpoint),
            (ClientEndpoint, IStreamClientEndpoint),
        ):
            described: Any = interface
            public = {name for name in vars(kind) if not name.startswith("_")}
            self.assertEqual(public, set(described.names()))
            for name in public:
                method = vars(kind)[name]
                if not isinstance(method, property):
                    takes = list(inspect.signature(method).parameters)[1:]
                    self.assertEqual(takes, list(described[name].positional))


class _Policy:
    """
    A policy that does not declare that it is one.
    """

    binds = False

    def bind(self, session: Any, available: Any) -> None:
        raise AssertionError("not asked")

    def choose(self, waiting: Any) -> Any:
        raise AssertionError("not asked")


class _NoChoose:
    binds = False

    def bind(self, session: Any, available: Any) -> None:
        raise AssertionError("not asked")


class _NoBinds:
    bind = _Policy.bind
    choose = _Policy.choose


class _OtherChoose(_NoChoose):
    def choose(self) -> None:
        raise AssertionError("not asked")


class CheckTests(SynchronousTestCase):
    """
    A wrong argument is refused at once, in one line that names it.
    """

    def setUp(self) -> None:
        """
        Make endpoints of both kinds.
        """
        self.reactor: Any = MemoryReactorClock()
        self.server = TCP4ServerEndpoint(self.reactor, 8080)
        self.client = TCP4ClientEndpoint(self.reactor, "localhost", 9001)

    def refused(self, call: Any, *parts: str) -> None:
        """
        Check that a call is refused, and what the line says.
        """
        message = str(self.assertRaises(InvalidSetting, call))
        self.assertEqual(len(message.splitlines()), 1)
        self.assertLessEqual(len(message), LONGEST)
        for part in parts:
            self.assertIn(part, message)

    def test_reactor(self) -> None:
        """
        A call without the reactor gets a message that says to give it first.
        """
        make: Any = LoadBalancer
        for reactor in (["tcp:8080"], None, "tcp:8080", 5):
            self.refused(
                lambda given=reactor: make(given, ["9001"]),
                f"reactor: {reactor!r} is not a reactor",
                "twisted.internet.reactor first",
            )

    def test_lists(self) -> None:
        """
        One address in place of a list, or something that is no list, is refused with
        the list to write.
        """
        make: Any = LoadBalancer
        for argument, given, right in (
            ("listeners", "127.0.0.1:8080", "write ['127.0.0.1:8080']"),
            ("listeners", 8080, "write ['tcp:8080']"),
            ("listeners", b"8080", "write ['8080']"),
            ("listeners", self.server, "write [...] around it"),
            ("destinations", "localhost:9001", "write ['localhost:9001']"),
            ("destinations", 9001, "write ['localhost:9001']"),
            ("destinations", None, "write [...] around it"),
        ):
            arguments = {argument: given}
            self.refused(
                lambda arguments=arguments: make(Clock(), **arguments),
                f"{argument}: ",
                right,
            )

    def test_items(self) -> None:
        """
        An address that is no text is refused with what to write, by the
        constructor, which names the argument, and by C{add} and C{listen}.
        """
        make: Any = LoadBalancer
        balancer: Any = LoadBalancer(self.reactor)
        for argument, call, given, *parts in (
            ("listeners", balancer.listen, 8080, "8080 is not", "write 'tcp:8080'"),
            ("listeners", balancer.listen, b"8080", "'tcp:8080', or a server end"),
            ("listeners", balancer.listen, self.client, "connects", "server end"),
            ("listeners", balancer.listen, "99999", "not a port"),
            ("destinations", balancer.add, 9001, "write 'localhost:9001'"),
            ("destinations", balancer.add, ("a", 1), "'localhost:9001', or a client"),
            ("destinations", balancer.add, self.server, "listens", "client end"),
            ("destinations", balancer.add, "99999", "not a port"),
        ):
            arguments = {argument: [given]}
            self.refused(
                lambda arguments=arguments: make(self.reactor, **arguments),
                f"{argument}: ",
                *parts,
            )
            self.refused(lambda call=call, given=given: call(given), *parts)
        self.assertEqual((balancer.addresses, balancer.destinations), ([], []))

    def test_long(self) -> None:
        """
        A long argument, or one that would take several lines, is shown by its
        beginning.
        """

        class Lines:
            def __repr__(self) -> str:
                return "a\nb" * 100

        make: Any = LoadBalancer
        self.refused(lambda: make(Lines()), "reactor: a ba b", "... is not")

    def test_policy(self) -> None:
        """
        A policy without a method or attribute that it needs is refused; the message
        names what is missing.
        """
        make: Any = LoadBalancer
        for policy, *parts in (
            (_NoChoose(), "has no method choose(waiting)", "iawlb.IPolicy"),
            (_NoBinds(), "has no attribute binds", "iawlb.IPolicy"),
            (_OtherChoose(), "a method choose that does not take (waiting)"),
            (_Policy, "_Policy is a class: write _Policy()"),
            (5, "5 has no "),
            ("best", "'best'", "least"),
        ):
            self.refused(
                lambda policy=policy: make(Clock(), policy=policy), "policy: ", *parts
            )

    def test_observers(self) -> None:
        """
        An observer without a method is refused in the same way; one that is not in a
        list gets a message that shows the list.
        """
        make: Any = LoadBalancer
        for observers, *parts in (
            ([print], "print", "sessionChanged(session, event)", "iawlb.IObserver"),
            ([Recorder], "Recorder is a class: write Recorder()"),
            (Recorder(), "write [...] around it"),
            ("all", "'all' is not a list"),
        ):
            self.refused(
                lambda given=observers: make(Clock(), observers=given),
                "observers: ",
                *parts,
            )

    def test_undeclared(self) -> None:
        """
        A policy and an observer need not declare their interface, and may be
        written in any way that can be called.
        """

        class Builtin(_Policy):
            # min has no signature that can be asked for.
            choose = min  # type: ignore[assignment]

        class Watching:
            sessionChanged = destinationChanged = listenerChanged = (
                lambda self, *arguments: None
            )

        for policy in (_Policy(), Builtin()):
            given: Any = policy
            LoadBalancer(Clock(), policy=given, observers=[Watching()])

    def test_endpoints(self) -> None:
        """
        Endpoints of the right kind are accepted.
        """
        client = clientFromString(self.reactor, "tcp:localhost:9001")
        balancer = LoadBalancer(self.reactor, (self.server,), iter([client]))
        balancer.add(self.client, name="other", slots=2)
        self.assertEqual(len(balancer.addresses), 1)
        self.assertEqual(len(balancer.destinations), 2)


RIGHT = """\
from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint

from iawlb import Destination, LoadBalancer, Session


class Last:
    binds = False

    def bind(
        self, session: Session, available: Sequence[Destination]
    ) -> Destination | None:
        return None

    def choose(self, waiting: Sequence[Destination]) -> Destination:
        return waiting[-1]


class Watching:
    def sessionChanged(self, session: Session, event: str) -> None:
        print(session.client, event)

    def destinationChanged(self, destination: Destination, event: str) -> None:
        print(destination.name, event)

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        print(name, address, event)


balancer = LoadBalancer(
    reactor,
    ["tcp:8080", TCP4ServerEndpoint(reactor, 8081)],
    ["localhost:9001", TCP4ClientEndpoint(reactor, "localhost", 9002)],
    policy=Last(),
    observers=[Watching()],
    queueTimeout="10s",
    idleTimeout=60,
    bufferSize="64k",
    slots=4,
    whenDown="refuse",
)
balancer.add("localhost:9003", name="c", weight=2).weight
balancer.listen("tcp:8082", name="third")
LoadBalancer(reactor, policy="source")
"""

WRONG = (
    # A line, and what is said of it.
    ('LoadBalancer(reactor, queueTimout="10s")', "queueTimout"),
    ('LoadBalancer(reactor, slots="many")', "slots"),
    ('LoadBalancer(reactor, whenDown="drop")', "whenDown"),
    ('LoadBalancer(reactor, policy="best")', "policy"),
    ("LoadBalancer(reactor, policy=Watching())", "policy"),
    ("LoadBalancer(reactor, observers=[print])", "Observer"),
    ("LoadBalancer(reactor, [8080])", "List item 0"),
    ("LoadBalancer(reactor, [TCP4ClientEndpoint(reactor, 'a', 1)])", "List item 0"),
    ("balancer.add('a:1', slot=1)", "slot"),
    ("balancer.add('a:1', weight='2')", "weight"),
    ("balancer.listen('tcp:1', slots=1)", "slots"),
)


def checked(program: str, folder: Path) -> str:
    """
    Check a program with mypy, without the plugin for zope.interface.

    @return: What mypy prints.
    """
    pytest.importorskip("mypy")
    file = folder / "program.py"
    file.write_text(program)
    # Twisted's endpoints are not annotated.
    options = "[mypy]\nstrict = true\ndisallow_untyped_calls = false\n"
    (folder / "mypy.ini").write_text(options)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=mypy.ini", file.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_mypy(tmp_path: Path) -> None:
    """
    mypy lets a right program pass, without a plug-in for zope.interface, and finds
    what is misspelt or of the wrong type, and nothing else.
    """
    lines = [line for line, _ in WRONG]
    said = checked(RIGHT + "\n".join(lines) + "\n", tmp_path)
    first = len(RIGHT.splitlines()) + 1
    errors = [line for line in said.splitlines() if ": error: " in line]
    assert len(errors) == len(WRONG), said
    for number, ((_, part), error) in enumerate(zip(WRONG, errors, strict=True)):
        assert error.startswith(f"program.py:{first + number}: "), said
        assert part in error, said
