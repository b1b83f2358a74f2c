"""
Commands that change what the balancer does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from iawlb.command.calls import (
    DESTINATION,
    DURATION,
    POOL,
    TARGET,
    Call,
    asking,
    findDestination,
    segment,
)
from iawlb.command.failures import CommandError
from iawlb.command.outcome import EVERYTHING, finish, follow, shownTarget

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def timeOption(name: str, default: str | None, text: str) -> Decorator:
    """
    Make an option that takes a duration.
    """
    shown = default is not None
    return click.option(
        name, type=DURATION, default=default, show_default=shown, help=text
    )


NO_WAIT = click.option("--no-wait", is_flag=True, help="Return at once.")
KILL = click.option(
    "--kill", is_flag=True, help="Close the connections that are left at the time-out."
)
DRAIN_TIMEOUT = timeOption(
    "--drain-timeout", "30s", "Longest wait for running connections to finish."
)


@asking("pause")
@click.argument("target", required=False, default=EVERYTHING, type=TARGET)
@timeOption(
    "--max-pause", None, "Longest wait of one client; the queue time-out if less."
)
@DRAIN_TIMEOUT
@timeOption("--for", None, "Resume by itself after this time.")
@NO_WAIT
@KILL
def pauseCommand(
    call: Call,
    target: str,
    max_pause: float | None,
    drain_timeout: float,
    no_wait: bool,
    kill: bool,
    **more: float | None,
) -> int:
    """
    Let new clients of TARGET (all if none is given) wait in their order, and the
    running ones finish. Returns when nothing runs any more, with 3 if connections are
    left at the time-out, and with 4 if another has resumed it meanwhile.
    """
    body = {
        "target": target,
        "maxPause": max_pause,
        "drainTimeout": drain_timeout,
        "for": more["for"],
        "wait": not no_wait,
        "kill": kill,
    }
    wait = 0 if no_wait else drain_timeout
    return follow(call, "/pause", body, target, wait, "paused")


@asking("resume")
@click.argument("target", required=False, default=EVERYTHING, type=TARGET)
@timeOption("--spread", "0s", "Let those that wait in over this time.")
def resumeCommand(call: Call, target: str, spread: float) -> int:
    """
    Serve TARGET (all if none is given) again after a pause, stop or drain.
    """
    answer = call.send("POST", "/resume", {"target": target, "spread": spread})
    return finish(call, answer, f"{shownTarget(target)}: resumed")


@asking("stop")
@click.argument("pool", type=POOL)
def stopCommand(call: Call, pool: str) -> int:
    """
    Refuse new clients of POOL at once; the running ones finish. iawlb resume undoes it.
    """
    answer = call.send("POST", "/stop", {"target": pool})
    return finish(call, answer, f"{pool}: stopped")


@asking("drain")
@click.argument("destination", metavar="DEST", type=DESTINATION)
@timeOption("--timeout", "5m", "Longest wait for its connections to finish.")
@NO_WAIT
@KILL
def drainCommand(
    call: Call, destination: str, timeout: float, no_wait: bool, kill: bool
) -> int:
    """
    Give DEST no more clients, and return when its connections have finished; with 3 if
    some are left at the time-out. iawlb resume undoes it.
    """
    body = {
        "target": destination,
        "timeout": timeout,
        "kill": kill,
        "wait": not no_wait,
    }
    wait, done = (0, "draining") if no_wait else (timeout, "drained")
    return follow(call, "/drain", body, destination, wait, done)


@asking("add")
@click.argument("pool", type=POOL)
@click.argument("address", nargs=-1, required=True)
def addCommand(call: Call, pool: str, address: Sequence[str]) -> int:
    """
    Add a destination to POOL: its address, and what follows that on the command line of
    iawlb run, as in: iawlb add web localhost:9003 name=c slots=4
    """
    body = {"pool": pool, **destinationOf(" ".join(address))}
    answer = call.send("POST", "/destinations", body)
    made = answer.value if isinstance(answer.value, dict) else {}
    name = made.get("name") or body["name"] or body["address"]
    return finish(call, answer, f"{pool}/{name}: added")


def destinationOf(text: str) -> dict[str, Any]:
    """
    Read an address and the settings behind it.

    @raise CommandError: It cannot be read.
    """
    from iawlb.errors import InvalidSetting
    from iawlb.setting import asOption, splitSettings

    try:
        address, given = splitSettings(text)
    except InvalidSetting as error:
        raise CommandError(str(error), 2) from None
    found: dict[str, Any] = {"address": address, "name": None}
    for key, value in given.items():
        found[asOption(key)] = _value(value) if key in ("slots", "weight") else value
    return found


@asking("remove")
@click.argument("destination", metavar="DEST", type=DESTINATION)
@timeOption("--timeout", "5m", "Longest wait for its connections to finish.")
@KILL
def removeCommand(call: Call, destination: str, timeout: float, kill: bool) -> int:
    """
    Drain DEST and remove it; with 3 if connections are left at the time-out.
    """
    pool, name = findDestination(call, destination)
    answer = call.send(
        "DELETE",
        f"/destinations/{segment(pool)}/{segment(name)}",
        query={"timeout": timeout, "kill": "true" if kill else "false"},
        wait=timeout,
    )
    return finish(call, answer, f"{pool}/{name}: removed")


@asking("set")
@click.argument("target", type=TARGET)
@click.argument("settings", metavar="NAME=VALUE...", nargs=-1, required=True)
def setCommand(call: Call, target: str, settings: Sequence[str]) -> int:
    """
    Change settings of a destination or a pool, by their names in the file:
    iawlb set web/a slots=4 weight=2, iawlb set web queue-timeout=10s
    """
    body: dict[str, Any] = {"target": target}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals or not name or name in body:
            right = "given twice" if name in body else "not of the form NAME=VALUE"
            raise CommandError(f"{each!r} is {right}: write slots=4", 2)
        body[name] = _value(value)
    answer = call.send("POST", "/set", body)
    return finish(call, answer, f"{target}: {' '.join(settings)}")


def _value(text: str) -> int | str:
    """
    Read a whole number as a number, and leave anything else as it was written.
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else text


@asking("kill")
@click.argument("session", metavar="ID...", nargs=-1, required=True)
def killCommand(call: Call, session: Sequence[str]) -> int:
    """
    Close the connections of these IDs, as iawlb sessions lists them.
    """
    status = 0
    for each in session:
        answer = call.send("DELETE", f"/sessions/{segment(each)}")
        status = max(status, finish(call, answer, f"{each}: closed"))
    return status


@asking("log")
@click.argument(
    "level", type=click.Choice(["debug", "info", "warn", "error", "critical"])
)
def logCommand(call: Call, level: str) -> int:
    """
    Write operational messages of this level and above from now on.
    """
    answer = call.send("POST", "/log", {"level": level})
    return finish(call, answer, f"messages from {level} on are written")
