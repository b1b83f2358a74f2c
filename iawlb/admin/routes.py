"""
The table of routes, which finds the handler of a request and checks what the request
says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from iawlb.admin.access import Asker, Role
from iawlb.admin.members import Member, readMembers, readQuery
from iawlb.admin.problem import Problem

JSON = "application/json"
MOST_PARAMETERS = 32
FEW = 3
"""
The largest number of paths that a message lists.
"""


@dataclass(slots=True)
class Call:
    """
    A request that was found to be in order, as its handler gets it.

    @ivar path: The variable parts of the path, by name.
    @ivar query: The parameters of the query, all that are declared.
    @ivar body: The members of the body, all that are declared.
    @ivar asker: Who asks.
    @ivar header: Returns a header of the request.
    @ivar turn: Lets the reactor run once.
    """

    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]
    asker: Asker
    header: Callable[[str], str | None]
    turn: Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Answer:
    """
    What a handler answers.

    @ivar value: For JSON; it may hold iterators for long arrays.
    @ivar raw: Bytes, or pieces of them, instead of a value.
    @ivar stream: Takes the request over, and answers for as long as the client stays.
    """

    value: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | Iterator[bytes] | None = None
    stream: Callable[[Any], None] | None = None


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """
    One route.

    @ivar path: Such as C{/pools/{pool}}; each C{{name}} is one part of the path.
    @ivar role: The role that a client needs; L{Role.NONE} is for everybody.
    @ivar text: What the route does, in one line.
    @ivar query: The parameters that it takes.
    @ivar members: The members of its body; only POST has one.
    @ivar produces: The type of the answer; empty if the handler chooses it by the
        header C{Accept}.
    @ivar schema: The name of the answer's schema.
    @ivar statuses: The statuses of its own errors.
    @ivar quick: Whether the change waits for nothing.
    @ivar tagged: Whether the answer has an ETag.
    @ivar documented: Whether C{/openapi.json} has the route.
    """

    method: str
    path: str
    role: Role
    text: str
    handler: Handler
    query: tuple[Member, ...] = ()
    members: tuple[Member, ...] = ()
    produces: str = JSON
    schema: str = "object"
    status: int = 200
    statuses: tuple[int, ...] = ()
    quick: bool = False
    tagged: bool = False
    documented: bool = True

    @property
    def changes(self) -> bool:
        """
        Whether the route changes something.
        """
        return self.method != "GET"


def splitPath(path: str) -> list[str]:
    """
    Split a path into its parts, of which each may hold an escaped C{/}.

    @raise Problem: An escape is wrong.
    """
    try:
        parts = [unquote(each, errors="strict") for each in path[1:].split("/")]
    except UnicodeDecodeError:
        raise Problem(400, "the path is not UTF-8") from None
    return parts


class RouteTable:
    """
    All routes of a server.
    """

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._parts = [(each.path[1:].split("/"), each) for each in routes]
        # A server of few paths has no document.
        paths = sorted({each.path for each in routes})
        few = len(paths) <= FEW
        self._hint = (
            f"there is {', '.join(paths)}" if few else "/openapi.json lists all"
        )

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """
        Find the route of a request.

        @return: The route, and the variable parts of the path.
        @raise Problem: There is none; a method that the path does not have is answered
            with those that it has.
        """
        parts = splitPath(path)
        found: dict[str, tuple[Route, dict[str, str]]] = {}
        for pattern, route in self._parts:
            variables = _match(pattern, parts)
            if variables is not None:
                found.setdefault(route.method, (route, variables))
        if not found:
            raise Problem(404, f"there is no such path: {self._hint}")
        if method in found:
            return found[method]
        if method == "HEAD" and "GET" in found:
            return found["GET"]
        allowed = sorted({*found, "OPTIONS", *(["HEAD"] if "GET" in found else [])})
        headers = {"Allow": ", ".join(allowed)}
        raise Problem(405, f"this path takes {headers['Allow']}", headers)


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    """
    Return the variable parts of a path, or L{None} if it is another path.
    """
    if len(pattern) != len(parts):
        return None
    found = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            if not part:
                return None
            found[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return found


def queryOf(route: Route, text: str) -> dict[str, Any]:
    """
    Read the query of a request.

    @raise Problem: A parameter is wrong.
    """
    try:
        given = parse_qsl(
            text,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError:  # bytes that are not UTF-8, or too many
        raise Problem(
            400,
            f"the query is not UTF-8, or has more than {MOST_PARAMETERS} parameters",
        ) from None
    return readQuery(route.query, given)


def bodyOf(route: Route, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check the body of a request.

    @raise Problem: A member is wrong.
    """
    return readMembers(route.members, given)


def mediaType(header: str | None) -> str | None:
    """
    Return the type in a header C{Content-Type}, without parameters.
    """
    return None if header is None else header.partition(";")[0].strip().lower()


def accepts(header: str | None, produced: str) -> bool:
    """
    Return whether a client takes an answer of a type, by its header C{Accept}.
    """
    if header is None or not header.strip() or not produced:
        return True
    kind = produced.partition(";")[0]
    for each in header.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        refused = any(
            part in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters
        )
        if name in (kind, "*/*", f"{kind.partition('/')[0]}/*") and not refused:
            return True
    return False
