"""
Commands that show what the balancer does.
"""

from __future__ import annotations

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
from iawlb.command.client import LIMIT
from iawlb.command.failures import ERROR, CommandError, Denied
from iawlb.command.output import columns, painter, say, sayJson
from iawlb.command.tables import Column, layOut
from iawlb.command.text import age, number, plain, size
from iawlb.command.wording import poolNotes, poolRows, statusLines, timeOf

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
