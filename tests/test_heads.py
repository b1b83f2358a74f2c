"""
Tests for the steps before the queue, and the first bytes that these look at.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from unittest.mock import patch

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.frontend.heads import SELDOM, PlainHead
from iawlb.frontend.stepmaker import StepMaker
from iawlb.frontend.steps import Arriving, Step
from iawlb.relay.fast import FastRelay
from tests.doubles import Rig
from tests.net import Echo, until
from tests.rig import serverEndpoint
from tests.stage import Stage, stage


class Greeting(Step):
    """
    A step for tests: the client has to begin with C{hello}, which is not passed on.
    """

    late = Outcome.FIRST_BYTE_TIMEOUT
    gone = Outcome.CLIENT_LEFT_SILENT
    looks = 0

    def begin(self, arrival: Arriving) -> None:
        Greeting.looks += 1
        found = arrival.head.peek()
        if found.startswith(b"hello"):
            arrival.head.skip(5)
            arrival.proceed()
        elif not b"hello".startswith(found):
            arrival.refuse(Outcome.REFUSED, "no hello")
        elif arrival.head.ended:
            arrival.left()
        else:
            arrival.head.wait(lambda: self.begin(arrival))


def steps(*those: Step) -> Any:
    """
    Have all clients take steps.
    """
    return patch.object(StepMaker, "stepsOf", lambda maker, listener, tls: list(those))


class MemoryTests(SynchronousTestCase):
    """
    Clients whose transports are read by Twisted.
    """

    def test_parts(self) -> None:
        """
        What a step needs may come in parts, and its end together with what is passed
        on.
        """
        with steps(Greeting()):
            rig = Rig()
        client = rig.client()
        for part in (b"he", b"l", b"lo and more"):
            self.assertTrue(client.reading)
            client.receive(part)
        self.assertEqual(rig.backends[0].wires[0].written, b" and more")

    def test_ends(self) -> None:
        """
        A client that ends in the middle of a step has left.
        """
        with steps(Greeting()):
            rig = Rig()
        client = rig.client()
        client.receive(b"he")
        client.end()
        self.assertEqual(client.closing, "close")
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_SILENT})

    def test_endsUnseen(self) -> None:
        """
        The end of a client matters to no step that looks at none of its bytes: the
        client may still wait for the answer.
        """

        class Endless(Step):
            def begin(self, arrival: Arriving) -> None:
                pass

        with steps(Endless()):
            rig = Rig()
        client = rig.client()
        client.end()
        self.assertIsNone(client.closing)

    def test_putOff(self) -> None:
        """
        The time of a client that was closed is not looked at any more.
        """
        with steps(Greeting(5.0)):
            rig = Rig()
        rig.client()
        arrival: Any = rig.balancer.sessions[0].holder
        arrival.refuse(Outcome.REFUSED)
        arrival.timeOver()
        self.assertEqual(len(rig.balancer.sessions), 1)

    def test_wrong(self) -> None:
        """
        A client that a step refuses is closed and no destination sees it. The reason is
        logged once a second, however many are refused.
        """
        with steps(Greeting()):
            rig = Rig()
        for client in rig.clients(3):
            client.receive(b"HELO")
            self.assertEqual(client.closing, "close")
            client.lose()
        self.assertEqual(set(rig.recorder.outcomes.values()), {Outcome.REFUSED})
        self.assertEqual(rig.recorder.pulls, [])

    def test_stepRaises(self) -> None:
        """
        A step that raises ends that session alone, also if what undoes the step raises.
        """

        class Bad(Step):
            gone = late = Outcome.FIRST_BYTE_TIMEOUT

            def begin(self, arrival: Arriving) -> None:
                if arrival.session.number == 1:
                    raise ZeroDivisionError
                if arrival.session.number == 2:
                    arrival.proceed()

            def cancel(self, arrival: Arriving) -> None:
                raise KeyError

        with steps(Bad()):
            rig = Rig()
        bad, good, leaves = rig.clients(3)
        bad.lose()
        leaves.lose()
        self.assertEqual(
            rig.recorder.outcomes, {1: Outcome.FAILED, 3: Outcome.FIRST_BYTE_TIMEOUT}
        )
        self.assertIsNone(good.closing)
        self.assertEqual(rig.recorder.pulls, [(2, "a")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        rig.advance(1)

    def test_rawStep(self) -> None:
        """
        A step has to say how it begins, and what it does with a side that it has put in
        place of the client's.
        """
        self.assertRaises(NotImplementedError, Step().begin, None)
        self.assertRaises(NotImplementedError, Step().sideReady, None, None)
        self.assertIsNone(Step().cancel(None))  # type: ignore[arg-type, func-returns-value]


class SeldomTests(SynchronousTestCase):
    """
    Unix sockets, of which the kernel reports bytes again that were seen already.
    """

    def test_seldom(self) -> None:
        """
        A client that has sent a part and no more is looked at ever less often, but for
        the rest at most half a second after it came; then often again.
        """
        client, own = socket.socketpair()
        self.addCleanup(client.close)
        self.addCleanup(own.close)
        own.setblocking(False)
        clock, ready, found = Clock(), set[PlainHead](), list[float]()
        readers = mock.Mock(addReader=ready.add, removeReader=ready.discard)
        plain: Any = mock.Mock(handle=own, fileno=own.fileno)
        head = PlainHead(plain, readers, clock, lambda call: call())

        def looks(seconds: float) -> list[float]:
            """
            Return when the socket is looked at.
            """
            times, start = [], clock.seconds()
            while clock.seconds() < start + seconds:
                if ready:
                    times.append(clock.seconds() - start)
                    head.doRead()
                clock.advance(0.005)
            return times

        client.send(b"he")
        for _ in range(2):
            head.peek()
            head.wait(lambda: found.append(clock.seconds()))
            self.assertGreater(len(looks(0.1)), 3)
            self.assertLess(len(looks(9.9)), 30)
            client.send(b"l")
            before = clock.seconds()
            looks(1.0)
            self.assertLess(found.pop() - before, SELDOM + 0.01)
            self.assertEqual(found, [])


@asynccontextmanager
async def greeting(family: str, path: Path, **settings: Any) -> AsyncIterator[Stage]:
    """
    Run a balancer whose clients have to say hello.
    """
    with steps(Greeting(5.0)):
        async with stage(serverEndpoint(family, path), **settings) as on:
            await on.serve(make=Echo)
            yield on


kinds = pytest.mark.parametrize("family", ["tcp4", "unix"])


@kinds
@pytest_twisted.ensureDeferred
async def test_sockets(family: str, tmp_path: Path) -> None:
    """
    A step may get its bytes one by one from a plain socket; waiting for the rest takes
    no processor time, and the session is then relayed by the fast relay.
    """
    async with greeting(family, tmp_path / "socket") as on:
        client = await on.client()
        await until(lambda: len(on.balancer.sessions) == 1)
        (session,) = on.balancer.sessions
        before = Greeting.looks
        for number, letter in enumerate(b"hell"):
            client.write(bytes([letter]))
            await until(lambda n=number: Greeting.looks > before + n)  # type: ignore[misc]
        assert Greeting.looks == before + 4
        client.write(b"o, you")
        await until(lambda: session.relay is not None)
        assert isinstance(session.relay, FastRelay)
        client.end()
        await until(lambda: client.ended)
        assert bytes(client.received) == b", you"
        client.close()
        await until(lambda: on.recorder.outcomes == {1: Outcome.DONE})


@kinds
@pytest_twisted.ensureDeferred
async def test_socketsLeave(family: str, tmp_path: Path) -> None:
    """
    A client that ends, closes or resets in the middle of a step has left; one that is
    wrong is closed.
    """
    async with greeting(family, tmp_path / "socket") as on:
        clients = [await on.client() for _ in range(4)]
        await until(lambda: len(on.balancer.sessions) == 4)
        before = Greeting.looks
        for client in clients[:3]:
            client.write(b"he")
        await until(lambda: Greeting.looks == before + 3)
        ends, closes, resets, wrong = clients
        ends.end()
        closes.close()
        resets.reset()
        wrong.write(b"HELO")
        await until(lambda: len(on.recorder.outcomes) == 4)
        assert on.recorder.outcomes == {
            **dict.fromkeys((1, 2, 3), Outcome.CLIENT_LEFT_SILENT),
            4: Outcome.REFUSED,
        }
        assert on.recorder.pulls == []
        await until(lambda: ends.lost and wrong.lost)


@pytest_twisted.ensureDeferred
async def test_unixEnds(tmp_path: Path) -> None:
    """
    A client of a Unix socket whose step is ended between two looks leaves no timer.
    """
    with patch("iawlb.frontend.heads.AGAIN", 600.0):
        async with greeting("unix", tmp_path / "socket") as on:
            client = await on.client()
            await until(lambda: len(on.balancer.sessions) == 1)
            holder: Any = on.balancer.sessions[0].holder
            client.write(b"he")
            await until(lambda: holder.head._timer)
            holder.refuse(Outcome.REFUSED)
            assert on.recorder.outcomes == {1: Outcome.REFUSED}


@pytest_twisted.ensureDeferred
async def test_watched() -> None:
    """
    A client that leaves while a step waits for something else than the client's bytes
    has left, too.
    """

    class Endless(Step):
        gone = late = Outcome.CLIENT_LEFT_CHOICE
        begun = 0

        def begin(self, arrival: Arriving) -> None:
            self.begun += 1

    endless = Endless()
    with steps(Greeting(), endless):
        async with stage() as on:
            clients = [await on.client() for _ in range(2)]
            for client in clients:
                client.write(b"hello")
            await until(lambda: endless.begun == 2)
            clients[0].reset()
            clients[1].close()
            await until(lambda: len(on.recorder.outcomes) == 2)
            outcomes = set(on.recorder.outcomes.values())
            assert outcomes == {Outcome.CLIENT_LEFT_CHOICE}
