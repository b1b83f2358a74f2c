"""
The stream of the balancer's events, as C{text/event-stream}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

from iawlb.command.failures import CommandError

LONGEST = 1024 * 1024
"""
The longest line and the longest event that are read, in bytes.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event of the stream, as the balancer has sent it.
    """

    number: str
    kind: str
    data: str


def lines(response: HTTPResponse) -> Iterator[str]:
    """
    Yield the lines of an answer until the balancer ends it.

    @raise CommandError: A line is too long.
    """
    while True:
        try:
            line = response.readline(LONGEST)
        except (HTTPException, ConnectionError, TimeoutError):
            return  # the stream is asked for again
        if not line:
            return
        if not line.endswith(b"\n"):
            if len(line) >= LONGEST:
                raise CommandError("an event is too long")
            return
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def events(received: Iterator[str]) -> Iterator[Event]:
    """
    Yield the events of a stream; an empty line ends each.

    @raise CommandError: An event is too long.
    """
    number, kind, length = "", "", 0
    data: list[str] = []
    for line in received:
        length += len(line)
        if length > LONGEST:
            raise CommandError("an event is too long")
        if not line:
            if data:
                yield Event(number, kind, "\n".join(data))
            kind, data, length = "", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id" and value.isprintable():
            number = value
        elif field == "event":
            kind = value
        elif field == "data":
            data.append(value)
