"""
The stream of events for clients: server-sent events.

A reader has no queue of its own, only its place in the ring of the last events. So
however slowly it reads, it costs no memory; what has left the ring before the reader
came to it is lost, and the reader is told how many events that were.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.admin.eventring import EVENT_TYPES, EventRing
from iawlb.admin.httprequest import AdminRequest
from iawlb.admin.members import Member
from iawlb.admin.problem import Problem
from iawlb.admin.routes import Answer, Call

MOST_READERS = 24
"""
How many clients may read events at a time. With as many changes under way as there may
be, connections are left for others.
"""

KEEP_ALIVE = 10.0
"""
The time between two comments to a reader, in seconds.
"""

STALLED = 300.0
"""
How long a reader may read nothing, in seconds.
"""

BATCH = 50
"""
How many events are written in one turn of the reactor.
"""

QUERY = (
    Member("types", "string", "of these types only", None, parts=EVENT_TYPES),
    Member(
        "after",
        "integer",
        "the number of the last event that is known, as Last-Event-ID; 0 is all that "
        "are kept",
        None,
        most=2**53,
    ),
)


class EventStream:
    """
    The clients that follow the events, C{GET /events}.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, ring: EventRing) -> None:
        self._clock = clock
        self._ring = ring
        self._readers: set[_Reader] = set()
        self._waking: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        ring.onEvent = self._published

    @property
    def readers(self) -> int:
        """
        The number of readers.
        """
        return len(self._readers)

    async def get(self, call: Call) -> Answer:
        """
        Answer C{GET /events}.

        @raise Problem: There are too many readers, or a type is not known.
        """
        types = None
        if call.query["types"] is not None:
            types = frozenset(call.query["types"].split(","))
        after = call.query["after"]
        known = call.header("Last-Event-ID")
        if known is not None and after is None:
            if not known.isascii() or not known.isdigit() or len(known) > 15:
                raise Problem(400, "Last-Event-ID is not the number of an event")
            after = int(known)
        if after is None or after > self._ring.last:
            # A larger number is of an earlier run of the balancer.
            after = self._ring.last if after is None else 0
        if len(self._readers) >= MOST_READERS:
            raise Problem(
                503, f"{MOST_READERS} clients read events", {"Retry-After": "10"}
            )

        def begin(request: AdminRequest) -> None:
            reader = _Reader(self._ring, request, types, after)
            self._readers.add(reader)
            ensureDeferred(reader.run()).addErrback(self._failed, request).addBoth(
                lambda _: self._left(reader)
            )
            if self._timer is None:
                self._timer = self._clock.callLater(KEEP_ALIVE, self._keepAlive)

        return Answer(stream=begin)

    def _failed(self, failure: Failure, request: AdminRequest) -> None:
        self.log.failure("a reader of events failed", failure)
        request.cut()

    def _left(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        if not self._readers:
            self._stopTimers()

    def stop(self) -> None:
        """
        Write the last events to all readers, and end.
        """
        for reader in list(self._readers):
            reader.end()
        self._stopTimers()

    def _stopTimers(self) -> None:
        for each in (self._waking, self._timer):
            if each is not None and each.active():
                each.cancel()
        self._waking = self._timer = None

    def _published(self) -> None:
        """
        Wake the readers in the next turn, once for all events of this one.
        """
        if self._readers and self._waking is None:
            self._waking = self._clock.callLater(0, self._wake)

    def _wake(self) -> None:
        self._waking = None
        for each in list(self._readers):
            each.wake()

    def _keepAlive(self) -> None:
        """
        Write a comment to each reader, so that neither a proxy nor the reader takes the
        connection for dead, and a reader that is gone is noticed.
        """
        self._timer = self._clock.callLater(KEEP_ALIVE, self._keepAlive)
        for each in list(self._readers):
            each.keepAlive()


class _Reader:
    """
    One client that follows the events.
    """

    def __init__(
        self,
        ring: EventRing,
        request: AdminRequest,
        types: frozenset[str] | None,
        after: int,
    ) -> None:
        self._ring = ring
        self._request = request
        self._types = types
        self._after = after
        self._waiting: Deferred[None] | None = None
        self._ending = False

    def end(self) -> None:
        """
        Write the last events, and end.
        """
        self._ending = True
        self.wake()

    def wake(self) -> None:
        """
        Go on, if the reader waits for an event.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def keepAlive(self) -> None:
        """
        Write a comment, unless the reader has not read what was written before.
        """
        if not self._request.gone and not self._request.channel.paused:
            self._request.write(b": keep\n\n")

    async def run(self) -> None:
        """
        Write events until the reader leaves.
        """
        request = self._request
        request.notifyFinish().addBoth(lambda _: self.wake())
        request.channel.stalled = STALLED
        request.begin(200, {"Content-Type": "text/event-stream"})
        request.write(b"retry: 2000\n\n")
        if request.method == b"HEAD":
            request.finish()
            return
        while not request.gone:
            lost, events = self._ring.after(self._after, BATCH)
            if lost:
                self._after += lost
                request.write(b'event: lost\ndata: {"lost":%d}\n\n' % lost)
            for event in events:
                self._after = event["id"]
                if self._types is None or event["type"] in self._types:
                    request.write(_written(event))
            if events:
                await request.turn()
            elif self._ending:
                request.finish()
                return
            else:
                self._waiting = Deferred()
                await self._waiting


def _written(event: dict[str, object]) -> bytes:
    """
    Write an event as server-sent events are.
    """
    data = json.dumps(event, separators=(",", ":"))
    return f"id: {event['id']}\nevent: {event['type']}\ndata: {data}\n\n".encode()
