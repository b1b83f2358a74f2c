"""
Tests for L{iawlb.clock}: in memory, and in processes whose wall clock jumps.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.error import AlreadyCalled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb import clock as clockModule
from iawlb.clock import MonotonicClock, monotonicClock, useMonotonicTime
from tests.net import freePort

HOURS = 7200.0


class Reactor(ReactorBase):
    """
    One of Twisted's reactors, which never waits.
    """

    def installWaker(self) -> None:
        """
        Do nothing: there is nothing to wake.
        """

    def removeAll(self) -> list[Any]:
        """
        Do nothing: there is nothing to remove.
        """
        return []


class Base(SynchronousTestCase):
    """
    A wall clock and a monotonic one that the test moves.
    """

    def setUp(self) -> None:
        """
        Patch both clocks.
        """
        self.now = 1000.0
        self.ahead = 1e9
        self.patch(clockModule, "time", self.wall)
        self.patch(clockModule, "monotonic", lambda: self.now)
        self.patch(MonotonicClock, "seconds", staticmethod(lambda: self.now))
        self.called: list[float] = []

    def wall(self) -> float:
        """
        Tell the time of day.
        """
        return self.now + self.ahead

    def note(self) -> None:
        """
        Note when something was called.
        """
        self.called.append(self.now)


class ClockTests(Base):
    """
    The clock of a reactor that goes by the wall clock.
    """

    def setUp(self) -> None:
        """
        Make a reactor.
        """
        super().setUp()
        self.reactor = Clock()
        self.clock = MonotonicClock(self.reactor)

    def advance(self, seconds: float) -> None:
        """
        Let both kinds of time pass.
        """
        self.now += seconds
        self.reactor.advance(seconds)

    def test_interfaces(self) -> None:
        """
        The clock and its calls can be used as any reactor's.
        """
        verifyObject(IReactorTime, self.clock)
        verifyObject(IDelayedCall, self.clock.callLater(1, self.note))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.clock.seconds(), 1000)

    def test_inTime(self) -> None:
        """
        Without a jump, a scheduled call is made when it is due, with its arguments.
        """
        got: list[Any] = []
        self.clock.callLater(5, lambda *args, **kw: got.append((args, kw)), 1, a=2)
        self.advance(4.9)
        self.assertEqual(got, [])
        self.advance(0.1)
        self.assertEqual(got, [((1,), {"a": 2})])

    def test_jumpAhead(self) -> None:
        """
        When the wall clock jumps ahead, nothing is called early.
        """
        call = self.clock.callLater(5, self.note)
        self.assertEqual(call.getTime(), 1005)
        self.advance(1)
        self.reactor.advance(HOURS)
        self.assertEqual(self.called, [])
        self.assertTrue(call.active())
        self.advance(3.9)
        self.assertEqual(self.called, [])
        self.advance(0.1)
        self.assertEqual(self.called, [1005])
        self.assertFalse(call.active())

    def test_changed(self) -> None:
        """
        A call can be put off, moved and cancelled, also after a jump.
        """
        call = self.clock.callLater(5, self.note)
        self.reactor.advance(HOURS)
        call.delay(2)
        self.assertEqual(call.getTime(), 1007)
        self.advance(6.9)
        self.assertEqual(self.called, [])
        call.reset(3)
        self.assertAlmostEqual(call.getTime(), 1009.9)
        self.advance(2.9)
        self.assertEqual(self.called, [])
        call.cancel()
        self.assertFalse(call.active())
        self.advance(10)
        self.assertEqual(self.called, [])

    def test_calledAlready(self) -> None:
        """
        A call that was made can be changed no more.
        """
        call = self.clock.callLater(0, self.note)
        self.advance(0)
        self.assertRaises(AlreadyCalled, call.cancel)
        self.assertRaises(AlreadyCalled, call.delay, 1)
        self.assertRaises(AlreadyCalled, call.reset, 1)


class ReactorTests(Base):
    """
    The reactors themselves.
    """

    def setUp(self) -> None:
        """
        Make a reactor that goes by the wall clock.
        """
        super().setUp()
        self.patch(ReactorBase, "seconds", staticmethod(self.wall))
        # Else the two would be different objects.
        self.patch(clockModule, "time", ReactorBase.seconds)
        self.reactor = Reactor()

    def test_chosen(self) -> None:
        """
        A reactor of Twisted's gets a clock of ours. A reactor that uses the monotonic
        clock already is its own clock, and so is the clock of a test.
        """
        self.assertIsInstance(monotonicClock(self.reactor), MonotonicClock)
        useMonotonicTime(self.reactor)
        self.assertIs(monotonicClock(self.reactor), self.reactor)
        clock = Clock()
        useMonotonicTime(clock)
        self.assertIs(monotonicClock(clock), clock)

    def test_jumps(self) -> None:
        """
        A reactor that was made to use the monotonic clock makes its calls in time
        whatever the wall clock does, including calls that were scheduled before.
        """
        for jump in (HOURS, -HOURS):
            self.called = []
            self.reactor = Reactor()
            began = self.now
            before = self.reactor.callLater(5, self.note)
            moved = self.reactor.callLater(1, self.note)
            self.reactor.timeout()  # now both are in the reactor's heap
            late = self.reactor.callLater(2, self.note)
            useMonotonicTime(self.reactor)
            useMonotonicTime(self.reactor)
            self.ahead += jump
            self.reactor.callLater(3, self.note)
            moved.reset(4)
            late.cancel()
            for _ in range(60):
                self.now += 0.1
                self.reactor.runUntilCurrent()
            times = [round(each - began, 1) for each in self.called]
            self.assertEqual(times, [3, 4, 5])
            self.assertFalse(before.active())


JUMPING = """
import signal, sys, time

