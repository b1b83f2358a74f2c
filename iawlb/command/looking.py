"""
Commands that show what the balancer does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import click

from iawlb.command.calls import (
    DESTINATION,
    DURATION,
    POOL,
    Call,
    asking,
    clientOf,
    items,
    segment,
)
from iawlb.command.client import LIMIT, Answer
from iawlb.command.failures import ERROR, CommandError, Denied
from iawlb.command.output import columns, painter, say, sayJson
from iawlb.command.tables import Column, layOut
from iawlb.command.text import age, briefly, number, plain, since, size
from iawlb.command.tlsnotes import tlsNotes

_LIST = (
    Column("POOL", importance=9, flexible=True),
    Column("DESTINATION", importance=9, flexible=True),
    Column("STATE", importance=9),
    Column("SINCE", right=True, importance=4),
    Column("ACTIVE/SLOTS", right=True, importance=7),
    Column("WAITING", right=True, importance=6),
    Column("MAXWAIT", right=True, importance=5),
    Column("WEIGHT", right=True, importance=1),
    Column("SERVED", right=True, importance=2),
    Column("ANSWER", right=True, importance=3, optional=True),
    Column("ADDRESS", importance=0, flexible=True),
)

_SESSIONS = (
    Column("ID", right=True, importance=9),
    Column("POOL", importance=3, flexible=True),
    Column("CLIENT", importance=8, flexible=True),
    Column("DESTINATION", importance=7, flexible=True),
    Column("STATE", importance=6),
    Column("AGE", right=True, importance=8),
    Column("WAITED", right=True, importance=5),
    Column("IDLE", right=True, importance=4),
    Column("IN", right=True, importance=2),
    Column("OUT", right=True, importance=2),
    Column("TRIES", right=True, importance=1),
)

_CONFIG = (
    Column("SETTING", importance=9, flexible=True),
    Column("VALUE", importance=8, flexible=True),
    Column("DEFAULT", importance=2, flexible=True),
    Column("FROM", importance=3, flexible=True),
    Column("LIVE", importance=1),
)

_DIFFERENCES = (
    Column("SETTING", importance=9, flexible=True),
    Column("FILE", importance=8, flexible=True),
    Column("RUNNING", importance=8, flexible=True),
)

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
    List a check that has failed while the destination is up, and slots that are fewer
    than those that are set.
    """
    found = destination.get("check") or {"passed": True}
    if not found.get("passed") and not destination.get("why"):
        why = plain(found.get("why"))[:LONGEST_WHY]
        yield f"{name}: a check failed {age(since(found.get('at'), now))} ago: {why}"
    limit = destination.get("limit")
    if limit and limit != destination.get("slots"):
        yield f"{name}: takes {number(limit)} at a time for now"


@asking("list")
@click.argument("pool", required=False, type=POOL)
def listCommand(call: Call, pool: str | None) -> None:
    """
    List pools and destinations: state and for how long, slots taken, clients that
    wait, and how long the oldest has waited. A star marks what is not as in the file.
    """
    path = "/pools" if pool is None else f"/pools/{segment(pool)}"
    answer = call.send("GET", path)
    if call.json:
        return sayJson(answer.body)
    pools = items(answer.value if pool is None else [answer.value])
    now = timeOf(answer)
    say(*layOut(_LIST, poolRows(pools, now), columns(), painter()))
    notes = poolNotes(pools, now)
    if notes:
        say("", *notes)
    return None


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


@asking("status")
def statusCommand(call: Call) -> None:
    """
    Show whether the balancer is well.
    """
    answer = call.send("GET", "/status")
    if call.json:
        return sayJson(answer.body)
    (status,) = items([answer.value])
    say(*statusLines(status, timeOf(answer)))
    return None


def sessionRows(sessions: list[dict[str, Any]]) -> list[list[str]]:
    """
    Make the rows of sessions.
    """
    return [
        [
            plain(each.get("id")),
            plain(each.get("pool")),
            plain(each.get("client")),
            plain(each.get("destination")),
            plain(each.get("state")),
            age(each.get("age")),
            age(each.get("waited")),
            age(each.get("idle")),
            size(each.get("bytesIn")),
            size(each.get("bytesOut")),
            number(each.get("tries")),
        ]
        for each in sessions
    ]


@asking("sessions")
@click.option("--older", type=DURATION, help="Only those at least this old.")
@click.option("--dest", "destination", type=DESTINATION, help="Only those of it.")
@click.option("--pool", type=POOL, help="Only those of it.")
@click.option("--waiting", is_flag=True, help="Only those that wait.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="How many to show.",
)
def sessionsCommand(
    call: Call,
    older: float | None,
    destination: str | None,
    pool: str | None,
    waiting: bool,
    limit: int,
) -> None:
    """
    List client connections, the oldest first.
    """
    value = call.get(
        "/sessions",
        {
            "older": older,
            "destination": destination,
            "pool": pool,
            "waiting": "true" if waiting else None,
            "limit": limit,
        },
    )
    if value is None:
        return
    (value,) = items([value])
    sessions = items(value.get("sessions"))
    say(*layOut(_SESSIONS, sessionRows(sessions), columns()))
    if value.get("truncated"):
        say(f"({len(sessions)} of {plain(value.get('total'))}: --limit shows more)")


@asking("config")
@click.option("--all", "every", is_flag=True, help="Also those that are as by default.")
def configCommand(call: Call, every: bool) -> None:
    """
    Show the settings that are not as by default, where each comes from, whether it can
    be changed while the balancer runs, and what differs from the file.
    """
    value = call.get("/config")
    if value is None:
        return
    (value,) = items([value])
    rows = [
        [
            plain(each.get("path")),
            plain(each.get("value")),
            plain(each.get("default")),
            plain(each.get("origin")),
            plain(each.get("live")),
        ]
        for each in items(value.get("settings"))
        if every or each.get("origin") != "default"
    ]
    say(f"file: {plain(value.get('file'))}", *layOut(_CONFIG, rows, columns()))
    differences = [
        [plain(each.get("path")), plain(each.get("file")), plain(each.get("runtime"))]
        for each in items(value.get("differences", []))
    ]
    if differences:
        say("", "Not as in the file:", *layOut(_DIFFERENCES, differences, columns()))


@click.command("healthcheck")
@click.option("--ready", is_flag=True, help="Whether it serves new clients, too.")
@click.option("--timeout", type=DURATION, default="5s", show_default=True)
@click.option("--admin", metavar="ADDRESS", help="Where the balancer is.")
@click.option("--token-file", metavar="FILE", help="The token's file.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
@click.pass_context
def healthcheckCommand(
    ctx: click.Context,
    ready: bool,
    timeout: float,
    admin: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """
    Exit with 0 if the balancer lives, and with 1 in every other case, as Docker's
    HEALTHCHECK asks for.
    """
    try:
        client = clientOf(ctx, admin, token_file)
        path = "/ready" if ready else "/live"
        answer = client.ask("GET", path, limit=timeout or LIMIT)
    except CommandError as error:
        if as_json and isinstance(error, Denied):
            sayJson(error.body)
        raise CommandError(str(error), ERROR) from None
    if as_json:
        sayJson(answer.body)
    else:
        say("ready" if ready else "live")
