"""
Tests for the observer that writes the access log.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.events import (
    DESTINATION_UP,
    SESSION_ACCEPTED,
    SESSION_CONNECTED,
    SESSION_ENDED,
    SESSION_PULLED,
)
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.errors import InvalidSetting
from iawlb.observe import accesslog as module
from iawlb.observe.accesslog import AccessLog
from iawlb.observe.eventlog import EventLog
from iawlb.service import LoadBalancer
from tests.doubles import Backend, Recorder, accept, destination, session
from tests.test_writer import Reactor


class Lines:
    """
    A writer that keeps the lines.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.dropped = 3
        self.calls: list[str] = []

    def write(self, line: str) -> None:
        """
        Keep a line.
        """
        self.lines.append(line)

    def take(self) -> list[str]:
        """
        Return the lines since the last call.
        """
        lines, self.lines = self.lines, []
        return lines

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


class Case(SynchronousTestCase):
    """
    An access log.
    """

    def setUp(self) -> None:
        """
        Make a reactor and a writer.
        """
        self.reactor = Reactor()
        self.writer: Any = Lines()

    def log(self, format: str = "{id} {event} {code}", **settings: Any) -> AccessLog:
        """
        Make a log.
        """
        return AccessLog(self.reactor, format, self.writer, **settings)

    def ended(
        self, outcome: Outcome = Outcome.DONE, number: int = 1, moved: int = 0
    ) -> Session:
        """
        Make a session that has ended.
        """
        one = session(number)
        one.ended, one.outcome = 1.0, outcome
        one._bytes = (moved, 0)
        return one

    def connected(self, number: int = 1) -> Session:
        """
        Make a session that is connected.
        """
        one = session(number, accepted=self.reactor.seconds())
        one.pulled = one.connected = self.reactor.seconds()
        return one


class EndTests(Case):
    """
    Lines about sessions that have ended.
    """

    def test_end(self) -> None:
        """
        Each session gets one line, when it has ended; no other step gets one.
        """
        log = self.log()
        self.assertTrue(log.endsOnly)
        one = self.ended()
        for event in (SESSION_ACCEPTED, SESSION_PULLED, SESSION_CONNECTED):
            log.sessionChanged(one, event)
        self.assertEqual(self.writer.take(), [])
        log.sessionChanged(one, SESSION_ENDED)
        self.assertEqual(self.writer.take(), ["1 end --\n"])

    def test_notEnded(self) -> None:
        """
        A session that has not ended gets no line, whatever is said of it.
        """
        self.log().sessionChanged(session(1), SESSION_ENDED)
        self.assertEqual(self.writer.take(), [])

    def test_errorsOnly(self) -> None:
        """
        With the log of errors only, there is no line about sessions that both sides
        closed.
        """
        log = self.log(errorsOnly=True)
        for outcome in Outcome:
            log.sessionChanged(self.ended(outcome), SESSION_ENDED)
            expected = 0 if outcome is Outcome.DONE else 1
            self.assertEqual(len(self.writer.take()), expected, outcome)

    def test_null(self) -> None:
        """
        Without the lines about nothing, clients that have left without an error and
        without a byte are left out. A client that gave up waiting is never left out:
        what it has sent was not read.
        """
        log = self.log(null=False)
        left = {
            Outcome.DONE,
            Outcome.CLIENT_RESET,
            Outcome.CLIENT_LEFT_HANDSHAKE,
            Outcome.CLIENT_LEFT_SILENT,
        }
        for outcome in Outcome:
            log.sessionChanged(self.ended(outcome), SESSION_ENDED)
            expected = 0 if outcome in left else 1
            self.assertEqual(len(self.writer.take()), expected, outcome)
            log.sessionChanged(self.ended(outcome, moved=1), SESSION_ENDED)
            self.assertEqual(len(self.writer.take()), 1, outcome)
        one = self.ended()
        one._bytes = (0, 1)
        log.sessionChanged(one, SESSION_ENDED)
        self.assertEqual(len(self.writer.take()), 1)

    def test_otherChanges(self) -> None:
        """
        Changes of destinations go to Twisted's logger, by the name that they always
        had.
        """
        with capturedLogs() as captured:
            self.log().destinationChanged(destination("a"), DESTINATION_UP)
        (event,) = captured
        self.assertEqual(formatEvent(event), "destination a is up (tcp:a:1)")
        self.assertEqual(event["log_namespace"], EventLog().log.namespace)
        self.assertEqual(self.writer.take(), [])


