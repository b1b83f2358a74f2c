"""
Commands that take more than one step at the balancer: deploy, wait and reload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from iawlb.command.calls import POOL, TARGET, Call, asking, items
from iawlb.command.changing import DRAIN_TIMEOUT, destinationOf, timeOption
from iawlb.command.client import Answer
from iawlb.command.failures import ERROR, CommandError, Denied
from iawlb.command.outcome import finish, follow
from iawlb.command.output import columns, complain, say
from iawlb.command.tables import Column, layOut
from iawlb.command.text import plain

RELOAD_LIMIT = 60.0
"""
Longest wait for a reload, in seconds: names are looked up, and addresses bound.
"""

_CHANGES = (
    Column("CHANGE", importance=9),
    Column("SETTING", importance=9, flexible=True),
    Column("BEFORE", importance=5, flexible=True),
    Column("AFTER", importance=8, flexible=True),
)


@asking("deploy")
@click.argument("pool", type=POOL)
@click.option(
    "--dest",
    "destinations",
    metavar="ADDRESS",
    multiple=True,
    required=True,
    help="A new destination, as in iawlb run; may be given several times.",
)
@timeOption("--deploy-timeout", "30s", "Longest wait until the new ones are ready.")
@DRAIN_TIMEOUT
@click.option("--force", is_flag=True, help="Do not wait until the new ones are ready.")
def deployCommand(
    call: Call,
    pool: str,
    destinations: Sequence[str],
    deploy_timeout: float,
    drain_timeout: float,
    force: bool,
) -> int:
    """
    Replace the destinations of POOL: wait until the new ones are ready, let them serve,
    drain the old ones and remove them. If a new one is not ready in time, all is as
    before, and the exit status is 1.
    """
    body = {
        "pool": pool,
        "destinations": [destinationOf(each) for each in destinations],
        "deployTimeout": deploy_timeout,
        "drainTimeout": drain_timeout,
        "force": force,
    }
    wait = deploy_timeout + drain_timeout
    return follow(call, "/deploy", body, pool, wait, "deployed", undone=ERROR)


@asking("wait")
@click.argument("target", metavar="DEST", type=TARGET)
@click.option(
    "--until",
    type=click.Choice(["drained", "up", "removable"]),
    default="drained",
    show_default=True,
    help="What to wait for.",
)
@timeOption("--timeout", "60s", "Longest wait.")
def waitCommand(call: Call, target: str, until: str, timeout: float) -> int:
    """
    Wait until DEST serves no connection (drained), is up, or is paused or draining and
    serves none (removable). Exit status 3 at the time-out.
    """
    body = {"target": target, "until": until, "timeout": timeout}
    return follow(call, "/wait", body, target, timeout, until)


@asking("reload")
@click.option("--diff", is_flag=True, help="Only show what would change.")
def reloadCommand(call: Call, diff: bool) -> int:
    """
    Read the configuration file again and take what has changed. A file with a mistake
    changes nothing: every mistake is printed, and the exit status is 1.
    """
    try:
        answer = call.send("POST", "/reload", {"diff": diff}, wait=RELOAD_LIMIT)
    except Denied as error:
        mistakes = _mistakes(error.body)
        for each in mistakes:
            complain(each)
        if mistakes:
            raise CommandError("nothing was changed") from None
        raise
    changes = [] if call.json else _changes(answer)
    if changes:
        say(*layOut(_CHANGES, changes, columns()))
    if diff:
        done = "these would change" if changes else "nothing would change"
    else:
        done = "reloaded" if changes else "reloaded; nothing has changed"
    return finish(call, answer, done)


def _changes(answer: Answer) -> list[list[str]]:
    (value,) = items([answer.value])
    return [
        [plain(each.get(key)) for key in ("action", "path", "before", "after")]
        for each in items(value.get("changes", []))
    ]


def _mistakes(body: bytes) -> list[str]:
    """
    List the mistakes that the balancer has found in the file.
    """
    import json

    problem: Any = json.loads(body)
    found = problem.get("mistakes") if isinstance(problem, dict) else None
    return [plain(each) for each in found] if isinstance(found, list) else []
