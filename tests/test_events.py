"""
Tests for who is told of events, and for the log lines made of them.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

from twisted.logger import (
    LogEvent,
    LogLevel,
    capturedLogs,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core import events
from iawlb.core.events import Events
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.observe import formats
from iawlb.observe.eventlog import EventLog
from tests.doubles import destination, session


class Recording:
    """
    An observer that keeps its events, and may raise then.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.error = error

    def _keep(self, *told: object) -> None:
        self.told.append(told)
        if self.error is not None:
            raise self.error

    sessionChanged = destinationChanged = listenerChanged = _keep


class EventsTests(SynchronousTestCase):
    """
    Which observers are called, and what happens when one raises.
    """

    def tell(self, *observers: Any) -> list[tuple[Any, ...]]:
        """
        Tell observers of one event of each kind.

        @return: What each has to be told.
        """
        one, where = session(1), destination("a")
        telling = Events(observers)
        telling.session(one, events.SESSION_PULLED)
        telling.destination(where, events.DESTINATION_UP)
        telling.listener("web", "tcp:80", events.LISTENER_CLOSED)
        return [(one, "pulled"), (where, "up"), ("web", "tcp:80", "closed")]

    def test_noSessions(self) -> None:
        """
        An observer that wants no sessions costs them nothing, and gets all else.
        """
        observer: Any = Recording()
        observer.sessions = False
        self.assertEqual(self.tell(observer)[1:], observer.told)
        self.assertFalse(Events([observer]).everyStep)

    def test_poolWithoutSessions(self) -> None:
        """
        An observer that wants no sessions is called for pools too.
        """
        observer: Any = Recording()
        observer.sessions = False
        observer.poolChanged = observer._keep
        Events([observer]).pool("web", events.POOL_CHANGED, "me")
        self.assertEqual(observer.told, [("web", "changed", "me")])

    def test_allAreTold(self) -> None:
        """
        Each observer is called at every step, in order.
        """
        observers = [Recording(), Recording()]
        expected = self.tell(*observers)
        self.assertEqual([each.told for each in observers], [expected, expected])
        self.assertEqual(len(self.tell()), 3)

    def test_oneRaises(self) -> None:
        """
        An observer that raises keeps neither the others nor the balancer from
        their work; what it raised is in the log, with the event.
        """
        bad, good = Recording(ZeroDivisionError("bad")), Recording()
        with capturedLogs() as captured:
            expected = self.tell(bad, good)
        self.assertEqual((bad.told, good.told), (expected, expected))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        lines = [formatEvent(each) or "" for each in captured]
        self.assertEqual(len(lines), 3)
        for line, word in zip(lines, ("pulled", "up", "closed"), strict=True):
            self.assertIn("Recording", line)
            self.assertIn(f"raised on '{word}'", line)

    def test_words(self) -> None:
        """
        No two events of a kind share a word.
        """
        for kind in ("SESSION_", "DESTINATION_", "LISTENER_"):
            words = [getattr(events, each) for each in dir(events) if kind in each]
            self.assertTrue(words)
            self.assertEqual(len(set(words)), len(words))