class LoggerTests(Case):
    """
    Without a writer.
    """

    def lines(self, log: AccessLog, *told: Any) -> list[Any]:
        """
        Return the events that Twisted's logger gets.
        """
        with capturedLogs() as captured:
            log.sessionChanged(*told)
        return list(captured)

    def test_text(self) -> None:
        """
        The default line goes to Twisted's logger in parts, as ever.
        """
        log = AccessLog(self.reactor)
        (event,) = self.lines(log, self.ended(), SESSION_ENDED)
        self.assertEqual(event["code"], "--")
        self.assertTrue(formatEvent(event).startswith("192.0.2.1:1 to nobody: closed"))
        self.assertEqual(log.dropped, 0)
        log.flush()
        log.reopen()
        log.close()

    def test_others(self) -> None:
        """
        Other lines are one text, to which the logger adds the time.
        """
        for format in ("tcplog", "{client}"):
            log = AccessLog(self.reactor, format)
            (event,) = self.lines(log, self.ended(), SESSION_ENDED)
            self.assertTrue(formatEvent(event).startswith("192.0.2.1:1"))
        log = AccessLog(self.reactor, connect=True)
        (event,) = self.lines(log, self.connected(), SESSION_CONNECTED)
        self.assertTrue(formatEvent(event).startswith("192.0.2.1:1 to nobody: conn"))


