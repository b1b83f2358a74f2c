"""
The command that follows the balancer's events.
"""

from __future__ import annotations

import json
import time
from typing import Any

import click

from iawlb.command.calls import Call, asking
from iawlb.command.eventstream import Event, events, lines
from iawlb.command.failures import CommandError, Denied
from iawlb.command.output import complain, outputDescriptor, say
from iawlb.command.text import clock, plain

SILENCE = 60.0
"""
Longest silence of a stream before it is asked for again, in seconds.
"""

RETRY = 1.0
"""
The time between two attempts to get the stream again, in seconds.
"""

ATTEMPTS = 60
"""
How often the stream is asked for again in vain before the command gives up.
"""


@asking("events")
@click.option(
    "--types", metavar="TYPE,...", help="Only these, such as destination-down,reload."
)
@click.option("--count", type=click.IntRange(1), help="End after so many, for scripts.")
def eventsCommand(call: Call, types: str | None, count: int | None) -> None:
    """
    Follow what changes: destinations, listeners, pools, reloads and who asked for what.
    A stream that breaks is taken up again where it broke. Ctrl-C ends it.
    """
    query = {"types": types} if types else {}
    last, failures, left = "", 0, count or -1
    began = False
    while True:
        try:
            headers = {"Accept": "text/event-stream"}
            if last:
                headers["Last-Event-ID"] = last
            with (
                call.explained(),
                call.client.stream("/events", query, headers) as stream,
            ):
                bounded, response = stream
                began, failures = True, 0
                bounded.output = outputDescriptor()
                bounded.silence = SILENCE
                for event in events(lines(response)):
                    last = event.number or last
                    say(event.data if call.json else eventLine(event))
                    left -= 1
                    if not left:
                        return
        except Denied:
            raise
        except CommandError as error:
            failures += 1
            if not began or failures > ATTEMPTS:
                raise
            if failures == 1:
                complain(f"{error}; waiting for it")
        time.sleep(RETRY)


def eventLine(event: Event) -> str:
    """
    Write an event as a line.
    """
    try:
        value: Any = json.loads(event.data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return f"{plain(event.kind)} {plain(event.data)}"
    pool, destination = value.get("pool"), value.get("destination")
    of = f"{pool}/{destination}" if pool and destination else pool or destination
    words = [
        clock(value.get("time")),
        plain(value.get("type") or event.kind).ljust(21),
        plain(of or value.get("listener") or ""),
        plain(value.get("text") or ""),
    ]
    if value.get("by"):
        words.append(f"(by {plain(value['by'])})")
    return " ".join(word for word in words if word != "-").rstrip()
