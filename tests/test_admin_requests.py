"""
Tests for what the admin server checks of a request: its body, its query, its headers,
and who asks.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.admin.access import Access, Asker, Role, Tokens, peerOf
from iawlb.admin.httplimits import LINGER
from iawlb.admin.jsontext import pieces
from iawlb.admin.members import Member, objectSchema, timeout
from iawlb.admin.problem import Problem
from iawlb.admin.routes import Answer, Call, Route
from iawlb.admin.server import MOST_CHANGES, TOLD_WHY
from iawlb.errors import (
    CannotListen,
    InvalidSetting,
    UnknownDestination,
    UnknownPool,
)
from tests.asking import Asking, Line, Reply, request
from tests.doubles import logged

ITEM = (
    Member("address", "string", "where", least=1),
    Member("slots", "integer", "how many", None, 0, 10),
)
MEMBERS = (
    Member("target", "string", "what", "*", least=1, most=20),
    Member("number", "number", "how much", 1, 0, 100),
    Member("count", "integer", "how many", None, 1, 5),
    Member("flag", "boolean", "whether", False),
    Member("word", "string", "which", None, words=("up", "down")),
    Member("any", "scalar", "anything", None),
    Member("items", "array", "several", None, least=1, most=2, items=ITEM),
)
QUERY = (
    timeout("older", None, "how old"),
    Member("limit", "integer", "how many", 100, 0, 1000),
    Member("waiting", "boolean", "whether", None),
    Member("name", "string", "which", None, most=10),
)


class Server(Asking):
    """
    A server with one route for each kind.
    """

    def __init__(self, **arguments: Any) -> None:
        self.calls: list[Call] = []
        self.error: Exception | None = None
        self.waiting: Deferred[None] | None = None

        self.reading: Deferred[None] | None = None

        async def free(call: Call) -> Answer:
            if self.reading is not None:
                await self.reading
            return await take(call)

        async def take(call: Call) -> Answer:
            self.calls.append(call)
            if self.waiting is not None:
                await self.waiting
            if self.error is not None:
                raise self.error
            return Answer({"result": "done"})

        super().__init__(
            [
                Route("GET", "/free", Role.NONE, "", free),
                Route("GET", "/read", Role.READ, "", take, query=QUERY),
                Route("POST", "/read", Role.OPERATE, "", take, members=MEMBERS),
                Route("POST", "/quick", Role.OPERATE, "", free, quick=True),
                Route("DELETE", "/read/{name}", Role.ADMIN, "", take),
                Route("GET", "/read/{name}", Role.READ, "", take, produces="text/css"),
            ],
            **arguments,
        )


class RequestCase(SynchronousTestCase):
    """
    A base for tests that ask a server.
    """

    def setUp(self) -> None:
        self.on = Server(host=None)
        self.patch(
            type(self.on.server.access),
            "identify",
            lambda *_: Asker(Role.ADMIN, "uid 0 (pid 1)"),
        )

    def refused(self, reply: Reply, status: int, *words: str) -> None:
        """
        Check that a request was refused, that the reason holds some words, and that
        nothing was done.
        """
        self.assertEqual(reply.status, status, reply.raw)
        self.assertEqual(reply.headers["content-type"], "application/problem+json")
        for each in words:
            self.assertIn(each, reply.json["detail"])
        self.assertEqual(self.on.calls, [])
        self.assertNotIn("\n", reply.json["detail"])


class BodyTests(RequestCase):
    """
    Bodies.
    """

    def post(self, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """
        Ask for a change.
        """
        return self.on.ask("POST", "/read", body, headers)

    def test_defaults(self) -> None:
        """
        What is not given has its default; no body at all is an empty one.
        """
        bodies: tuple[Any, ...] = (None, {})
        for body in bodies:
            self.assertEqual(self.post(body).json, {"result": "done"})
        for call in self.on.calls:
            self.assertEqual((call.body["target"], call.body["count"]), ("*", None))

    def test_values(self) -> None:
        """
        What is right reaches the handler.
        """
        body = {
            "target": "web/a",
            "number": 1.5,
            "count": 4.0,
            "flag": True,
            "word": "up",
            "any": "10s",
            "items": [{"address": "a"}, {"address": "b", "slots": 3}],
        }
        self.post(body)
        self.post({"word": None, "count": None, "items": None})
        (first, second) = self.on.calls
        self.assertEqual(first.body["count"], 4)
        self.assertIsInstance(first.body["count"], int)
        self.assertEqual(first.body["items"][0], {"address": "a", "slots": None})
        self.assertEqual(second.body["word"], None)

    def test_wrong(self) -> None:
        """
        A wrong member is named, with what would be right, and nothing is done.
        """
        wrong: list[tuple[dict[str, Any], list[str]]] = [
            ({"target": 1}, ["target", "1 is not a text"]),
            ({"target": None}, ["target", "None is not a text"]),
            ({"target": ""}, ["target", "from 1 to 20"]),
            ({"target": "x" * 21}, ["target", "21 characters"]),
            ({"number": "1"}, ["number", "'1' is not a number"]),
            ({"number": True}, ["number", "True is not a number"]),
            ({"number": 101}, ["number", "from 0 to 100"]),
            ({"number": -0.1}, ["number", "from 0 to 100"]),
            ({"count": 1.5}, ["count", "a whole number or null"]),
            ({"count": 10**30}, ["count", "from 1 to 5"]),
            ({"flag": "true"}, ["flag", "true or false"]),
            ({"word": "left"}, ["word", "one of up, down"]),
            ({"any": []}, ["any", "a text, a number"]),
            ({"items": {}}, ["items", "an array"]),
            ({"items": []}, ["items", "0 items"]),
            ({"items": [1]}, ["items[0]", "not an object"]),
            ({"items": [{}]}, ["items[0].address", "missing"]),
            ({"items": [{"address": "a", "slots": "x"}]}, ["items[0].slots"]),
            ({"items": [{"address": "a", "b": 1}]}, ["items[0].b", "not known"]),
            ({"tragte": "a"}, ["tragte is not known", "write target"]),
            ({"zzz": "a" * 9000}, ["zzz", "there are target, number"]),
            ({"z\n" * 100: 1}, ["z\\n"]),
        ]
        for body, words in wrong:
            self.refused(self.post(body), 400, *words)

    def test_noMembers(self) -> None:
        """
        A change without members takes none.
        """
        reply = self.on.ask("DELETE", "/read/a", {"b": 1})
        self.refused(reply, 400, "b", "nothing may be given")

    def test_notJson(self) -> None:
        """
        A body that is not JSON, or that two readers could read differently, is refused.
        """
        for body, word in (
            (b"{", "not JSON"),
            (b"\xff", "UTF-8"),
            (b"[]", "not an object"),
            (b"null", "not an object"),
            (b'{"target": "a", "target": "b"}', "'target' is given twice"),
            (b'{"number": NaN}', "NaN"),
            (b'{"number": -Infinity}', "Infinity"),
            (b'{"number": 1e999}', "too large"),
            (b'{"number": ' + b"9" * 5000 + b"}", "not JSON"),
            (b'{"any": ' + b"[" * 17 + b"]" * 17 + b"}", "nested deeper"),
            (b"[" * 60_000, "nested deeper"),
            (b'{"items": [' + b"{}," * 5000 + b"{}]}", "more than 4096 arrays"),
            (b"{" * 9 + b'"', "not JSON"),
            (b"\xef\xbb\xbf{}", "not JSON"),
        ):
            self.refused(self.post(body), 400, word)

    def test_bracketsInText(self) -> None:
        """
        Brackets in a text are no nesting.
        """
        self.assertEqual(self.post({"any": '[\\"' * 40}).status, 200)

    def test_contentType(self) -> None:
        """
        A body has to be declared as JSON, so that no form of another site can send it.
        """
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            reply = self.post(b'{"target": "a"}', {"Content-Type": kind})
            self.refused(reply, 415, "application/json")
        reply = self.post({}, {"Content-Type": "Application/JSON; charset=utf-8"})
        self.assertEqual(reply.status, 200)

    def test_schema(self) -> None:
        """
        The document about the API says the same as the checks.
        """
        schema = objectSchema(MEMBERS)
        self.assertNotIn("required", schema)
        self.assertFalse(schema["additionalProperties"])
        properties = schema["properties"]
        self.assertEqual(properties["count"]["type"], ["integer", "null"])
        self.assertEqual(properties["word"]["enum"], ["up", "down", None])
        self.assertEqual(properties["items"]["items"]["required"], ["address"])
        word = Member("word", "string", "", words=("a",)).schema()
        self.assertEqual(word["enum"], ["a"])


class QueryTests(RequestCase):
    """
    Queries, paths and methods.
    """

    def test_query(self) -> None:
        """
        Parameters are read by their types.
        """
        self.on.ask("GET", "/read?older=1.5&limit=7&waiting=true&name=a%20b")
        self.on.ask("GET", "/read?waiting=false")
        first, second = (each.query for each in self.on.calls)
        expected = {"older": 1.5, "limit": 7, "waiting": True, "name": "a b"}
        self.assertEqual(first, expected)
        expected = {"older": None, "limit": 100, "waiting": False, "name": None}
        self.assertEqual(second, expected)

    def test_wrongQuery(self) -> None:
        """
        A wrong parameter is named.
        """
        for query, words in (
            ("limit=x", ["limit", "'x' is not a whole number"]),
            ("limit=1_0", ["limit"]),
            ("limit=1.5", ["limit"]),
            ("limit=1001", ["limit", "from 0 to 1000"]),
            ("limit=", ["limit"]),
            ("older=nan", ["older"]),
            ("older=-1", ["older"]),
            ("older=1e300", ["older"]),
            ("waiting=yes", ["waiting", "true or false"]),
            ("waiting=1", ["waiting"]),
            ("limti=1", ["limti", "write limit"]),
            ("limit=1&limit=2", ["limit is given twice"]),
            ("name=%ff", ["UTF-8"]),
            ("name=" + "x" * 11, ["name"]),
            ("&".join(f"a{n}=1" for n in range(40)), ["more than 32"]),
        ):
            self.refused(self.on.ask("GET", f"/read?{query}"), 400, *words)

    def test_paths(self) -> None:
        """
        A part of a path may hold an escaped slash. What is no path is not found.
        """
        self.on.ask("GET", "/read/a%2Fb", headers={"Accept": "text/css"})
        self.assertEqual(self.on.calls.pop().path, {"name": "a/b"})
        for path in ("/", "/none", "/read/", "/read/a/b", "//read", "/READ", "/read/."):
            if path != "/read/.":
                self.refused(self.on.ask("GET", path), 404, "/openapi.json")
        self.refused(self.on.ask("GET", "/read/%ff"), 400, "UTF-8")
        self.refused(self.on.ask("GET", "http://localhost/read"), 400, "begins with /")

    def test_methods(self) -> None:
        """
        A method that a path does not have is answered with those that it has.
        """
        for method in ("PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "X"):
            reply = self.on.ask(method, "/read")
            self.refused(reply, 405)
            self.assertEqual(reply.headers["allow"], "GET, HEAD, OPTIONS, POST")
        reply = self.on.ask("POST", "/free", {})
        self.assertEqual(reply.headers["allow"], "GET, HEAD, OPTIONS")

    def test_options(self) -> None:
        """
        OPTIONS names the methods, and permits no other site to ask.
        """
        reply = self.on.ask("OPTIONS", "/read")
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertEqual(reply.headers["allow"], "GET, HEAD, OPTIONS, POST")
        self.assertNotIn("access-control-allow-origin", reply.headers)
        self.assertEqual(self.on.ask("OPTIONS", "*").status, 204)
        self.refused(self.on.ask("OPTIONS", "/none"), 404)

    def test_accept(self) -> None:
        """
        A client that does not take JSON is not sent any.
        """
        for header in ("*/*", "application/*, text/html", "application/json;q=0.5", ""):
            self.on.ask("GET", "/read", headers={"Accept": header})
        self.assertEqual(len(self.on.calls), 4)
        self.on.calls.clear()
        for header in ("text/html", "application/json;q=0", "application/xml"):
            reply = self.on.ask("GET", "/read", headers={"Accept": header})
            self.refused(reply, 406, "application/json")

    def test_securityHeaders(self) -> None:
        """
        Every answer has the headers that keep browsers from misusing it, also errors.
        """
        bad = self.on.send(b"GET\r\n")
        for reply in (self.on.ask("GET", "/read"), self.on.ask("GET", "/no"), bad):
            for name, value in (
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
                ("cross-origin-resource-policy", "same-origin"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
            ):
                self.assertEqual(reply.headers[name], value)
            self.assertIn(
                "default-src 'none'", reply.headers["content-security-policy"]
            )
            self.assertRegex(reply.headers["date"], "GMT$")
            self.assertRegex(reply.headers["server"], "^iawlb/")


class ChangeTests(RequestCase):
    """
    Changes: their audit line, their errors, and clients that leave.
    """

    def test_audit(self) -> None:
        """
        Each change writes who asked, what, and the result; what was only read does not.
        """
        self.on.ask("GET", "/read")
        self.on.ask("POST", "/read", {"target": "a"})
        self.on.ask("DELETE", "/read/a")
        self.assertEqual(
            self.on.audited,
            [
                ("uid 0 (pid 1)", 'POST /read {"target": "a"}', "200 done"),
                ("uid 0 (pid 1)", "DELETE /read/a", "200 done"),
            ],
        )

    def test_longAudit(self) -> None:
        """
        A long change is shortened in the log.
        """
        items = [{"address": "a" * 800}] * 2
        self.on.ask("POST", "/read", {"items": items})
        self.assertEqual(len(self.on.audited[0][1]), 1003)

    def test_errors(self) -> None:
        """
        What the balancer refuses has a status by its kind, and an audit line.
        """
        for error, status in (
            (UnknownDestination("no such destination"), 404),
            (UnknownPool("no such pool"), 404),
            (InvalidSetting("slots: no"), 422),
            (CannotListen("in use"), 409),
            (Problem(409, "already"), 409),
        ):
            self.on.error = error
            reply = self.on.ask("POST", "/read", {})
            self.assertEqual(reply.status, status)
            self.assertEqual(reply.json["detail"], str(error))
            self.assertEqual(self.on.audited.pop()[2], f"{status} {error}")

    def test_raises(self) -> None:
        """
        A handler that raises gives 500, is logged, and the connection goes on.
        """
        self.on.error = ZeroDivisionError("x")
        line = self.on.connect()
        for method in ("GET", "POST"):
            reply = self.on.ask(method, "/read", line=line)
            self.assertEqual(reply.status, 500)
            self.assertNotIn("x", reply.json["detail"].split())
        self.on.error = None
        self.assertEqual(self.on.ask("GET", "/read", line=line).status, 200)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.on.server.stop()

    def test_leaves(self) -> None:
        """
        A client that leaves while a change is made does not stop the change, and its
        audit line is written.
        """
        self.on.waiting = Deferred()
        line = self.on.connect()
        line.channel.dataReceived(request("POST", "/read", {}))
        self.on.turns()
        line.abortConnection()
        self.on.turns()
        self.assertEqual(self.on.audited, [])
        self.on.waiting.callback(None)
        self.assertEqual(self.on.audited[0][2], "200 done")

    def test_tooManyChanges(self) -> None:
        """
        The changes under way are bounded, also if their clients have left.
        """
        self.on.waiting = Deferred()
        for _ in range(MOST_CHANGES):
            line = self.on.connect()
            line.channel.dataReceived(request("POST", "/read", {}))
            self.on.turns()
            line.abortConnection()
        reply = self.on.ask("POST", "/read", {})
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "1"))
        waiting, self.on.waiting = self.on.waiting, None
        # All that wait may wait for a resume.
        self.assertEqual(self.on.ask("POST", "/quick", {}).status, 200)
        waiting.callback(None)
        self.assertEqual(len(self.on.audited), MOST_CHANGES + 1)
        self.assertEqual(self.on.ask("POST", "/read", {}).status, 200)

    def change(self) -> Line:
        """
        Begin a change that does not end.
        """
        self.on.waiting = Deferred()
        line = self.on.connect()
        line.channel.dataReceived(request("POST", "/read", {}))
        self.on.turns()
        return line

    def test_stop(self) -> None:
        """
        When the server stops, the answers under way are given a moment, and the other
        connections are closed at once.
        """
        line, idle = self.change(), self.on.connect()
        stopping = self.on.server.stop()
        self.assertTrue(idle.disconnecting)
        self.assertNoResult(stopping)
        assert self.on.waiting is not None
        self.on.waiting.callback(None)
        self.assertEqual(Reply(line.value()).status, 200)
        self.assertTrue(line.disconnecting)
        self.successResultOf(stopping)
        self.successResultOf(self.on.server.stop())
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_stopLate(self) -> None:
        """
        The server waits for no change for long, nor for a client that does not read.
        """
        line, other = self.change(), self.on.connect()
        self.on.reading = Deferred()
        other.channel.dataReceived(request("GET", "/free"))
        self.on.turns()
        told = self.on.connect()
        told.channel.dataReceived(b"wrong\r\n")
        stopping = self.on.server.stop()
        self.on.clock.advance(LINGER)
        self.on.turns()
        self.successResultOf(stopping)
        self.assertEqual(self.on.audited[0][2], "cancelled")
        self.assertEqual(Reply(line.value()).status, 503)
        self.assertTrue(other.aborted)
        self.assertTrue(told.aborted)
        self.assertEqual(self.on.clock.getDelayedCalls(), [])

    def test_stopLeft(self) -> None:
        """
        A change whose client has left ends with the server.
        """
        self.change().abortConnection()
        self.on.turns()
        self.successResultOf(self.on.server.stop())
        self.assertEqual(self.on.audited[0][2], "cancelled")

    def test_ifMatch(self) -> None:
        """
        A change that was asked for in view of another state is refused.
        """
        for header in ('"7"', '"1", "7"', "*"):
            reply = self.on.ask("POST", "/read", {}, {"If-Match": header})
            self.assertEqual(reply.status, 200)
        self.on.calls.clear()
        for header in ('"8"', 'W/"7"', "7"):
            reply = self.on.ask("POST", "/read", {}, {"If-Match": header})
            self.refused(reply, 412, "a change since")


class ConnectionsTests(RequestCase):
    """
    The number of connections.
    """

    def test_idleMakesRoom(self) -> None:
        """
        If there are too many connections, the one that has been idle the longest is
        closed for the next: idle clients do not keep others out.
        """
        lines = [self.on.connect() for _ in range(4)]
        for line in lines:
            self.on.clock.advance(1)
            self.on.ask("GET", "/read", line=line)
        self.on.clock.advance(1)
        self.on.ask("GET", "/read", line=lines[0])
        self.assertEqual(self.on.ask("GET", "/read").status, 200)
        gone = [each.aborted for each in lines]
        self.assertEqual(gone, [False, True, False, False])

    def test_unreadMakesRoom(self) -> None:
        """
        A client that does not read its answer makes room, too.
        """
        self.on.waiting = Deferred()
        lines = [self.on.connect() for _ in range(4)]
        for line in lines:
            line.channel.dataReceived(request("GET", "/read"))
        self.on.turns()
        lines[2].channel.pauseProducing()
        self.assertFalse(self.on.connect().channel.crowded)
        self.assertTrue(lines[2].aborted)

    def test_allBusy(self) -> None:
        """
        If all are busy, the next is told so, and beyond some more nobody is.
        """
        self.on.waiting = Deferred()
        for _ in range(4):
            self.on.connect().channel.dataReceived(request("GET", "/read"))
        self.on.turns()
        told = [self.on.connect() for _ in range(TOLD_WHY)]
        for line in told:
            reply = Reply(line.value())
            self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "1"))
        self.assertIsNone(self.on.server.buildProtocol(None))


SECRET = "0123456789abcdef"


class TokenTests(SynchronousTestCase):
    """
    Roles, tokens, hosts and origins, over TCP.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.write(f"# ours\n\nread {SECRET}r\noperate {SECRET}o\nadmin {SECRET}a\n")

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        """
        Write the file of tokens.
        """
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.path.chmod(mode)

    def on(self, host: str = "127.0.0.1", tokens: bool = True) -> Server:
        """
        Make a server.
        """
        found = Tokens(str(self.path)) if tokens else None
        return Server(host=host, tokens=found)

    def statuses(self, on: Server, headers: dict[str, str]) -> list[int]:
        """
        Ask for all that the roles may do.
        """
        return [
            on.ask(method, target, body, headers).status
            for method, target, body in (
                ("GET", "/free", None),
                ("GET", "/read", None),
                ("POST", "/read", {}),
                ("DELETE", "/read/a", None),
            )
        ]

    def test_roles(self) -> None:
        """
        Each role may do what those before it may. On loopback reading needs no token.
        """
        for host, token, expected in (
            ("127.0.0.1", "", [200, 200, 401, 401]),
            ("127.0.0.1", "r", [200, 200, 403, 403]),
            ("127.0.0.1", "o", [200, 200, 200, 403]),
            ("127.0.0.1", "a", [200, 200, 200, 200]),
            ("192.0.2.1", "", [200, 401, 401, 401]),
            ("192.0.2.1", "r", [200, 200, 403, 403]),
            ("192.0.2.1", "x", [401, 401, 401, 401]),
        ):
            headers = {"Authorization": f"Bearer {SECRET}{token}"} if token else {}
            self.assertEqual(self.statuses(self.on(host), headers), expected, token)

    def test_authorization(self) -> None:
        """
        What is no token is refused, with the way to give one. Changes are audited with
        the token's role, never with the token.
        """
        on = self.on()
        for header in ("Basic YTpi", f"Bearer{SECRET}a", "Bearer ", "Bearer \xff"):
            reply = on.ask("GET", "/free", headers={"Authorization": header})
            self.assertEqual(reply.status, 401)
            self.assertIn("Bearer", reply.headers["www-authenticate"])
        headers = {"Authorization": f"bearer {SECRET}a"}
        on.ask("POST", "/read", {}, headers)
        self.assertEqual(on.audited[0][0], "token admin (127.0.0.1:51234)")
        reply = self.on(tokens=False).ask("GET", "/free", headers=headers)
        self.assertEqual(reply.status, 401)

    def test_refusalsAreLogged(self) -> None:
        """
        Who tries what he may not is in the log, but not more than once a second.
        """
        log = logged(self)
        on = self.on()
        for _ in range(5):
            on.ask("GET", "/free", headers={"Authorization": f"Bearer {SECRET}x"})
        on.ask("POST", "/read", {})
        on.clock.advance(1)
        texts = [formatEvent(each) for each in log]
        self.assertEqual(
            texts,
            [
                "admin server: refused 1 times: 127.0.0.1:51234: "
                "the token is not known here",
                "admin server: refused 5 times: 127.0.0.1:51234: POST /read: "
                "this needs a token of the role operate",
            ],
        )
        on.server.stop()

    def test_twoAuthorizations(self) -> None:
        """
        A header that decides may be given once.
        """
        raw = request("GET", "/read").replace(
            b"\r\n\r\n", b"\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"
        )
        self.assertEqual(self.on().send(raw).status, 400)

    def test_fileOthersCanRead(self) -> None:
        """
        A file of tokens that others can read is refused.
        """
        for mode in (0o604, 0o602, 0o620):
            self.path.chmod(mode)
            with self.assertRaisesRegex(InvalidSetting, "chmod 600"):
                Tokens(str(self.path))
        self.path.chmod(0o640)
        Tokens(str(self.path))

    def test_wrongFile(self) -> None:
        """
        Whatever is wrong with the file is one line that says where, without the token.
        """
        for text, why in (
            (f"reader {SECRET}", ":1: a line is ROLE TOKEN"),
            (f"\nread {SECRET} x", ":2: a line is ROLE TOKEN"),
            ("read", "ROLE TOKEN"),
            ("admin short", "shorter than 16"),
            (f"admin {SECRET}é", "letters, digits"),
            ("# none", "holds no token"),
            (b"\xff", "is not text"),
            ("#" * 70_000, "longer than"),
        ):
            self.write(text)
            with self.assertRaisesRegex(InvalidSetting, why) as caught:
                Tokens(str(self.path))
            self.assertNotIn(SECRET, str(caught.exception))
        self.path.unlink()
        with self.assertRaisesRegex(InvalidSetting, "admin-tokens: cannot read"):
            Tokens(str(self.path))

    def test_changedFile(self) -> None:
        """
        A token that was taken out of the file is worth nothing any more, and a new one
        is known, without a restart. A file that is wrong changes nothing.
        """
        log = logged(self)
        on = self.on("192.0.2.1")

        def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return on.ask("GET", "/read", headers=headers).status

        self.assertEqual(status(f"{SECRET}r"), 200)
        self.write(f"read {SECRET}new\n")
        self.assertEqual((status(f"{SECRET}r"), status(f"{SECRET}new")), (401, 200))
        self.write(f"read {SECRET}other\n", 0o644)
        self.assertEqual(status(f"{SECRET}new"), 200)
        self.path.unlink()
        self.assertEqual((status(f"{SECRET}new"), status(f"{SECRET}new")), (200, 200))
        # All traffic would wait for somebody to write into the pipe.
        os.mkfifo(self.path)
        self.assertEqual(status(f"{SECRET}new"), 200)
        texts = [formatEvent(each) or "" for each in log]
        self.assertIn("read again", texts[0])
        wrong = [each for each in texts if "former tokens" in each]
        self.assertEqual(len(wrong), 3)
        self.assertIn("chmod 600", wrong[0])
        self.assertIn("not a regular file", wrong[2])
        self.assertNotIn(SECRET, "".join(texts))
        on.server.stop()

    def test_host(self) -> None:
        """
        A name that was made to point here by another site is refused.
        """
        local, everywhere = self.on(), self.on("0.0.0.0")
        named = self.on("balancer.example")
        token = {"Authorization": f"Bearer {SECRET}r"}
        for on, host, status in (
            (local, "localhost:8405", 200),
            (local, "LOCALHOST", 200),
            (local, "127.0.0.1", 200),
            (local, "[::1]:8405", 200),
            (local, "evil.example", 421),
            (local, "localhost.evil.example", 421),
            (local, "192.0.2.1", 421),
            (local, "a b", 400),
            (local, "localhost:x", 400),
            (local, "", 400),
            (everywhere, "192.0.2.7:8405", 200),
            (everywhere, "[2001:db8::1]:8405", 200),
            (everywhere, "evil.example", 421),
            (named, "Balancer.Example:1", 200),
        ):
            reply = on.ask("GET", "/free", headers={"Host": host})
            self.assertEqual(reply.status, status, host)
        reply = everywhere.ask("GET", "/free", headers={"Host": "any.example", **token})
        self.assertEqual(reply.status, 200)

    def test_origin(self) -> None:
        """
        A page of another site cannot ask for anything, its own page can.
        """
        on = self.on()
        token = {"Authorization": f"Bearer {SECRET}a"}
        for headers, status in (
            ({"Origin": "http://127.0.0.1:8405"}, 200),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
            ({"Sec-Fetch-Site": "none"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:8406"}, 403),
            ({"Origin": "https://127.0.0.1:8405"}, 200),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
        ):
            reply = on.ask("POST", "/read", {}, {**headers, **token})
            self.assertEqual(reply.status, status, headers)

    def test_link(self) -> None:
        """
        A link on another site's page leads to what can only be looked at.
        """
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        on = self.on()
        self.assertEqual(on.ask("GET", "/free", headers=headers).status, 200)
        headers["Sec-Fetch-Mode"] = "cors"
        self.assertEqual(on.ask("GET", "/free", headers=headers).status, 403)


class PeerTests(SynchronousTestCase):
    """
    Peers of Unix sockets.
    """

    def asker(self, uid: int) -> Asker:
        """
        Return the asker of a socket whose peer has a number.
        """

        class Socket:
            def getsockopt(self, *_: object) -> bytes:
                return b"".join(each.to_bytes(4, "little") for each in (12, uid, 0))

        line: Any = Line()
        line.socket = Socket()
        return peerOf(line)

    def test_sameUserAndRoot(self) -> None:
        """
        The same user and root may do all, others nothing.
        """
        self.patch(os, "geteuid", lambda: 1000)
        self.assertEqual(self.asker(1000), Asker(Role.ADMIN, "uid 1000 (pid 12)"))
        self.assertEqual(self.asker(0).role, Role.ADMIN)
        other = self.asker(1001)
        self.assertEqual(other.role, Role.NONE)
        self.patch(socket, "SO_PEERCRED", None)
        self.assertEqual(self.asker(7), Asker(Role.ADMIN, "uid 1000"))
        access = Access(None, None)
        access.check(other, Role.NONE)
        with self.assertRaisesRegex(Problem, "uid 1001 .* needs read") as caught:
            access.check(other, Role.READ)
        self.assertEqual(caught.exception.status, 403)

    def test_host(self) -> None:
        """
        A browser that reaches a Unix socket through a tunnel is not made to ask for
        another site; other clients may write any word.
        """
        access, asker = Access(None, None), Asker(Role.ADMIN, "")
        for host in ("anything", "localhost:8405", "192.0.2.1", "[::1]"):
            access.checkHost(host, asker)
        with self.assertRaisesRegex(Problem, "not evil.example"):
            access.checkHost("evil.example:8405", asker)


class PiecesTests(SynchronousTestCase):
    """
    JSON in pieces.
    """

    def test_pieces(self) -> None:
        """
        Long arrays are made item by item, also within objects and within each other.
        """
        value = {"a": iter([1, {"b": iter([])}, iter(["x", None])]), "c": {"d": 1.5}}
        text = b"".join(pieces(value))
        self.assertEqual(text, b'{"a":[1,{"b":[]},["x",null]],"c":{"d":1.5}}\n')
        parts = list(pieces(iter(["x" * 1000] * 100)))
        self.assertGreater(len(parts), 5)