class RunningTests(Case):
    """
    Lines about sessions that run.
    """

    def test_connect(self) -> None:
        """
        If asked, there is a line when a session is connected.
        """
        log = self.log(connect=True)
        self.assertFalse(log.endsOnly)
        one = self.connected()
        log.sessionChanged(one, SESSION_PULLED)
        log.sessionChanged(one, SESSION_CONNECTED)
        self.assertEqual(self.writer.take(), ["1 connect -\n"])

    def test_interval(self) -> None:
        """
        If asked, there is a line each time that so much time has gone by, until the
        session ends.
        """
        log = self.log("{id} {event} {total:.0f}", interval=60)
        self.assertFalse(log.endsOnly)
        first = self.connected(1)
        log.sessionChanged(first, SESSION_CONNECTED)
        self.reactor.advance(20)
        second = self.connected(2)
        log.sessionChanged(second, SESSION_CONNECTED)
        self.reactor.advance(39)
        self.assertEqual(self.writer.take(), [])
        self.reactor.advance(1)
        self.assertEqual(self.writer.take(), ["1 interval 60\n"])
        self.reactor.advance(20)
        self.assertEqual(self.writer.take(), ["2 interval 60\n"])
        self.reactor.advance(40)
        self.assertEqual(self.writer.take(), ["1 interval 120\n"])
        for each in (first, second):
            each.ended, each.outcome = self.reactor.seconds(), Outcome.DONE
            log.sessionChanged(each, SESSION_ENDED)
        self.assertEqual(self.writer.take(), ["1 end 120\n", "2 end 100\n"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_neverConnected(self) -> None:
        """
        A session that ends without having been connected disturbs nothing.
        """
        log = self.log(interval=60)
        log.sessionChanged(self.connected(1), SESSION_CONNECTED)
        log.sessionChanged(self.ended(Outcome.QUEUE_TIMEOUT, 2), SESSION_ENDED)
        self.writer.take()
        self.reactor.advance(60)
        self.assertEqual(self.writer.take(), ["1 interval -\n"])
        log.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.writer.calls, ["close"])

    def test_many(self) -> None:
        """
        However many sessions run, only some get their line before the reactor has its
        turn, and all get it.
        """
        self.patch(module, "LINES_PER_TURN", 10)
        log = self.log("{id}", interval=60)
        for number in range(25):
            log.sessionChanged(self.connected(number), SESSION_CONNECTED)
        seen: list[int] = []
        self.reactor.callLater(60, lambda: seen.append(len(self.writer.lines)))
        self.reactor.advance(60)
        self.assertEqual(seen, [10])
        self.assertEqual(self.writer.take(), [f"{number}\n" for number in range(25)])
        self.reactor.advance(59)
        self.assertEqual(self.writer.take(), [])
        self.reactor.advance(1)
        self.assertEqual(len(self.writer.lines), 25)


class PlaceTests(Case):
    """
    Where the lines go.
    """

    def test_file(self) -> None:
        """
        A path is opened at once; the balancer's sessions are in the file, with the
        numbers of those that live.
        """
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        path = folder / "access"
        log = AccessLog(self.reactor, "json", str(path))
        self.addCleanup(log.close)
        clock: Any = self.reactor
        balancer = LoadBalancer(clock, observers=[log], slots=1)
        log.follow(balancer)
        backend = Backend()
        balancer.add(backend, name="a")
        balancer.startService()
        wires = [accept(balancer.factory) for _ in range(3)]
        for wire in (wires[0], backend.wires[0]):
            wire.end()
        for wire in (wires[0], backend.wires[0]):
            wire.lose()
        log.flush()
        (line,) = map(json.loads, path.read_text().splitlines())
        self.assertEqual(line["code"], "--")
        self.assertEqual(line["pool"], "default")
        counts = line["sessions"], line["poolSessions"], line["destinationSessions"]
        self.assertEqual(counts, (2, 2, 1))
        for wire in (wires[2], wires[1], backend.wires[1]):
            wire.lose(reset=True)
        log.flush()
        lines = list(map(json.loads, path.read_text().splitlines()))
        self.assertEqual([each["ahead"] for each in lines], [0, 1, 0])

    def test_stdout(self) -> None:
        """
        Standard output is a place, too.
        """
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.patch(sys, "stdout", self.enterContext(open(folder / "out", "w")))
        log = AccessLog(self.reactor, "{id}", "stdout")
        log.sessionChanged(self.ended(), SESSION_ENDED)
        log.close()
        self.assertEqual((folder / "out").read_text(), "1\n")

    def test_calls(self) -> None:
        """
        The process can ask for the number of dropped lines, and have the lines written
        and the file opened anew.
        """
        log = self.log()
        self.assertEqual(log.dropped, 3)
        log.flush()
        self.assertEqual(self.writer.calls, ["writeNow"])
        log.reopen()
        self.assertEqual(self.writer.calls, ["writeNow"] * 2 + ["reopen"])

    def test_configured(self) -> None:
        """
        Which sessions get a line can be changed while the balancer runs, in the default
        log too.
        """
        log = self.log()
        balancer = LoadBalancer(self.reactor, observers=[log])
        balancer.configure(maxConnections=5)
        self.assertFalse(log.errorsOnly)
        balancer.configure(log="errors")
        self.assertTrue(log.errorsOnly)
        balancer.configure(log="all")
        self.assertFalse(log.errorsOnly)
        balancer = LoadBalancer(self.reactor)
        balancer.configure(log="errors")
        (default,) = balancer.events.observers
        self.assertTrue(getattr(default, "errorsOnly", None))

    def test_otherObservers(self) -> None:
        """
        Observers that are no log are left alone by that.
        """
        recorder = Recorder()
        balancer = LoadBalancer(self.reactor, observers=[recorder])
        balancer.configure(log="errors")
        self.assertFalse(hasattr(recorder, "errorsOnly"))

    def test_followText(self) -> None:
        """
        The text line has no numbers of sessions.
        """
        log = self.log("text")
        log.follow(LoadBalancer(self.reactor, observers=[log]))
        log.sessionChanged(self.ended(), SESSION_ENDED)
        self.assertEqual(len(self.writer.take()), 1)

    def test_followNothing(self) -> None:
        """
        A session whose pool or destination is gone is no session of theirs.
        """
        log = self.log("{sessions} {poolSessions} {destinationSessions}")
        balancer = LoadBalancer(self.reactor, observers=[log])
        log.follow(balancer)
        one = self.ended()
        one.destination = "gone"
        log.sessionChanged(one, SESSION_ENDED)
        one.origin.pool.name = "other"
        log.sessionChanged(one, SESSION_ENDED)
        self.assertEqual(self.writer.take(), ["0 0 0\n"] * 2)

    def test_wrong(self) -> None:
        """
        What cannot be written is said in one line.
        """
        self.assertRaises(InvalidSetting, AccessLog, self.reactor, "{x}")
        error = self.assertRaises(
            InvalidSetting, AccessLog, self.reactor, "text", "/nowhere/access"
        )
        self.assertEqual(
            str(error),
            "cannot write the access log to /nowhere/access: No such file or directory",
        )

    def test_timed(self) -> None:
        """
        Syslog adds the time and the process itself.
        """
        plain, timed = self.log("tcplog"), self.log("tcplog", timed=True)
        for log in (plain, timed):
            log.sessionChanged(self.ended(), SESSION_ENDED)
        with_, without = self.writer.take()
        self.assertTrue(without.startswith("192.0.2.1:1 ["))
        self.assertNotEqual(with_, without)