class EventLogTests(SynchronousTestCase):
    """
    The lines for people.
    """

    def lines(self, kind: str, *told: object) -> list[LogEvent]:
        """
        Tell the log of an event, and give back what it writes.
        """
        with capturedLogs() as captured:
            getattr(EventLog(), kind)(*told)
        return list(captured)

    def line(self, kind: str, *told: object) -> str:
        """
        Return the one line that the log writes.
        """
        (event,) = self.lines(kind, *told)
        return formatEvent(event)

    def ended(self, outcome: Outcome, **known: Any) -> Session:
        """
        Make a session that came at 10 s and ended at 14.5 s.
        """
        one = session(1, accepted=10.0)
        for key, value in known.items():
            setattr(one, key, value)
        one.finish(outcome, 14.5)
        return one

    def test_servedSession(self) -> None:
        """
        The line of a session that was served has the client, the destination, how the
        session ended, how long each part took, how many bytes were passed and in how
        many tries.
        """
        relay = Recording()
        relay.bytesIn, relay.bytesOut = 120, 4096  # type: ignore[attr-defined]
        one = self.ended(
            Outcome.DONE,
            pulled=10.25,
            connected=10.5,
            tries=2,
            destination="web-1",
            relay=relay,
        )
        self.assertEqual(
            self.line("sessionChanged", one, events.SESSION_ENDED),
            "192.0.2.1:1 to web-1: closed by both sides (--), waited 0.250 s, connect "
            "0.250 s, total 4.500 s, 120 bytes in, 4096 out, tries 2, test",
        )

    def test_unservedSession(self) -> None:
        """
        The line of a session that was not served says that it waited all the time.
        """
        self.assertEqual(
            self.line(
                "sessionChanged",
                self.ended(Outcome.QUEUE_TIMEOUT),
                events.SESSION_ENDED,
            ),
            "192.0.2.1:1 to nobody: waited too long in the queue (sQ), waited 4.500 s, "
            "connect 0.000 s, total 4.500 s, 0 bytes in, 0 out, tries 0, test",
        )

    def test_leftDuringConnect(self) -> None:
        """
        A client that left during the connect was not connected.
        """
        one = self.ended(Outcome.CLIENT_LEFT_CONNECT, pulled=11.0, tries=1)
        self.assertIn(
            "waited 1.000 s, connect 0.000 s, total 4.500 s",
            self.line("sessionChanged", one, events.SESSION_ENDED),
        )

    def test_pulledAtZero(self) -> None:
        """
        The start of time is a time like any other.
        """
        one = session(1, accepted=0.0)
        one.pulled = one.connected = 0.0
        one.finish(Outcome.DONE, 3.0)
        self.assertIn(
            "waited 0.000 s, connect 0.000 s, total 3.000 s",
            self.line("sessionChanged", one, events.SESSION_ENDED),
        )

    def test_oneLineASession(self) -> None:
        """
        No other step of a session is a line.
        """
        one = session(1)
        for event in ("ACCEPTED", "QUEUED", "PULLED", "CONNECTED", "PUT_BACK", "ENDED"):
            word = getattr(events, f"SESSION_{event}")
            self.assertEqual(self.lines("sessionChanged", one, word), [])

    def test_errorsOnly(self) -> None:
        """
        With the log of errors only, there is a line for each session that was not
        closed by both sides and for each change of a destination, and no other.
        """
        for outcome in Outcome:
            one = self.ended(outcome)
            with capturedLogs() as captured:
                EventLog(errorsOnly=True).sessionChanged(one, events.SESSION_ENDED)
            self.assertEqual(len(captured), 0 if outcome is Outcome.DONE else 1)
        with capturedLogs() as captured:
            log = EventLog(errorsOnly=True)
            log.destinationChanged(destination("a"), events.DESTINATION_UP)
        self.assertEqual(len(captured), 1)

    def test_fields(self) -> None:
        """
        A program can read the parts of the line without splitting it.
        """
        (event,) = self.lines(
            "sessionChanged", self.ended(Outcome.KILLED), events.SESSION_ENDED
        )
        self.assertEqual(event["log_level"], LogLevel.info)
        self.assertEqual((event["code"], event["total"]), ("KD", 4.5))

    def test_writer(self) -> None:
        """
        With a writer of its own, the line of a session is the same as through
        Twisted's logger, time and all, and is not logged twice; all other lines
        go through the logger.
        """
        relay = Recording()
        relay.bytesIn, relay.bytesOut = 120, 4096  # type: ignore[attr-defined]
        ends = [
            self.ended(Outcome.DONE, pulled=11.0, connected=12.0, relay=relay),
            self.ended(Outcome.QUEUE_TIMEOUT),
        ]
        writer: Any = StringIO()
        fast = EventLog(writer=writer)
        for moment in (1.2, 1.9, 2.0, 86400.5):
            self.patch(formats, "time", lambda now=moment: now)
            for one in ends:
                fast.sessionChanged(one, events.SESSION_ACCEPTED)
                with capturedLogs() as captured:
                    fast.sessionChanged(one, events.SESSION_ENDED)
                self.assertEqual(list(captured), [])
                (event,) = self.lines("sessionChanged", one, events.SESSION_ENDED)
                event["log_time"] = moment
                line = formatEventAsClassicLogText(event)
                self.assertEqual(writer.getvalue(), line)
                writer.seek(0)
                writer.truncate()
        with capturedLogs() as captured:
            fast.listenerChanged("web", "tcp:80", events.LISTENER_CLOSED)
            fast.destinationChanged(destination("a"), events.DESTINATION_UP)
        self.assertEqual(len(captured), 2)
        self.assertEqual(writer.getvalue(), "")

    def test_destinationDown(self) -> None:
        """
        A destination that is down is a warning that says why.
        """
        where = destination("web-1")
        where.failed("Connection refused {why}")
        (event,) = self.lines("destinationChanged", where, events.DESTINATION_DOWN)
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertEqual(
            formatEvent(event), "destination web-1 is down: Connection refused {why}"
        )

    def test_slotsAndWeight(self) -> None:
        """
        A line says which slots and weight a destination has got.
        """
        where = destination("a", slots=3, weight=7)
        self.assertEqual(
            self.line("destinationChanged", where, events.DESTINATION_CHANGED),
            "destination a has slots 3, weight 7",
        )

    def test_destinationChanged(self) -> None:
        """
        Any other change of a destination is a line with its address.
        """
        self.assertEqual(
            self.line("destinationChanged", destination("a"), events.DESTINATION_UP),
            "destination a is up (tcp:a:1)",
        )

    def test_listenerChanged(self) -> None:
        """
        Each change of a listener is a line that says where.
        """
        for event, line in {
            events.LISTENER_LISTENING: "listening on tcp:80 (web)",
            events.LISTENER_REFUSING: "refusing connections on tcp:80 (web)",
            events.LISTENER_CLOSED: "closed tcp:80 (web)",
        }.items():
            self.assertEqual(self.line("listenerChanged", "web", "tcp:80", event), line)
