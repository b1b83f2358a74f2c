"""
The formats of an access log.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from time import time
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import formatTime

from iawlb.core.session import Session
from iawlb.core.text import printable
from iawlb.logformat import parseTemplate
from iawlb.observe import clientfields
from iawlb.observe.clientfields import jsonFields
from iawlb.observe.moments import haproxySecond, isoSecond, syslogSecond

Counts = tuple[int, int, int]
"""
The number of sessions of the process, of the session's pool, and of its destination.
"""

CountSessions = Callable[[Session], Counts]

NAMESPACE = "iawlb.observe.eventlog.EventLog"

STATUS = {
    "-": 200,
    "P": 403,
    "C": 400,
    "c": 408,
    "S": 502,
    "D": 502,
    "s": 504,
    "K": 503,
    "I": 500,
}
"""
The HTTP status that C{halog} counts a session as, by the first of the two letters.
"""


def countPool(session: Session) -> Counts:
    """
    Count the sessions of a balancer that has one pool and is not known.
    """
    live = session.origin.pool.live
    return live, live, 0


def _eachSecond(make: Callable[[int], str]) -> Callable[[], str]:
    """
    Return a function that writes the beginning of a line, which is made once a second.
    """
    last, text = 0, ""

    def start() -> str:
        nonlocal last, text
        second = int(time())
        if second != last:
            last, text = second, make(second)
        return text

    return start


def twistedStart() -> Callable[[], str]:
    """
    Return a function that writes the beginning of a line as Twisted's logger does.
    """
    return _eachSecond(lambda second: f"{formatTime(second)} [{NAMESPACE}#info] ")


def syslogStart() -> Callable[[], str]:
    """
    Return a function that writes the beginning of a line as a syslog server does, which
    C{halog} expects.
    """
    host = "".join(socket.gethostname().split()) or "-"
    return _eachSecond(
        lambda second: f"{syslogSecond(second)} {host} iawlb[{os.getpid()}]: "
    )


def noStart() -> str:
    """
    Begin a line with nothing: its receiver adds the time.
    """
    return ""


class TextFormat:
    """
    Lines for people.
    """

    def __init__(self, start: Callable[[], str]) -> None:
        self._start = start

    def __call__(self, session: Session, now: float, event: str) -> str:
        """
        Write a line.
        """
        outcome = session.outcome
        accepted, pulled = session.accepted, session.pulled
        connected = session.connected
        if outcome is not None:
            how = f"{outcome.text} ({outcome.code})"
        else:
            how = "connected" if event == "connect" else "running"
        waited = (now if pulled is None else pulled) - accepted
        connect = 0.0 if connected is None or pulled is None else connected - pulled
        return (
            f"{self._start()}{session.client} to {session.destination or 'nobody'}: "
            f"{how}, waited {waited:.3f} s, connect {connect:.3f} s, "
            f"total {now - accepted:.3f} s, "
            f"{session.bytesIn} bytes in, {session.bytesOut} out, "
            f"tries {session.tries}, {session.origin.listener}\n"
        )


def _place(session: Session) -> str:
    """
    Write the client's address as HAProxy does, without a space.
    """
    address = session.address
    if isinstance(address, IPv4Address | IPv6Address):
        text = printable(f"{address.host}:{address.port}")
    else:
        text = session.client
    return text.replace(" ", "\\x20")


class _HAProxyFormat:
    """
    What the lines of HAProxy's have in common.

    @ivar count: Counts the sessions.
    """

    def __init__(self, start: Callable[[], str]) -> None:
        self._start = start
        self.count: CountSessions = countPool

    def _head(self, session: Session, now: float) -> str:
        accept = time() - now + session.accepted
        second = int(accept)
        origin = session.origin
        return (
            f"{self._start()}{_place(session)} [{haproxySecond(second)}"
            f".{int((accept - second) * 1000):03d}] {origin.listener} "
            f"{origin.pool.name}/{session.destination or '<NOSRV>'} "
        )

    def _tail(self, session: Session) -> str:
        every, pool, served = self.count(session)
        # HAProxy counts a session that ends as one of the process and of the frontend,
        # and no more as one of the backend and of the server.
        front = pool
        if session.outcome is not None:
            every += 1
            front += 1
        tries = session.tries
        retries = tries - 1 if tries else 0
        return f"{every}/{front}/{pool}/{served}/{retries} 0/{session.ahead}"


def _milliseconds(session: Session, now: float) -> tuple[int, int, int]:
    """
    Return the wait in the queue, the connect and the whole time, in milliseconds; -1
    where a session did not come so far.
    """
    accepted, pulled, connected = session.accepted, session.pulled, session.connected
    outcome = session.outcome
    total = int((now - accepted) * 1000)
    if pulled is None:
        early = outcome is not None and outcome.code[1] == "R"
        return -1 if early else total, -1, total
    wait = int((pulled - accepted) * 1000)
    return wait, -1 if connected is None else int((connected - pulled) * 1000), total


class TcpFormat(_HAProxyFormat):
    """
    The lines that HAProxy writes with C{option tcplog}.
    """

    def __call__(self, session: Session, now: float, event: str) -> str:
        """
        Write a line.
        """
        wait, connect, total = _milliseconds(session, now)
        outcome = session.outcome
        code, plus = ("--", "+") if outcome is None else (outcome.code, "")
        return (
            f"{self._head(session, now)}{wait}/{connect}/{plus}{total} "
            f"{plus}{session.bytesOut} {code} {self._tail(session)}\n"
        )


class HalogFormat(_HAProxyFormat):
    """
    The lines that HAProxy writes with C{option httplog}, since C{halog} counts no
    others. A session is one request, and the time with the destination is the
    response's.
    """

    def __call__(self, session: Session, now: float, event: str) -> str:
        """
        Write a line.
        """
        wait, connect, total = _milliseconds(session, now)
        answer = -1 if connect < 0 else max(0, total - wait - connect)
        outcome = session.outcome
        code, plus = ("--", "+") if outcome is None else (outcome.code, "")
        return (
            f"{self._head(session, now)}0/{wait}/{connect}/{answer}/{plus}{total} "
            f"{STATUS[code[0]]} {plus}{session.bytesOut} - - {code}-- "
            f'{self._tail(session)} "TCP {session.listener} -"\n'
        )


class JsonFormat:
    """
    One JSON object for each line, with all fields.

    @ivar count: Counts the sessions.
    """

    def __init__(self) -> None:
        self.count: CountSessions = countPool

    def __call__(self, session: Session, now: float, event: str) -> str:
        """
        Write a line.
        """
        accepted, pulled = session.accepted, session.pulled
        connected, outcome = session.connected, session.outcome
        accept = time() - now + accepted
        second = int(accept)
        destination, origin = session.destination, session.origin
        every, pool, served = self.count(session)
        how = (
            '"code":null,"text":null'
            if outcome is None
            else f'"code":"{outcome.code}","text":"{outcome.text}"'
        )
        connect = (
            "null"
            if connected is None or pulled is None
            else f"{connected - pulled:.6f}"
        )
        return (
            f'{{"time":"{isoSecond(second)}.{int((accept - second) * 1000):03d}Z",'
            f'"event":"{event}","id":{session.number},"pool":{quoted(origin.pool.name)},'
            f'"listener":{quoted(origin.listener)},'
            f'"client":{quoted(session.client)},"destination":'
            f"{'null' if destination is None else quoted(destination)},{how},"
            f'"waited":{(now if pulled is None else pulled) - accepted:.6f},'
            f'"connect":{connect},"total":{now - accepted:.6f},'
            f'"bytesIn":{session.bytesIn},"bytesOut":{session.bytesOut},'
            f'"tries":{session.tries},'
            f'"ahead":{session.ahead},"sessions":{every},'
            f'"poolSessions":{pool},"destinationSessions":{served}'
            f"{jsonFields(session)}}}\n"
        )


class _Unset:
    """
    The value of a field that a session does not have, in any format.
    """

    def __format__(self, spec: str) -> str:
        return "-"


UNSET = _Unset()

Getter = Callable[[Session, float, str, Counts], Any]


def _acceptTime(session: Session, now: float, event: str, counts: Counts) -> str:
    accept = time() - now + session.accepted
    second = int(accept)
    return f"{isoSecond(second)}.{int((accept - second) * 1000):03d}Z"


def _client(session: Session, now: float, event: str, counts: Counts) -> str:
    # The path of a client's own Unix socket may hold anything.
    return session.client.replace("\\", "\\\\").replace('"', '\\"')


def _waited(session: Session, now: float, event: str, counts: Counts) -> float:
    return (now if session.pulled is None else session.pulled) - session.accepted


def _connect(session: Session, now: float, event: str, counts: Counts) -> Any:
    if session.connected is None or session.pulled is None:
        return UNSET
    return session.connected - session.pulled


def _ofClient(read: Callable[[Session], clientfields.Value]) -> Getter:
    def get(session: Session, now: float, event: str, counts: Counts) -> Any:
        value = read(session)
        return UNSET if value is None else clientfields.plainText(value)

    return get


GETTERS: dict[str, Getter] = {
    "time": _acceptTime,
    "event": lambda session, now, event, counts: event,
    "id": lambda session, now, event, counts: session.number,
    "pool": lambda session, now, event, counts: session.pool,
    "listener": lambda session, now, event, counts: session.listener,
    "client": _client,
    "destination": lambda session, now, event, counts: session.destination or UNSET,
    "code": lambda session, now, event, counts: (
        UNSET if session.outcome is None else session.outcome.code
    ),
    "text": lambda session, now, event, counts: (
        UNSET if session.outcome is None else session.outcome.text
    ),
    "waited": _waited,
    "connect": _connect,
    "total": lambda session, now, event, counts: now - session.accepted,
    "bytesIn": lambda session, now, event, counts: session.bytesIn,
    "bytesOut": lambda session, now, event, counts: session.bytesOut,
    "tries": lambda session, now, event, counts: session.tries,
    "ahead": lambda session, now, event, counts: session.ahead,
    "sessions": lambda session, now, event, counts: counts[0],
    "poolSessions": lambda session, now, event, counts: counts[1],
    "destinationSessions": lambda session, now, event, counts: counts[2],
    **{name: _ofClient(read) for name, read in clientfields.FIELDS.items()},
}
"""
The value of each field.
"""


class TemplateFormat:
    """
    Lines after a template of the user's.

    @ivar count: Counts the sessions.
    """

    def __init__(self, template: str) -> None:
        """
        @raise InvalidSetting: The template is wrong.
        """
        self.count: CountSessions = countPool
        text = ""
        getters: list[Getter] = []
        for before, name, spec in parseTemplate(template):
            text += before.replace("{", "{{").replace("}", "}}")
            if name is not None:
                text += f"{{{len(getters)}:{spec}}}"
                getters.append(GETTERS[name])
        self._format = f"{text}\n".format
        self._getters = tuple(getters)

    def __call__(self, session: Session, now: float, event: str) -> str:
        """
        Write a line.
        """
        counts = self.count(session)
        values = [get(session, now, event, counts) for get in self._getters]
        return self._format(*values)


AnyFormat = TextFormat | TcpFormat | HalogFormat | JsonFormat | TemplateFormat


def formatNamed(name: str, timed: bool = False) -> AnyFormat:
    """
    Make a format.

    @param name: One of L{FORMATS<iawlb.logformat.FORMATS>}, or a template.
    @param timed: Whether the receiver of the lines adds the time, as syslog does.
    @raise InvalidSetting: A template is wrong.
    """
    if name == "text":
        return TextFormat(noStart if timed else twistedStart())
    if name == "tcplog":
        return TcpFormat(noStart if timed else syslogStart())
    if name == "halog":
        return HalogFormat(noStart if timed else syslogStart())
    return JsonFormat() if name == "json" else TemplateFormat(name)
