"""
What the command says of pools, of destinations and of the whole balancer: rows of
tables, and lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from iawlb.command.calls import items
from iawlb.command.client import Answer
from iawlb.command.text import age, briefly, number, plain, since
from iawlb.command.tlsnotes import tlsNotes

SAME = 3.0
"""
Clocks that differ by less show the same time, in seconds.
"""

LONGEST_WHY = 200
"""
The number of characters of a reason that are shown.
"""


def timeOf(answer: Answer) -> datetime:
    """
    Return the time of day at the balancer: ours, unless the balancer's clock shows
    another. (An answer has whole seconds only.)
    """
    ours = datetime.now(UTC)
    try:
        found = parsedate_to_datetime(answer.date or "")
    except (TypeError, ValueError):
        return ours
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return ours if abs((found - ours).total_seconds()) < SAME else found


def share(each: dict[str, Any]) -> str:
    """
    Write how many slots are taken: C{2/4}, or C{2} where there is no limit; a star is
    for slots that are not those of the file.
    """
    slots, active = each.get("slots"), number(each.get("active"))
    mark = "*" if "slots" in (each.get("changed") or ()) else ""
    return f"{active}/{plain(slots)}{mark}" if slots else f"{active}{mark}"


def poolRows(pools: list[dict[str, Any]], now: datetime) -> list[list[str]]:
    """
    Make the rows of pools and their destinations.
    """
    rows = []
    for pool in pools:
        name = plain(pool.get("name"))
        paused = pool.get("paused") or {}
        rows.append(
            [
                name,
                "",
                plain(pool.get("state")),
                age(since(paused.get("since"), now)) if paused else "",
                share(pool),
                number(pool.get("waiting")),
                age(pool.get("oldestWait")),
                "",
                number(pool.get("accepted")),
                "",
                plain(
                    [each.get("address") for each in items(pool.get("listeners", []))]
                ),
            ]
        )
        for each in items(pool.get("destinations", [])):
            star = "*" if "weight" in (each.get("changed") or ()) else ""
            rows.append(
                [
                    name,
                    plain(each.get("name")),
                    plain(each.get("state")),
                    age(since(each.get("since"), now)),
                    share(each),
                    "",
                    "",
                    f"{number(each.get('weight'))}{star}",
                    number(each.get("served")),
                    briefly(each.get("answerTime")),
                    plain(each.get("address")),
                ]
            )
    return rows


def poolNotes(pools: list[dict[str, Any]], now: datetime) -> list[str]:
    """
    List what the table of pools has no room for: why a destination is down, who has
    paused a pool, what differs from the file.
    """
    notes = []
    for pool in pools:
        name = plain(pool.get("name"))
        paused = pool.get("paused")
        if paused:
            until = since(paused.get("until"), now)
            ends = "" if until is None else f", resumes in {age(-until)}"
            longest = paused.get("maxPause")
            if longest is not None:
                ends += f", a client waits at most {age(longest)}"
            notes.append(f"{name}: paused by {plain(paused.get('by'))}{ends}")
        for each in (pool, *items(pool.get("destinations", []))):
            of = name if each is pool else f"{name}/{plain(each.get('name'))}"
            if each.get("why"):
                notes.append(f"{of}: {plain(each['why'])[:LONGEST_WHY]}")
            notes += _healthNotes(of, each, now)
            changed = each.get("changed")
            if isinstance(changed, list) and changed:
                listed = ", ".join(plain(one) for one in changed)
                notes.append(f"{of}: not as in the file: {listed}")
    return notes


def _healthNotes(
    name: str, destination: dict[str, Any], now: datetime
) -> Iterator[str]:
    """
    List a check that has failed while the destination is up, and slots and a weight
    that are smaller than those that are set.
    """
    found = destination.get("check") or {"passed": True}
    if not found.get("passed") and not destination.get("why"):
        why = plain(found.get("why"))[:LONGEST_WHY]
        yield f"{name}: a check failed {age(since(found.get('at'), now))} ago: {why}"
    limit = destination.get("limit")
    if limit and limit != destination.get("slots"):
        yield f"{name}: takes {number(limit)} at a time for now"
    percent = destination.get("weightPercent", 100)
    if percent != 100:
        yield f"{name}: has {number(percent)}% of its weight, as its agent says"


def statusLines(status: dict[str, Any], now: datetime) -> list[str]:
    """
    Make the lines that say whether the balancer is well.
    """

    def get(key: str) -> str:
        return plain(status.get(key))

    state = get("state")
    if state == "stopping":
        state = "stopping, has run"
    ready = "ready" if status.get("ready") else f"not ready: {get('why')}"
    lines = [
        f"iawlb {get('version')}, process {get('pid')}, {state} for "
        f"{age(status.get('uptime'))}, {ready}",
        f"clients       {get('sessions')} of at most {get('maxConnections')}, "
        f"{get('waiting')} waiting"
        + (
            f", the oldest for {age(status['oldestWait'])}"
            if status.get("oldestWait") is not None
            else ""
        )
        + ("" if status.get("accepting", True) else "; accepts no more for now"),
        f"destinations  {get('destinationsUp')} up of {get('destinations')}",
    ]
    for pool in items(status.get("pools", [])):
        lines.append(
            f"{'pool ' + plain(pool.get('name')):<13} {plain(pool.get('state'))}, "
            f"{share(pool)} active, {number(pool.get('waiting'))} waiting" + _kept(pool)
        )
        lines += [f"  {each}" for each in tlsNotes(pool, now)]
    load = status.get("reload") or {}
    if load.get("file") or load.get("successful") is not None:
        lines.append(f"file          {_reloadText(load, now)}")
        lines += [f"  {plain(each)}" for each in load.get("messages") or ()]
    log = status.get("log") or {}
    if log.get("dropped"):
        lines.append(f"log           {plain(log['dropped'])} lines dropped")
    lag = status.get("loopLag")
    if isinstance(lag, int | float) and lag >= 0.05:
        lines.append(f"loop lag      {lag:.2f}s: this process is busy")
    return lines


def _kept(pool: dict[str, Any]) -> str:
    """
    Say how many clients limits delay, and how many were refused, if there are any.
    """
    delayed, refused = pool.get("delayed"), pool.get("refused")
    numbers = refused.values() if isinstance(refused, dict) else ()
    total = sum(each for each in numbers if isinstance(each, int))
    return (f", {plain(delayed)} delayed" if delayed else "") + (
        f", {total} refused so far" if total else ""
    )


def _reloadText(load: dict[str, Any], now: datetime) -> str:
    file = plain(load.get("file"))
    if load.get("successful") is None:
        return f"{file}, as at the start"
    ago = age(since(load.get("at"), now))
    done = "read" if load["successful"] else "FAILED to reload"
    return f"{file}, {done} {ago} ago"
