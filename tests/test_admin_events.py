"""
Tests for the events that clients of the admin server read.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb.admin.access import Role
from iawlb.admin.eventring import LONGEST_TEXT, MOST_EVENTS, EventRing
from iawlb.admin.eventstream import KEEP_ALIVE, MOST_READERS, QUERY, EventStream
from iawlb.admin.eventstream import STALLED as READER_STALLED
from iawlb.admin.httplimits import STALLED
from iawlb.admin.routes import Route
from iawlb.core.events import Events, IObserver
from iawlb.observe.moments import isoTime
from tests.asking import Asking, Line, Reply, Turns, request
from tests.doubles import destination, session


class RingTests(SynchronousTestCase):
    """
    The ring of the last events.
    """

    def setUp(self) -> None:
        self.ring = EventRing(lambda: 86400.25)

    def test_observes(self) -> None:
        """
        What happens to destinations, listeners and pools is an event, in the words of
        the API. Sessions are none, and are not even reported here.
        """
        verifyObject(IObserver, self.ring)
        events = Events([self.ring])
        self.assertEqual((events.observers, events.everyStep), ([], False))
        down = destination("a")
        down.down = "refused\x1b[2J"
        events.destination(down, "down")
        events.listener("web", "127.0.0.1:80", "listening")
        events.session(session(1), "ended")
        self.ring.sessionChanged(session(1), "ended")
        events.pool("web", "paused", "uid 0 (pid 1)")
        self.ring.poolChanged("web", "resumed")
        lost, found = self.ring.after(0, 10)
        self.assertEqual(lost, 0)
        self.assertEqual(
            found[0],
            {
                "id": 1,
                "time": "1970-01-02T00:00:00.250Z",
                "type": "destination-down",
                "pool": "default",
                "destination": "a",
                "listener": None,
                "text": "refused\\x1b[2J",
                "by": None,
            },
        )
        kinds = [(each["type"], each["listener"], each["by"]) for each in found[1:]]
        expected = [
            ("listener-listening", "web", None),
            ("pool-paused", None, "uid 0 (pid 1)"),
            ("pool-resumed", None, None),
        ]
        self.assertEqual(kinds, expected)

    def test_bounded(self) -> None:
        """
        The last events are kept, and it is said how many are gone.
        """
        for number in range(MOST_EVENTS + 100):
            self.ring.publish("audit", text=f"{number} " + "x" * 5000)
        self.assertEqual(self.ring.after(self.ring.last, 10), (0, []))
        lost, found = self.ring.after(0, 10)
        self.assertEqual((lost, found[0]["id"], len(found)), (100, 101, 10))
        self.assertEqual(len(found[0]["text"]), LONGEST_TEXT)
        lost, found = self.ring.after(MOST_EVENTS + 95, 10)
        self.assertEqual((lost, found[0]["id"]), (0, 1096))
        self.assertEqual(len(found), 5)

    def test_tag(self) -> None:
        """
        The tag changes with what somebody changes, not with what happens by itself, and
        differs from that of another run.
        """
        before = self.ring.tag
        self.assertRegex(before, '^"[0-9a-f]{8}-0"$')
        self.ring.publish("destination-down")
        self.ring.publish("audit")
        self.assertEqual(self.ring.tag, before)
        self.ring.publish("destination-changed")
        self.assertNotEqual(self.ring.tag, before)
        self.assertNotEqual(EventRing().tag, before)

    def test_isoTime(self) -> None:
        """
        Times are written in UTC, with milliseconds.
        """
        self.assertEqual(isoTime(1.0), "1970-01-01T00:00:01.000Z")


class StreamTests(SynchronousTestCase):
    """
    Readers of events.
    """

    def setUp(self) -> None:
        self.ring = EventRing(lambda: 0.0)
        clock = Turns()
        self.events = EventStream(clock, self.ring)
        route = Route(
            *("GET", "/events", Role.READ, "", self.events.get),
            query=QUERY,
            produces="text/event-stream",
        )
        self.on = Asking([route], clock=clock, most=100)

    def read(self, target: str = "/events", headers: Any = None) -> Line:
        """
        Begin to read.
        """
        line = self.on.connect()
        line.channel.dataReceived(request("GET", target, None, headers))
        self.on.turns()
        return line

    def heard(self, line: Line) -> list[tuple[str, Any]]:
        """
        Return the events that a reader has got since this was called last, each with
        its type.
        """
        body = Reply(line.value()).body if line.value().startswith(b"HTTP") else b""
        if not body:
            chunks = line.value().split(b"\r\n")
            body = b"".join(chunks[1::2])
        line.clear()
        found = []
        for block in body.decode().split("\n\n"):
            fields = dict(
                each.split(": ", 1) for each in block.split("\n") if ": " in each
            )
            if "event" in fields:
                data = json.loads(fields["data"])
                if "id" in fields:
                    self.assertEqual(int(fields["id"]), data["id"])
                found.append((fields["event"], data))
        return found

    def test_follows(self) -> None:
        """
        A reader gets what happens from now on, at once.
        """
        self.ring.publish("audit")
        line = self.read()
        self.assertEqual(
            Reply(line.value()).headers["content-type"], "text/event-stream"
        )
        self.assertEqual(self.heard(line), [])
        self.ring.publish("reload", text="2 changes", by="uid 0")
        self.ring.publish("stopping")
        self.on.turns()
        kinds = [(kind, data["id"]) for kind, data in self.heard(line)]
        self.assertEqual(kinds, [("reload", 2), ("stopping", 3)])

    def test_replays(self) -> None:
        """
        A reader that knows an event gets those after it: by header, as browsers do when
        they connect again, or by parameter. The number of an earlier run replays all.
        """
        for _ in range(120):
            self.ring.publish("audit")
        for target, headers, number in (
            ("/events", {"Last-Event-ID": "0"}, 120),
            ("/events", {"Last-Event-ID": "118"}, 2),
            ("/events?after=119", {"Last-Event-ID": "0"}, 1),
            ("/events", {"Last-Event-ID": "999"}, 120),
            ("/events", None, 0),
        ):
            self.assertEqual(len(self.heard(self.read(target, headers))), number)

    def test_types(self) -> None:
        """
        A reader may ask for some types only. An unknown one is refused by name.
        """
        line = self.read("/events?types=reload,stopping")
        self.heard(line)
        for kind in ("audit", "reload", "destination-down", "stopping"):
            self.ring.publish(kind)
        self.on.turns()
        self.assertEqual([kind for kind, _ in self.heard(line)], ["reload", "stopping"])
        reply = self.on.ask("GET", "/events?types=reload,relaod")
        self.assertEqual(reply.status, 400)
        self.assertIn("'relaod' is not one of destination-added", reply.json["detail"])

    def test_wrongNumber(self) -> None:
        """
        A number that is none is refused.
        """
        for known in ("x", "-1", "1" * 20, "²"):
            reply = self.on.ask("GET", "/events", headers={"Last-Event-ID": known})
            self.assertEqual(reply.status, 400)

    def test_slowReader(self) -> None:
        """
        A reader that does not read costs no memory: it loses what leaves the ring, and
        is told how many events that were when it reads again.
        """
        line = self.read()
        self.ring.publish("audit")
        self.on.turns()
        line.clear()
        line.channel.pauseProducing()
        for _ in range(MOST_EVENTS + 500):
            self.ring.publish("audit")
            self.on.turns(1)
        self.assertLess(len(line.value()), 20_000)
        self.on.clock.advance(STALLED)
        line.clear()
        line.channel.resumeProducing()
        self.on.turns(100)
        heard = self.heard(line)
        self.assertEqual(heard[0][0], "lost")
        # The first of them was written before the rest had to wait.
        self.assertEqual(1 + heard[0][1]["lost"] + len(heard) - 1, MOST_EVENTS + 500)

    def test_stuckReader(self) -> None:
        """
        A reader that reads nothing for long is cut.
        """
        line = self.read()
        line.channel.pauseProducing()
        self.on.clock.advance(READER_STALLED)
        self.assertTrue(line.aborted)
        self.assertEqual(self.events.readers, 0)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_keepAlive(self) -> None:
        """
        A comment comes now and then, so that nobody takes the connection for dead; none
        is written to a reader that does not read.
        """
        line, slow = self.read(), self.read()
        slow.channel.pauseProducing()
        for each in (line, slow):
            each.clear()
        self.on.clock.advance(KEEP_ALIVE)
        self.assertIn(b": keep\n\n", line.value())
        self.assertEqual(slow.value(), b"")
        self.on.clock.advance(KEEP_ALIVE)
        self.assertEqual(line.value().count(b": keep"), 2)

    def test_readersAreBounded(self) -> None:
        """
        Only so many may read; when one leaves, another may.
        """
        lines = [self.read() for _ in range(MOST_READERS)]
        reply = self.on.ask("GET", "/events")
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "10"))
        lines[0].abortConnection()
        self.on.turns()
        self.assertEqual(self.events.readers, MOST_READERS - 1)
        self.read()
        self.assertEqual(self.events.readers, MOST_READERS)

    def test_head(self) -> None:
        """
        HEAD gets the headers, and does not stay.
        """
        reply = self.on.ask("HEAD", "/events")
        self.assertEqual((reply.status, reply.body), (200, b""))
        self.assertEqual(self.events.readers, 0)

    def test_leavesBeforeAnswer(self) -> None:
        """
        A reader that leaves at once is no reader.
        """
        for turns in range(4):
            line = self.on.connect()
            line.channel.dataReceived(request("GET", "/events"))
            self.on.turns(turns)
            line.abortConnection()
            self.on.turns()
            self.assertEqual(self.events.readers, 0)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """
        When the server stops, readers get the last events, and nothing is left.
        """
        line = self.read()
        self.heard(line)
        self.ring.publish("stopping")
        self.events.stop()
        stopping = self.on.server.stop()
        self.on.turns()
        self.successResultOf(stopping)
        self.assertEqual([kind for kind, _ in self.heard(line)], ["stopping"])
        self.assertTrue(line.disconnecting)
        self.assertEqual(self.events.readers, 0)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_readerBreaks(self) -> None:
        """
        If writing to a reader raises, that reader is cut and the failure logged.
        """
        line = self.read()
        other = self.read()
        self.patch(line.channel.requests[0], "write", lambda data: 1 / 0)
        self.heard(other)
        self.ring.publish("reload")
        self.on.turns()
        self.assertTrue(line.aborted)
        self.assertEqual(len(self.heard(other)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
