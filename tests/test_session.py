"""
Tests for the record of a session, and for the table of those that live.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.events import SESSION_ACCEPTED, SESSION_ENDED, Events
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from tests.doubles import session


class Counting:
    """
    A relay's counts of bytes.
    """

    bytesIn = 0
    bytesOut = 0


class Noting:
    """
    An observer that keeps the events of sessions.
    """

    def __init__(self) -> None:
        self.told: list[tuple[int, str, Outcome | None, float | None]] = []

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Keep the event.
        """
        self.told.append((session.number, event, session.outcome, session.ended))


class OutcomeTests(SynchronousTestCase):
    """
    How sessions end.
    """

    def test_eachIsItsOwn(self) -> None:
        """
        No two outcomes are the same, even where they share their letters; each has a
        text for people.
        """
        self.assertEqual(len(Outcome.__members__), len(list(Outcome)))
        self.assertEqual(len({each.text for each in Outcome}), len(list(Outcome)))

    def test_codes(self) -> None:
        """
        Each has two letters that tools for HAProxy's log know.
        """
        for each in Outcome:
            self.assertRegex(each.code, r"\A([CSDKIPcs][RQCDH]|--)\Z")
        self.assertEqual(Outcome.DONE.code, "--")


class SessionTests(SynchronousTestCase):
    """
    The record of one session.
    """

    def test_bytesWhileRelaying(self) -> None:
        """
        The bytes so far can be read before, during and after the relay.
        """
        one = session(1)
        seen = [(one.bytesIn, one.bytesOut)]
        relay: Any = Counting()
        one.relay = relay
        relay.bytesIn, relay.bytesOut = 3, 70_000
        seen.append((one.bytesIn, one.bytesOut))
        one.finish(Outcome.DONE, 9.5)
        relay.bytesIn = 99
        seen.append((one.bytesIn, one.bytesOut))
        self.assertEqual(seen, [(0, 0), (3, 70_000), (3, 70_000)])
        self.assertEqual((one.outcome, one.ended), (Outcome.DONE, 9.5))

    def test_finishLetsGo(self) -> None:
        """
        The record of an ended session can be kept without keeping its
        connections, and without work for the garbage collector.
        """

        class Part(Counting):
            session: Session | None = None

        parts: list[Any] = [Part(), Part(), Part()]
        one = Session(1, None, Origin(PoolCount("p"), "l"), 0.0, parts[0], parts[1])
        one.relay = parts[2]
        for each in parts:
            each.session = one
        known = [weakref.ref(each) for each in parts]
        gc.disable()
        self.addCleanup(gc.enable)
        one.finish(Outcome.KILLED, 1.0)
        parts.clear()
        del each
        self.assertEqual([reference() for reference in known], [None] * 3)
        self.assertEqual((one.bytesIn, one.bytesOut), (0, 0))


class TableTests(SynchronousTestCase):
    """
    The sessions that live.
    """

    def setUp(self) -> None:
        """
        Make a table that is watched.
        """
        self.clock = Clock()
        self.noting = Noting()
        observer: Any = self.noting
        self.ends: list[int] = []
        self.origin = Origin(PoolCount("shop"), "web")
        self.table = SessionTable(
            self.clock, Events([observer]), lambda: self.ends.append(len(self.table)), 9
        )

    def begin(self) -> Session:
        """
        Accept a client.
        """
        nobody: Any = object()
        address = IPv4Address("TCP", "192.0.2.1", 5)
        return self.table.begin(address, self.origin, nobody, nobody)

    def test_poolsAreCounted(self) -> None:
        """
        A session knows its pool, and a pool's counts say how many have come, how many
        live, and when none lives.
        """
        count = self.origin.pool
        self.assertEqual(self.successResultOf(count.whenEmpty()), None)
        first, second = self.begin(), self.begin()
        self.assertEqual((first.pool, count.accepted, count.live), ("shop", 2, 2))
        empty = count.whenEmpty()
        self.table.end(first, Outcome.DONE)
        self.assertNoResult(empty)
        self.table.end(second, Outcome.DONE)
        self.successResultOf(empty)
        self.assertEqual((count.accepted, count.live), (2, 0))

    def test_begin(self) -> None:
        """
        Sessions are numbered in the order of accept, and the record has the client, the
        listener and the time.
        """
        self.clock.advance(7)
        first, second = self.begin(), self.begin()
        self.assertEqual((first.number, second.number), (1, 2))
        self.assertEqual(
            (first.client, first.clientHost, first.listener, first.accepted),
            ("192.0.2.1:5", "192.0.2.1", "web", 7.0),
        )
        self.assertEqual((first.tries, first.outcome), (0, None))
        self.assertEqual(
            self.noting.told,
            [(1, SESSION_ACCEPTED, None, None), (2, SESSION_ACCEPTED, None, None)],
        )

    def test_end(self) -> None:
        """
        Each end is reported once, with outcome and time, after the record is complete;
        the number of an ended session is not used again.
        """
        first, second = self.begin(), self.begin()
        self.clock.advance(2)
        self.table.roomAwaited = True
        self.table.end(first, Outcome.IDLE_TIMEOUT)
        self.assertEqual(
            self.noting.told[-1], (1, SESSION_ENDED, Outcome.IDLE_TIMEOUT, 2.0)
        )
        self.assertEqual(list(self.table), [second])
        self.assertEqual(self.ends, [1])
        self.assertRaises(AttributeError, self.table.end, first, Outcome.DONE)
        self.assertEqual(self.begin().number, 3)

    def test_endWhileIterating(self) -> None:
        """
        Sessions may end while all are looked at.
        """
        for _ in range(5):
            self.begin()
        for each in self.table:
            self.table.end(each, Outcome.KILLED)
        self.assertEqual(len(self.table), 0)

    def test_whenEmpty(self) -> None:
        """
        A caller that waits for the last session is called when the session has ended,
        and not before; if no session lives, at once.
        """
        self.successResultOf(self.table.whenEmpty())
        first, second = self.begin(), self.begin()
        waiting = [self.table.whenEmpty(), self.table.whenEmpty()]
        self.table.end(second, Outcome.DONE)
        for each in waiting:
            self.assertNoResult(each)
        self.table.end(first, Outcome.DONE)
        for each in waiting:
            self.successResultOf(each)
        self.table.end(self.begin(), Outcome.DONE)
