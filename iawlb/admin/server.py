"""
The server of HTTP requests: connections, checks, handlers and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from iawlb.admin.access import Access, Asker, checkOrigin
from iawlb.admin.httpchannel import AdminChannel
from iawlb.admin.httplimits import LINGER
from iawlb.admin.httprequest import AdminRequest
from iawlb.admin.jsontext import pieces, readObject
from iawlb.admin.problem import PROBLEM_JSON, Problem
from iawlb.admin.routes import (
    JSON,
    Answer,
    Call,
    Route,
    RouteTable,
    accepts,
    bodyOf,
    mediaType,
    queryOf,
)
from iawlb.admin.turns import Turns
from iawlb.core.ratelimit import FailureLog, OncePerSecond
from iawlb.core.session import describe
from iawlb.core.text import printable
from iawlb.errors import IawlbError, InvalidSetting

MOST_CHANGES = 32
"""
How many changes may be under way at a time; those whose client has left count too.
Beyond these, only changes are made that wait for nothing, such as the resume for which
all others may wait.
"""

TOLD_WHY = 16
"""
How many connections beyond the most may be open to be told why they are refused.
"""

LONGEST_LOGGED = 1000
"""
How much of a change is logged.
"""

LONGEST_REFUSED = 200
"""
How much of a request that was refused is logged.
"""

Audit = Callable[[Asker, str, str], None]
"""
Writes who asked for what change, and the result.
"""


class AdminServer(ServerFactory[Any]):
    """
    Serves the routes of a table on one listening socket.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        table: RouteTable,
        access: Access,
        *,
        what: str,
        mostConnections: int,
        audit: Audit,
        tag: Callable[[], str],
    ) -> None:
        """
        @param what: The server's name, for log lines.
        @param mostConnections: The number of connections that may be open. If one more
            comes, the one that has been idle the longest is closed for it.
        @param tag: Returns the number of the last change, for C{ETag}.
        """
        self.clock = clock
        self.turns = Turns(clock)
        self.access = access
        self.what = what
        self._table = table
        self._most = mostConnections
        self._audit = audit
        self._tag = tag
        # In the order of their accept.
        self._channels: dict[AdminChannel, None] = {}
        self._changes: set[Deferred[Any]] = set()
        self._stopped: Deferred[None] | None = None
        self._cutting: IDelayedCall | None = None
        self._failures = FailureLog(clock, "a request to the admin server")
        # Somebody may try many tokens.
        self._refused = ""
        self._refusals = OncePerSecond(
            clock,
            lambda number: self.log.warn(
                "{what}: refused {number} times: {refused}",
                what=what,
                number=number,
                refused=self._refused,
            ),
        )

    # Connections.

    def buildProtocol(self, addr: IAddress | None) -> AdminChannel | None:
        """
        Make the connection of a client. If there are too many, the one that has not
        asked anything for the longest time is closed; if all are busy, the client is
        refused.
        """
        if len(self._channels) >= self._most + TOLD_WHY:
            return None
        channel = AdminChannel(self)
        channel.factory = None  # there is no log of requests
        if len(self._channels) >= self._most:
            idle = [each for each in self._channels if each.idle]
            if idle:
                min(idle, key=lambda each: each.since).abort()
            else:
                channel.crowded = True
        self._channels[channel] = None
        return channel

    def closed(self, channel: AdminChannel) -> None:
        """
        Called when a connection is closed.
        """
        self._channels.pop(channel, None)
        self._checkStopped()

    @property
    def connections(self) -> int:
        """
        The number of open connections.
        """
        return len(self._channels)

    def stop(self) -> Deferred[None]:
        """
        Close all connections. The answers under way are given a moment.

        @return: Fires when all are closed.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            self._cutting = self.clock.callLater(LINGER, self._cut)
            for channel in list(self._channels):
                channel.finish()
            self._checkStopped()
        return self._stopped

    def _cut(self) -> None:
        """
        Stop waiting for the changes under way and for clients that do not read.
        """
        for change in list(self._changes):
            change.cancel()
        for channel in list(self._channels):
            channel.abort()

    def _checkStopped(self) -> None:
        if self._stopped is None or self._stopped.called or self._channels:
            return
        if self._cutting is not None and self._cutting.active():
            self._cutting.cancel()
        # Those whose clients have left.
        for change in list(self._changes):
            change.cancel()
        self._refusals.stop()
        self._failures.stop()
        self._stopped.callback(None)

    # Requests.

    def received(self, request: AdminRequest) -> None:
        """
        Answer a request.
        """
        answering = ensureDeferred(self._answer(request))
        answering.addErrback(self._raised, request)

    def _raised(self, failure: Failure, request: AdminRequest) -> None:
        """
        Report a failure, or cut the connection if its answer has begun already.
        """
        self._log(failure)
        if request.startedWriting:
            request.cut()
        else:
            self._tell(request, _failed())

    def _log(self, failure: Failure) -> None:
        try:
            failure.raiseException()
        except Exception:
            self._failures.add()

    async def _answer(self, request: AdminRequest) -> None:
        """
        Answer a request. The answer to a change is not waited for by a client that has
        left; the change goes on.
        """
        try:
            answer = await self._result(request)
        except Problem as problem:
            self._tell(request, problem)
            return
        if answer.stream is not None:
            answer.stream(request)
            return
        headers = {"Content-Type": JSON, **answer.headers}
        body: bytes | Iterator[bytes] | None = answer.raw
        if body is None:
            written = pieces(answer.value)
            first, more = next(written), next(written, None)
            # One piece has a length, which clients like better than chunks.
            body = first if more is None else chain((first, more), written)
        if isinstance(body, bytes):
            request.answer(answer.status, headers, body)
        else:
            await request.answerInPieces(answer.status, headers, body)

    def _tell(self, request: AdminRequest, problem: Problem) -> None:
        """
        Answer that a request was refused, or has failed.
        """
        headers = {"Content-Type": PROBLEM_JSON, **problem.headers}
        request.answer(problem.status, headers, problem.body())

    async def _result(self, request: AdminRequest) -> Answer:
        """
        Check a request and call its handler.

        @raise Problem: The request is refused, or the handler has raised.
        """
        peer = describe(request.channel.getPeer())[0]
        host = request.header("Host")
        if host is None and request.clientproto == b"HTTP/1.1":
            raise Problem(400, "the header Host is missing")
        try:
            asker = self.access.identify(
                request.channel.transport, request.header("Authorization"), peer
            )
        except Problem as problem:
            self._refused = f"{peer}: {problem.detail}"
            self._refusals.add()
            raise
        self.access.checkHost(host, asker)
        method = request.method.decode()
        checkOrigin(method, request.header, host)
        target = request.uri.decode()
        if method == "OPTIONS":
            return self._options(target)
        if not target.startswith("/"):
            raise Problem(400, "the target of a request begins with /")
        path, _, query = target.partition("?")
        route, variables = self._table.find(method, path)
        try:
            self.access.check(asker, route.role)
        except Problem as problem:
            what = printable(f"{method} {path}"[:LONGEST_REFUSED])
            self._refused = f"{asker.name}: {what}: {problem.detail}"
            self._refusals.add()
            raise
        call = Call(
            path=variables,
            query=queryOf(route, query),
            body={},
            asker=asker,
            header=request.header,
            turn=request.turn,
        )
        if not accepts(request.header("Accept"), route.produces):
            raise Problem(406, f"this is only there as {route.produces}")
        if not route.changes:
            return await self._call(route, call)
        return await self._change(route, call, request)

    def _options(self, target: str) -> Answer:
        """
        Return the methods of a path. Nothing permits other sites to ask.
        """
        try:
            self._table.find("OPTIONS", target.partition("?")[0])
        except Problem as problem:
            if "Allow" not in problem.headers and target != "*":
                raise
            allow = problem.headers.get("Allow", "DELETE, GET, HEAD, OPTIONS, POST")
        return Answer(status=204, headers={"Allow": allow}, raw=b"")

    async def _change(self, route: Route, call: Call, request: AdminRequest) -> Answer:
        """
        Check the body of a change, make the change, and write its audit line.
        """
        body = bytes(request.body)
        kind = mediaType(request.header("Content-Type"))
        if route.members and (body or kind is not None) and kind != JSON:
            raise Problem(415, f"the body has to be {JSON}")
        call.body = bodyOf(route, readObject(body))
        self._checkTag(request.header("If-Match"))
        quick = route.quick or call.body.get("wait") is False
        if len(self._changes) >= MOST_CHANGES and not quick:
            raise Problem(
                503, f"{MOST_CHANGES} changes are under way", {"Retry-After": "1"}
            )
        # Not cancelled when the client leaves: what was asked for is done.
        change = ensureDeferred(self._call(route, call))
        self._changes.add(change)
        what = f"{route.method} {request.uri.decode()} {body.decode()}".strip()
        if len(what) > LONGEST_LOGGED:
            what = f"{what[:LONGEST_LOGGED]}..."
        result = ""
        try:
            answer = await change
            result = str(answer.status)
            if isinstance(answer.value, dict) and "result" in answer.value:
                result += f" {answer.value['result']}"
        except Problem as problem:
            result = f"{problem.status} {problem.detail}"
            raise
        except CancelledError:
            result = "cancelled"
            raise Problem(503, "the balancer has stopped") from None
        finally:
            self._changes.discard(change)
            self._audit(call.asker, printable(what), printable(result))
        return answer

    def _checkTag(self, header: str | None) -> None:
        """
        Refuse a change that was asked for in view of another state.

        @raise Problem: There has been a change since.
        """
        if header is None or header.strip() == "*":
            return
        if self._tag() not in [each.strip() for each in header.split(",")]:
            raise Problem(412, "there has been a change since: ask again, and look")

    async def _call(self, route: Route, call: Call) -> Answer:
        """
        Call a handler.

        @raise Problem: The handler has raised.
        """
        try:
            return await route.handler(call)
        except Problem:
            raise
        except IawlbError as error:
            raise problemOf(error) from error
        except CancelledError:
            raise
        except Exception:
            self._failures.add()
            raise _failed() from None


def _failed() -> Problem:
    return Problem(500, "the balancer has failed; its log says why")


def problemOf(error: IawlbError) -> Problem:
    """
    Return the answer to a change that is not possible.
    """
    if isinstance(error, LookupError):
        return Problem(404, str(error))
    return Problem(422 if isinstance(error, InvalidSetting) else 409, str(error))