wall, ahead, far = time.time, 0.0, float(sys.argv[1])
time.time = lambda: wall() + ahead

def jump(number, frame):
    global ahead
    ahead += far

signal.signal(signal.SIGUSR2, jump)
"""
"""
A program whose wall clock jumps at a signal.
"""

COMMAND = """
sys.argv[:2] = ["twistd"]
from twisted.scripts.twistd import run
run()
"""

EMBEDDED = """
from twisted.internet import reactor
from iawlb import LoadBalancer

listen, to, idle = sys.argv[2:]
LoadBalancer(reactor, [listen], [to], idleTimeout=idle).startService()
reactor.run()
"""


class Jumping:
    """
    A balancer as a process, before a server of the test.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port
        self.server: socket.socket

    def jump(self) -> None:
        """
        Have its wall clock jump.
        """
        self._process.send_signal(signal.SIGUSR2)

    def lives(self) -> bool:
        """
        Say whether the process runs.
        """
        return self._process.poll() is None

    def session(self) -> tuple[socket.socket, socket.socket]:
        """
        Connect a client.

        @return: The client, and the destination's end.
        """
        end = time.monotonic() + 30
        while True:
            try:
                client = socket.create_connection(("127.0.0.1", self._port), 30)
                break
            except ConnectionRefusedError:
                pass
            assert time.monotonic() < end and self.lives()
            time.sleep(0.02)
        served, _ = self.server.accept()
        served.settimeout(30)
        return client, served


@contextmanager
def jumping(folder: Path, program: str, seconds: float, idle: str) -> Any:
    """
    Run a program whose wall clock jumps.

    @param program: L{COMMAND} or L{EMBEDDED}.
    @param seconds: How far.
    @param idle: The idle time-out.
    """
    port = freePort()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{server.getsockname()[1]}", idle]
    if program is COMMAND:
        listen, to, idle = addresses
        addresses = ["-n", "--pidfile=", "iawlb", "--listen", listen, "--dest", to]
        addresses += ["--idle-timeout", idle]
    path = folder / "program.py"
    path.write_text(JUMPING + program)
    process = subprocess.Popen(
        [sys.executable, path, str(seconds), *addresses],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    running = Jumping(process, port)
    running.server = server
    try:
        yield running
    finally:
        process.kill()
        process.wait(30)
        server.close()


@pytest.mark.parametrize("program", [COMMAND, EMBEDDED], ids=["command", "embedded"])
def test_jumpAhead(program: str, tmp_path: Path) -> None:
    """
    When the wall clock jumps two hours ahead, a session that may be idle for one
    goes on, in the command and in another program.
    """
    with jumping(tmp_path, program, HOURS, "1h") as on:
        client, served = on.session()
        with client, served:
            for number in range(10):
                client.sendall(b"question")
                assert served.recv(100) == b"question"
                served.sendall(b"answer")
                assert client.recv(100) == b"answer"
                if number == 3:
                    on.jump()
                time.sleep(0.05)
            # A second one is served too.
            for each in on.session():
                each.close()


def test_jumpBack(tmp_path: Path) -> None:
    """
    When the wall clock is set back by two hours, the command still ends a session
    that is idle for too long.
    """
    with jumping(tmp_path, COMMAND, -HOURS, "300ms") as on:
        client, served = on.session()
        with client, served:
            on.jump()
            assert client.recv(1) == b""
            assert on.lives()
