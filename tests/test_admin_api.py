"""
Tests for the routes of the API, in memory.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from iawlb.admin import pagefiles
from iawlb.admin.access import Asker, Role
from iawlb.admin.api import apiRoutes
from iawlb.admin.eventring import EventRing
from iawlb.admin.eventstream import EventStream
from iawlb.admin.pagefiles import pageRoutes
from iawlb.admin.parts import Parts
from iawlb.admin.schemas import SCHEMAS
from iawlb.balancer import Balancer
from iawlb.config.keys import DESTINATION, remote
from iawlb.control.overlay import Difference
from iawlb.control.targets import findPool, findWorker
from iawlb.core.standing import Checked
from iawlb.errors import UnknownDestination
from iawlb.observe.statistics import Statistics
from iawlb.pool import Pool
from iawlb.processsettings import ProcessSettings
from tests.asking import Asking, Reply, Turns, request
from tests.doubles import Backend, MemoryListener, SecureWire, Wire, accept
from tests.hellos import helloOf
from tests.pem import Issued

ADMIN = Asker(Role.ADMIN, "uid 0 (pid 1)")


class Configuration:
    """
    A configuration that says what the test wants.
    """

    file: str | None = "iawlb.toml"
    process = ProcessSettings(logFormat="json")

    def __init__(self) -> None:
        self.differs: list[Difference] = []

    def originOf(self, path: str) -> str:
        """
        Return where a setting comes from.
        """
        return f"iawlb.toml:{len(path)}"

    def destinationOrigin(self, pool: str, destination: str) -> str:
        """
        Return where a destination comes from.
        """
        return "runtime"

    def differences(self) -> Iterator[list[Difference]]:
        """
        Iterate over what differs.
        """
        return ([each] for each in self.differs)


class Process:
    """
    A process that says what the test wants.
    """

    version = "1.2.3"
    started = 0.0

    def __init__(self) -> None:
        self.level = "info"
        self.result: dict[str, Any] = {"result": "done", "changes": [], "messages": []}
        self.asked: list[tuple[bool, str]] = []

    async def reload(self, diff: bool, by: str) -> dict[str, Any]:
        """
        Reload.
        """
        self.asked.append((diff, by))
        return self.result

    def lastReload(self) -> dict[str, Any]:
        """
        Return the last result.
        """
        return {"successful": None, "at": None, "messages": [], "file": None}

    def logState(self) -> dict[str, Any]:
        """
        Return what is known of the log.
        """
        return {"dropped": 0, "level": self.level}

    def setLevel(self, level: str) -> None:
        """
        Set the level.
        """
        self.level = level

    def loopLag(self) -> float:
        """
        Return the lag.
        """
        return 0.0001


class Operations:
    """
    Operations that remember what they were asked.
    """

    def __init__(self, balancer: Balancer) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self._balancer = balancer

    def __getattr__(self, name: str) -> Any:
        async def asked(**given: Any) -> dict[str, Any]:
            pool = findPool(self._balancer, given.get("pool", "web"))
            if name == "remove":
                findWorker(pool, given["name"])
            self.asked.append((name, given))
            if self.error is not None:
                raise self.error
            answer = {"result": "done", "left": 0, "messages": []}
            if name == "add":
                pool.add(Backend(), {"name": given["name"]})
                answer |= {"pool": pool.name, "name": given["name"]}
            return answer

        return asked


class ApiCase(SynchronousTestCase):
    """
    A base for tests that ask the API of a balancer in memory.
    """

    def setUp(self) -> None:
        self.clock = Turns()
        self.statistics = Statistics(self.clock)
        self.ring = EventRing(lambda: 1000.0 + self.clock.seconds())
        self.balancer = Balancer(
            self.clock, observers=[self.statistics, self.ring], relay="portable"
        )
        self.web = self.balancer.addPool("web")
        self.db = self.balancer.addPool("db", queueTimeout="5s")
        self.backends = {name: Backend() for name in ("a", "b")}
        for name, backend in self.backends.items():
            self.web.add(backend, {"name": name, "slots": 1})
        held = Backend()
        held.hold = True
        self.db.add(held, {"name": "c"})
        self.balancer.startService()
        self.configuration, self.process = Configuration(), Process()
        operations: Any = Operations(self.balancer)
        self.operations: Operations = operations
        parts = Parts(
            self.balancer,
            self.statistics,
            operations,
            self.configuration,
            self.process,
            self.ring,
            lambda: 1000.0 + self.clock.seconds(),
        )
        events = EventStream(self.clock, self.ring)
        routes = apiRoutes(parts, events, pageRoutes(), needsToken=False)
        self.on = Asking(
            routes, clock=self.clock, host=None, most=10, tag=lambda: self.ring.tag
        )
        access: Any = self.on.server.access
        self.on.server.access = access
        self.patch(type(access), "identify", lambda *_: ADMIN)

    def secure(self, *parts: bytes) -> Path:
        """
        Add a TLS listener.

        @param parts: The key and the certificate.
        @return: The file that holds them.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "own.pem")
        path.write_bytes(b"".join(parts))
        self.web.listen(MemoryListener(), {"name": "tls", "certificate": [str(path)]})
        return path

    def get(self, target: str) -> Any:
        """
        Read, and return the value.
        """
        reply = self.on.ask("GET", target)
        self.assertEqual(reply.status, 200, reply.raw)
        return reply.json

    def clients(self, number: int, pool: Pool | None = None) -> list[Wire]:
        """
        Connect clients.
        """
        return [accept((pool or self.web).factory) for _ in range(number)]

    def check(self, name: str, value: Any) -> None:
        """
        Check that an answer has the shape that the document gives it.
        """
        problems = list(wrong(SCHEMAS[name], value, name))
        self.assertEqual(problems, [])


