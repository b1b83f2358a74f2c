"""
The routes that change something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from iawlb.admin.access import Role
from iawlb.admin.members import Member, timeout
from iawlb.admin.parts import Change, Parts
from iawlb.admin.problem import Problem
from iawlb.admin.routes import Answer, Call, Route
from iawlb.admin.views import Views
from iawlb.config.keys import DESTINATION, POOL, remote
from iawlb.control.targets import findPool

_TARGET = Member(
    "target", "string", "* for all, POOL, POOL/DEST or DEST", least=1, most=400
)
_ALL = Member("target", "string", _TARGET.text, "*", least=1, most=400)
_DRAIN_TIMEOUT = timeout("drainTimeout", 30, "longest wait for sessions, in seconds")
_KILL = Member("kill", "boolean", "end the sessions that are left then", False)
_WAIT = Member("wait", "boolean", "answer when drained, not at once", True)
_SLOTS = Member("slots", "integer", "sessions at a time; 0 is no limit", None, 0, 1e6)
_WEIGHT = Member("weight", "integer", "share of the sessions", None, 1, 1000)
_NAME = Member("name", "string", "name", None, 1, 255)
_ADDRESS = Member("address", "string", "as after --dest", least=1, most=512)
_POOL = Member("pool", "string", "the pool's name", least=1, most=64)

_OWN = tuple(
    Member(key, "scalar", f"a destination's: {each.metadata['text']}", None)
    for key, each in remote(DESTINATION).items()
    if key not in (_SLOTS.name, _WEIGHT.name)
)
_LIVE = (
    *(
        Member(key, "scalar", f"a pool's: {each.metadata['text']}", None)
        for key, each in remote(POOL).items()
        if each.metadata["live"] and key not in DESTINATION
    ),
    *_OWN,
)


class Changing:
    """
    The routes that change something. Each answers when the change is made.
    """

    def __init__(self, parts: Parts, views: Views) -> None:
        self._balancer = parts.balancer
        self._operations = parts.operations
        self._process = parts.process
        self._ring = parts.ring
        self._views = views

    def routes(self) -> Iterator[Route]:
        """
        Iterate over the routes.
        """
        operations, operate, admin = self._operations, Role.OPERATE, Role.ADMIN
        bound = "longest time in seconds"
        plain: list[tuple[str, Change, str, tuple[Member, ...]]] = [
            (
                "/pause",
                operations.pause,
                "hold new clients, and answer when the sessions have finished",
                (
                    _ALL,
                    timeout("maxPause", None, "longest wait of one client"),
                    _DRAIN_TIMEOUT,
                    timeout("for", None, "the pause ends by itself after so long"),
                    _WAIT,
                    _KILL,
                ),
            ),
            (
                "/resume",
                operations.resume,
                "let the clients go on that a pause holds",
                (_ALL, timeout("spread", 0, "over how long the waiting ones go on")),
            ),
            ("/stop", operations.stop, "let a pool refuse new clients", (_TARGET,)),
            (
                "/drain",
                operations.drain,
                "give a destination no more sessions, and answer when it has none",
                (_TARGET, timeout("timeout", 300, bound), _KILL, _WAIT),
            ),
            (
                "/deploy",
                operations.deploy,
                "replace the destinations of a pool, once the new ones are ready",
                (
                    _POOL,
                    Member(
                        "destinations",
                        "array",
                        "the new destinations",
                        least=1,
                        items=(_ADDRESS, _NAME, _SLOTS, _WEIGHT, *_OWN),
                    ),
                    timeout("deployTimeout", 30, "longest wait until all are ready"),
                    _DRAIN_TIMEOUT,
                    Member("force", "boolean", "also if they are not ready", False),
                ),
            ),
            (
                "/wait",
                operations.wait,
                "wait for a state of a destination",
                (
                    _TARGET,
                    Member(
                        "until",
                        "string",
                        "the state",
                        words=("drained", "up", "removable"),
                    ),
                    timeout("timeout", 60, bound),
                ),
            ),
        ]
        for path, change, text, members in plain:
            handler = self._through(change)
            yield Route(
                *("POST", path, operate, text, handler),
                members=members,
                schema="Result",
                statuses=(404,),
                quick=path in ("/resume", "/stop"),
            )
        yield Route(
            *("POST", "/set", operate, "change values of a target", self._set),
            members=(_TARGET, _SLOTS, _WEIGHT, *_LIVE),
            schema="Result",
            statuses=(404,),
            quick=True,
        )
        yield Route(
            *("POST", "/destinations", admin, "add a destination", self._add),
            members=(_POOL, _ADDRESS, _NAME, _SLOTS, _WEIGHT, *_OWN),
            schema="Destination",
            status=201,
            statuses=(404,),
            quick=True,
        )
        path, text = "/destinations/{pool}/{name}", "drain and remove a destination"
        yield Route(
            *("DELETE", path, admin, text, self._remove),
            query=(timeout("timeout", 300, bound), _KILL),
            schema="Result",
        )
        yield Route(
            *("DELETE", "/sessions/{id}", operate, "end a session", self._killSession),
            schema="Result",
            quick=True,
        )
        yield Route(
            *("POST", "/reload", admin, "read the configuration again", self._reload),
            members=(Member("diff", "boolean", "only say what would change", False),),
            schema="Reload",
        )
        levels = ("debug", "info", "warn", "error", "critical")
        yield Route(
            *("POST", "/log", admin, "set the level of log lines", self._log),
            members=(Member("level", "string", "the lowest level", words=levels),),
            schema="Result",
            quick=True,
        )

    def _through(self, change: Change) -> Callable[[Call], Awaitable[Answer]]:
        """
        Return a handler that makes a change with the members of the body.
        """

        async def handle(call: Call) -> Answer:
            return Answer(await change(**call.body, by=call.asker.name))

        return handle

    async def _set(self, call: Call) -> Answer:
        values = {
            name: value
            for name, value in call.body.items()
            if name != "target" and value is not None
        }
        if not values:
            raise Problem(422, "there is nothing to set: give slots, or weight")
        target = call.body["target"]
        by = call.asker.name
        return Answer(await self._operations.set(target=target, values=values, by=by))

    async def _add(self, call: Call) -> Answer:
        added = await self._operations.add(**call.body, by=call.asker.name)
        pool = findPool(self._balancer, added["pool"])
        destination = pool.workers[added["name"]].destination
        look = await self._views.look(call.turn)
        return Answer(self._views.destination(destination, look), 201)

    async def _remove(self, call: Call) -> Answer:
        result = await self._operations.remove(
            **call.path, **call.query, by=call.asker.name
        )
        return Answer(result)

    async def _killSession(self, call: Call) -> Answer:
        number = call.path["id"]
        if not number.isascii() or not number.isdigit() or len(number) > 15:
            raise Problem(404, "a session's id is a number")
        by = call.asker.name
        result = await self._operations.kill(id=int(number), by=by)
        self._ring.publish("session-killed", text=f"session {number}", by=by)
        return Answer(result)

    async def _reload(self, call: Call) -> Answer:
        result = await self._process.reload(call.body["diff"], call.asker.name)
        if result["result"] == "failed":
            detail = "the configuration is wrong; nothing has changed"
            raise Problem(422, detail, mistakes=result["mistakes"])
        return Answer(result)

    async def _log(self, call: Call) -> Answer:
        self._process.setLevel(call.body["level"])
        return Answer({"result": "done", "left": 0, "messages": []})