def wrong(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """
    Iterate over what is wrong with a value, by as much of JSON Schema as is used.
    """
    if "$ref" in schema:
        yield from wrong(SCHEMAS[schema["$ref"].rpartition("/")[2]], value, path)
        return
    if "oneOf" in schema:
        if all(list(wrong(each, value, path)) for each in schema["oneOf"]):
            yield f"{path}: {value!r}"
        return
    if "enum" in schema:
        if value not in schema["enum"]:
            yield f"{path}: {value!r}"
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    known: dict[str, Any] = {
        "string": str,
        "number": (int, float),
        "integer": int,
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    if kinds and not any(isinstance(value, known[each]) for each in kinds):
        yield f"{path}: {value!r} is not {kinds}"
    if isinstance(value, list) and "items" in schema:
        for place, each in enumerate(value):
            yield from wrong(schema["items"], each, f"{path}[{place}]")
    if isinstance(value, dict) and "properties" in schema:
        if set(value) != set(schema["properties"]):
            yield f"{path}: {set(value) ^ set(schema['properties'])}"
        for name, each in schema["properties"].items():
            yield from wrong(each, value.get(name), f"{path}.{name}")


class ReadingTests(ApiCase):
    """
    What is read.
    """

    def test_check(self) -> None:
        """
        A destination shows what its last check has found, how many sessions it takes
        now, and the part of its weight that its agent leaves it.
        """
        one = self.web.add(Backend(), {"name": "d", "healthCheck": "tcp", "slots": 4})
        self.assertIsNone(self.get("/destinations/web/d")["check"])
        one.startSlots = 2
        self.assertEqual(self.get("/destinations/web/d")["weightPercent"], 100)
        one.percent = 50
        one.checked = Checked(False, "status 503", self.clock.seconds(), 0.25)
        found = self.get("/destinations/web/d")
        self.check("Destination", found)
        self.assertEqual((found["slots"], found["limit"]), (4, 2))
        self.assertEqual((found["weight"], found["weightPercent"]), (1, 50))
        self.assertEqual(
            found["check"],
            {
                "passed": False,
                "why": "status 503",
                "at": "1970-01-01T00:16:40.000Z",
                "took": 0.25,
            },
        )

    def test_status(self) -> None:
        """
        The status says what serves, what waits and for how long.
        """
        self.clients(4)
        self.clock.advance(2)
        status = self.get("/status")
        self.check("Status", status)
        self.assertEqual(
            {
                key: status[key]
                for key in ("state", "ready", "why", "role", "sessions", "waiting")
            },
            {
                "state": "running",
                "ready": True,
                "why": "",
                "role": "admin",
                "sessions": 4,
                "waiting": 2,
            },
        )
        self.assertAlmostEqual(status["oldestWait"], 2, 2)
        self.assertEqual((status["destinationsUp"], status["destinations"]), (3, 3))
        self.assertEqual(status["version"], "1.2.3")
        self.assertEqual(status["started"], "1970-01-01T00:16:40.000Z")
        web, db = status["pools"]
        self.assertEqual((web["name"], web["active"], web["waiting"]), ("web", 2, 2))
        self.assertEqual((db["name"], db["oldestWait"]), ("db", None))

    def test_pools(self) -> None:
        """
        A pool is listed, and can be asked for by its name.
        """
        pools = self.get("/pools")
        self.check("Pools", pools)
        self.assertEqual([each["name"] for each in pools], ["web", "db"])
        reply = self.on.ask("GET", "/pools/web")
        self.check("Pool", reply.json)
        self.assertEqual(reply.headers["etag"], self.ring.tag)
        reply = self.on.ask("GET", "/pools/wbe")
        self.assertEqual(reply.status, 404)
        self.assertIn("write web", reply.json["detail"])

    def test_destinations(self) -> None:
        """
        A destination has its state, its counts, and since when.
        """
        self.clients(2)
        self.clock.advance(3)
        self.web.setPaused("a", True)
        found = self.get("/destinations")
        self.check("Destinations", found)
        first = found[0]
        self.assertEqual(first, self.get("/destinations/web/a"))
        self.assertEqual(
            (first["state"], first["active"], first["served"], first["slots"]),
            ("paused", 1, 1, 1),
        )
        self.assertEqual(first["since"], "1970-01-01T00:16:43.000Z")
        self.assertEqual(first["origin"], "runtime")
        for path in ("/destinations/web/x", "/destinations/x/a"):
            self.assertEqual(self.on.ask("GET", path).status, 404)

    def test_routes(self) -> None:
        """
        A pool says whose clients it takes, a destination whether it is reached over
        TLS, and a session which name it has asked for.
        """
        names = ("b.example", "*.b.example")
        pool = self.balancer.addPool(
            "b", through="web", serverNames=names, protocols="h2"
        )
        pool.add("127.0.0.1:1", {"tls": True, "tlsVerify": False})
        found = self.get("/pools/b")
        self.check("Pool", found)
        self.assertEqual(
            (found["through"], found["serverNames"], found["protocols"]),
            ("web", [*names], ["h2"]),
        )
        self.assertTrue(found["destinations"][0]["tls"])
        found = self.get("/pools/web")
        self.assertEqual((found["through"], found["serverNames"]), (None, []))
        wire = accept(self.web.factory)
        wire.receive(helloOf("a.b.example", "h2"))
        (session,) = self.get("/sessions")["sessions"]
        self.assertEqual(session["serverName"], "a.b.example")
        self.assertEqual(session["pool"], "b")
        # A pool that only has listeners for others is not said to be down.
        self.balancer.addPool("edge")
        self.assertIn("edge", self.get("/ready")["why"])
        pool = self.balancer.addPool("c", through="edge", protocols="h2")
        pool.add("127.0.0.1:2", {})
        self.assertNotIn("edge", self.get("/ready")["why"])
        self.check("Sessions", self.get("/sessions"))

    def test_tls(self) -> None:
        """
        A TLS listener says when the first of its certificates expires, and why changed
        files cannot be used.
        """
        own = Issued("own", hosts=["www.example.org"])
        path = self.secure(own.keyPem, own.pem)
        (listener,) = self.get("/pools/web")["listeners"]
        self.check("Pool", self.get("/pools/web"))
        until = own.certificate.not_valid_after_utc
        self.assertEqual(
            listener["tls"],
            {
                "certificates": 1,
                "expires": until.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "expiring": "www.example.org",
                "problem": None,
                "handshakes": 0,
                "failed": 0,
            },
        )
        path.write_bytes(b"half")
        self.clock.advance(1)
        (listener,) = self.get("/pools/web")["listeners"]
        self.assertIn("no private key", listener["tls"]["problem"])
        self.check("Pool", self.get("/pools/web"))

    def test_changed(self) -> None:
        """
        What differs from the file is marked, and listed in the configuration.
        """
        destinations = ("pools", "web", "destinations")
        self.configuration.differs = [
            Difference(("pools", "web", "slots"), 5, 7),
            Difference(("pools", "web", "paused"), None, object()),
            Difference((*destinations, "a", "slots"), 0, 1),
            Difference((*destinations, "b"), None, {"slots": 0}),
        ] + [Difference(("pools", "web", "y"), 1, 2)] * 300
        web = self.get("/pools/web")
        self.assertEqual(web["changed"][:3], ["slots", "paused", "y"])
        self.assertEqual(
            [each["changed"] for each in web["destinations"]], [["slots"], ["added"]]
        )
        # One that is being removed, and still has sessions.
        self.configuration.differs[3] = Difference((*destinations, "b"), {}, None)
        self.assertEqual(self.get("/destinations/web/b")["changed"], ["removed"])
        # One that is gone is listed with its pool.
        self.configuration.differs[3] = Difference((*destinations, "c"), {}, None)
        self.assertEqual(
            self.get("/pools/web")["changed"][:3], ["slots", "paused", "c removed"]
        )
        config = self.get("/config")
        self.check("Config", config)
        self.assertEqual(
            config["differences"][:2],
            [
                {"path": "pools.web.slots", "file": 5, "runtime": 7},
                {"path": "pools.web.paused", "file": None, "runtime": True},
            ],
        )

    def test_paused(self) -> None:
        """
        A pause says who has asked for it, since when, and when it ends.
        """
        self.clock.advance(5)
        self.web.pause("uid 0 (pid 1)", 2.5, self.clock.seconds() + 60)
        self.db.pause("anna")
        self.clock.advance(1)
        web, db = self.get("/pools")
        self.assertEqual(web["state"], "paused")
        self.assertEqual(
            web["paused"],
            {
                "by": "uid 0 (pid 1)",
                "since": "1970-01-01T00:16:45.000Z",
                "until": "1970-01-01T00:17:45.000Z",
                "maxPause": 2.5,
            },
        )
        self.assertEqual((db["paused"]["by"], db["paused"]["until"]), ("anna", None))
        kinds = [each["type"] for each in self.ring.after(0, 100)[1]]
        self.assertEqual(kinds.count("pool-paused"), 2)

    def test_manyToCount(self) -> None:
        """
        The bytes of many sessions are counted in turns.
        """
        self.clients(700)
        web = self.get("/pools/web")
        self.assertEqual((web["sessions"], web["slotsMissing"]), (700, 698))

    def test_config(self) -> None:
        """
        Each setting has its value, its default, its origin, and whether it can change.
        """
        reply = self.on.ask("GET", "/config")
        self.assertEqual(reply.headers["etag"], self.ring.tag)
        found = {each["path"]: each for each in reply.json["settings"]}
        self.assertEqual(
            found["pools.db.queue-timeout"],
            {
                "path": "pools.db.queue-timeout",
                "value": 5.0,
                "default": 30.0,
                "origin": "iawlb.toml:22",
                "live": True,
            },
        )
        self.assertFalse(found["global.relay"]["live"])
        self.assertNotIn("pools.db.relay", found)
        self.assertEqual(
            found["log.format"],
            {
                "path": "log.format",
                "value": "json",
                "default": "text",
                "origin": "iawlb.toml:10",
                "live": False,
            },
        )
        slots = found["pools.web.destinations.a.slots"]
        self.assertEqual((slots["value"], slots["live"]), (1, True))
        self.assertEqual(reply.json["file"], "iawlb.toml")

    def test_sessions(self) -> None:
        """
        Sessions are listed oldest first, by what is asked.
        """
        self.clients(2)
        self.clock.advance(10)
        self.clients(2)
        self.clients(1, self.db)
        found = self.get("/sessions")
        self.check("Sessions", found)
        rows = [
            (each["id"], each["pool"], each["state"], each["destination"])
            for each in found["sessions"]
        ]
        self.assertEqual(
            rows,
            [
                (1, "web", "relaying", "a"),
                (2, "web", "relaying", "b"),
                (3, "web", "waiting", None),
                (4, "web", "waiting", None),
                (5, "db", "connecting", "c"),
            ],
        )
        self.clock.advance(1)
        self.assertAlmostEqual(self.get("/sessions")["sessions"][0]["idle"], 11, 2)
        self.assertAlmostEqual(self.get("/sessions")["sessions"][2]["waited"], 1, 2)
        for query, ids in (
            ("older=5", [1, 2]),
            ("waiting=true", [3, 4]),
            ("waiting=false", [1, 2, 5]),
            ("pool=db", [5]),
            ("destination=a", [1]),
            ("destination=web/b", [2]),
            ("destination=db/a", []),
            ("destination=x/y", []),
        ):
            found = self.get(f"/sessions?{query}")
            self.assertEqual([each["id"] for each in found["sessions"]], ids, query)
        found = self.get("/sessions?limit=2")
        self.assertEqual((found["total"], found["truncated"]), (5, True))
        self.assertEqual(len(found["sessions"]), 2)
        self.assertEqual(self.on.ask("GET", "/sessions?pool=x").status, 404)

    def test_proxies(self) -> None:
        """
        The status says who begins with a PROXY header, which destinations get one, what
        became of the headers, and the proxy of a session.
        """
        self.web.listen(MemoryListener(), {"name": "p", "acceptProxy": "192.0.2.0/24"})
        listener = next(each for each in self.web.listeners if each.name == "p")
        client, wrong = (accept(listener.frontend) for _ in range(2))
        client.receive(b"PROXY TCP4 203.0.113.9 192.0.2.7 5 6\r\n")
        wrong.receive(b"GET")
        pool = self.get("/pools/web")
        self.check("Pool", pool)
        accepts = {each["name"]: each["acceptProxy"] for each in pool["listeners"]}
        self.assertEqual(accepts["p"], ["192.0.2.0/24"])
        counts = {"read": 1, "wrong": 1, "incomplete": 0}
        self.assertEqual(pool["proxyHeaders"], counts)
        self.assertEqual(pool["destinations"][0]["sendProxy"], "off")
        found = self.get("/sessions")["sessions"][0]
        self.assertEqual(
            (found["client"], found["proxy"]), ("203.0.113.9:5", "192.0.2.1:1234")
        )

    def test_handshake(self) -> None:
        """
        A session in its TLS handshake says so, and one that has waited for how long.
        """
        protocol = self.web.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        assert protocol is not None
        protocol.makeConnection(SecureWire(protocol))
        (first,) = self.get("/sessions")["sessions"]
        self.assertEqual((first["state"], first["idle"]), ("handshake", None))

    def test_manySessions(self) -> None:
        """
        Many sessions are looked at in turns, and one that has ended meanwhile is left
        out.
        """
        wires = self.clients(1200)
        done = self.get("/sessions?limit=1000")
        self.assertEqual((done["total"], len(done["sessions"])), (1200, 1000))
        line = self.on.connect()
        line.channel.dataReceived(request("GET", "/sessions?limit=0"))
        self.on.turns(2)
        for wire in (wires[2], *wires[-5:]):
            wire.lose()
        self.on.turns()
        self.assertEqual(Reply(line.value()).json["total"], 1195)

    def test_live(self) -> None:
        """
        The process lives while it answers.
        """
        self.assertEqual(self.get("/live"), {"live": True})

    def test_ready(self) -> None:
        """
        Readiness is good while something is up in some pool, also while it is paused;
        not while nothing is up, nor while the balancer stops.
        """

        def ready() -> tuple[int, str]:
            reply = self.on.ask("GET", "/ready")
            self.check("Ready", reply.json)
            self.assertEqual(reply.json["ready"], reply.status == 200)
            return reply.status, reply.json["why"]

        self.assertEqual(ready(), (200, ""))
        self.web.setPaused(None, True)
        self.db.setPaused(None, True)
        self.assertEqual(ready(), (200, ""))
        for each in self.web.destinations:
            each.failed("refused")
        self.assertEqual(ready(), (200, "no destination is up in web"))
        self.db.destinations[0].failed("refused")
        self.assertEqual(ready(), (503, "no destination is up"))
        self.assertEqual(self.get("/pools/db")["destinations"][0]["why"], "refused")
        self.balancer.removePool("web")
        self.balancer.removePool("db")
        self.assertEqual(ready(), (503, "there is no pool"))
        self.db = self.balancer.addPool("db")
        self.clients(1, self.db)
        self.balancer.stopService()
        self.assertEqual(ready(), (503, "stopping"))
        self.assertEqual(self.get("/status")["state"], "stopping")

    def test_nothingRaises(self) -> None:
        """
        An empty balancer can be looked at too.
        """
        for name in ("web", "db"):
            self.balancer.removePool(name)
        for path in ("/status", "/pools", "/destinations", "/sessions", "/config"):
            self.get(path)
        reply = self.on.ask("GET", "/pools/web")
        self.assertIn("there is none", reply.json["detail"])


class ChangingTests(ApiCase):
    """
    What is changed.
    """

    def post(self, target: str, body: Any) -> Reply:
        """
        Ask for a change.
        """
        return self.on.ask("POST", target, body)

    def test_through(self) -> None:
        """
        The members of a body reach the operation, with who asks.
        """
        by = "uid 0 (pid 1)"
        for path, body, expected in (
            (
                "/pause",
                {"for": 60},
                {
                    "target": "*",
                    "maxPause": None,
                    "drainTimeout": 30,
                    "for": 60,
                    "wait": True,
                    "kill": False,
                },
            ),
            ("/resume", {"spread": 2}, {"target": "*", "spread": 2}),
            ("/stop", {"target": "web"}, {"target": "web"}),
            (
                "/drain",
                {"target": "web/a"},
                {"target": "web/a", "timeout": 300, "kill": False, "wait": True},
            ),
            (
                "/deploy",
                {"pool": "web", "destinations": [{"address": "localhost:1"}]},
                {
                    "pool": "web",
                    "destinations": [
                        {
                            **dict.fromkeys(["name", *remote(DESTINATION)]),
                            "address": "localhost:1",
                        }
                    ],
                    "deployTimeout": 30,
                    "drainTimeout": 30,
                    "force": False,
                },
            ),
            (
                "/wait",
                {"target": "web/a", "until": "up"},
                {"target": "web/a", "until": "up", "timeout": 60},
            ),
        ):
            reply = self.post(path, body)
            self.assertEqual(reply.status, 200, reply.raw)
            self.check("Result", reply.json)
            name, given = self.operations.asked.pop()
            self.assertEqual((f"/{name}", given), (path, {**expected, "by": by}))

    def test_set(self) -> None:
        """
        Only what is given is set.
        """
        self.post("/set", {"target": "web", "queue-timeout": "10s", "slots": 4})
        values = {"queue-timeout": "10s", "slots": 4}
        name, given = self.operations.asked.pop()
        self.assertEqual((name, given["values"]), ("set", values))
        reply = self.post("/set", {"target": "web", "weight": None})
        self.assertEqual(reply.status, 422)
        self.assertIn("nothing to set", reply.json["detail"])
        reply = self.post("/set", {"target": "web", "relay": "fast"})
        self.assertIn("relay is not known", reply.json["detail"])

    def test_add(self) -> None:
        """
        A destination that was added is answered with.
        """
        body = {"pool": "web", "address": "localhost:9003", "name": "d"}
        reply = self.post("/destinations", body)
        self.assertEqual((reply.status, reply.json["name"]), (201, "d"))
        self.check("Destination", reply.json)
        reply = self.post("/destinations", {**body, "pool": "x"})
        self.assertEqual(reply.status, 404)

    def test_remove(self) -> None:
        """
        A destination is removed by its pool and name, with a time-out.
        """
        reply = self.on.ask("DELETE", "/destinations/web/a?timeout=5&kill=true")
        self.assertEqual(reply.status, 200)
        name, given = self.operations.asked.pop()
        expected = {"pool": "web", "name": "a", "timeout": 5, "kill": True}
        self.assertEqual((name, given), ("remove", {**expected, "by": ADMIN.name}))
        reply = self.on.ask("DELETE", "/destinations/web/x")
        self.assertEqual((reply.status, self.operations.asked), (404, []))

    def test_kill(self) -> None:
        """
        A session is ended by its number.
        """
        self.assertEqual(self.on.ask("DELETE", "/sessions/12").status, 200)
        self.assertEqual(
            self.operations.asked, [("kill", {"id": 12, "by": ADMIN.name})]
        )
        (event,) = self.ring.after(self.ring.last - 1, 1)[1]
        self.assertEqual(
            (event["type"], event["text"]), ("session-killed", "session 12")
        )
        for number in ("x", "1" * 20, "²"):
            target = f"/sessions/{number}".encode().decode("latin-1")
            if number != "²":
                self.assertEqual(self.on.ask("DELETE", target).status, 404)
        self.assertEqual(self.on.ask("DELETE", "/sessions/%C2%B2").status, 404)

    def test_error(self) -> None:
        """
        What an operation refuses is answered with its reason.
        """
        self.operations.error = UnknownDestination("there is no destination 'x'")
        reply = self.post("/drain", {"target": "x"})
        self.assertEqual(reply.status, 404)
        self.assertEqual(reply.json["detail"], "there is no destination 'x'")

    def test_reload(self) -> None:
        """
        A reload answers with its changes, or with all mistakes.
        """
        reply = self.post("/reload", {"diff": True})
        self.assertEqual(reply.status, 200)
        self.check("Reload", reply.json)
        self.assertEqual(self.process.asked, [(True, ADMIN.name)])
        mistakes = ["iawlb.toml:1: no"]
        self.process.result = {"result": "failed", "mistakes": mistakes, "messages": []}
        reply = self.post("/reload", {})
        self.assertEqual((reply.status, reply.json["mistakes"]), (422, mistakes))

    def test_log(self) -> None:
        """
        The level of log lines is set, and shown.
        """
        self.post("/log", {"level": "debug"})
        self.assertEqual(self.get("/status")["log"]["level"], "debug")
        self.assertEqual(self.post("/log", {"level": "loud"}).status, 400)


class DocumentTests(ApiCase):
    """
    The document about the API, and the page.
    """

    def test_document(self) -> None:
        """
        The document is of the routes that answer, and every shape it refers to exists.
        """
        document = self.get("/openapi.json")
        self.assertEqual(document["openapi"], "3.1.0")
        self.assertEqual(document["info"]["version"], "1.2.3")
        text = json.dumps(document)
        for name in set(text.split("#/components/schemas/")[1:]):
            self.assertIn(name.partition('"')[0], document["components"]["schemas"])
        ids = [
            operation["operationId"]
            for path in document["paths"].values()
            for operation in path.values()
        ]
        self.assertEqual(len(ids), len(set(ids)))
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if "requestBody" in operation or method == "delete":
                    self.assertIn("412", operation["responses"])
                    self.assertEqual(operation["security"], [{"token": []}])
                elif path != "/events":
                    reply = self.on.ask(
                        method.upper(),
                        path.replace("{pool}", "web").replace("{name}", "a"),
                    )
                    self.assertIn(str(reply.status), operation["responses"])

    def test_otherFiles(self) -> None:
        """
        Files of types that a page does not have are not served.
        """
        self.patch(pagefiles, "TYPES", {"css": "text/css"})
        self.assertEqual([each.path for each in pageRoutes()], ["/page.css"])

    def test_page(self) -> None:
        """
        The page is served with a policy that lets nothing of others in, and is not sent
        again if it is known.
        """
        reply = self.on.ask("GET", "/")
        self.assertEqual(reply.body, self.on.ask("GET", "/index.html").body)
        self.assertEqual(reply.headers["content-type"], "text/html; charset=utf-8")
        policy = reply.headers["content-security-policy"]
        self.assertIn("script-src 'self'", policy)
        self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
        self.assertEqual(reply.headers["cache-control"], "no-cache")
        tag = reply.headers["etag"]
        for known, status in ((tag, 304), (f'W/{tag}, "b"', 304), ('"b"', 200)):
            reply = self.on.ask("GET", "/", headers={"If-None-Match": known})
            self.assertEqual(reply.status, status)
        self.assertEqual(self.on.ask("GET", "/page.js").status, 200)
