"""
What became of a change: what is printed, and the exit status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iawlb.command.calls import Call, items
from iawlb.command.client import Answer
from iawlb.command.failures import DONE, ERROR, INTERRUPTED, LEFT, UNDONE, CommandError
from iawlb.command.output import Progress, complain, say, sayJson
from iawlb.command.text import clock, plain

STATUS = {"done": DONE, "left": LEFT, "undone": UNDONE, "failed": ERROR}

EVERYTHING = "*"

LOOK = 2.0
"""
Longest wait for what is shown beside the answer, in seconds.
"""


def finish(call: Call, answer: Answer, done: str, undone: int = UNDONE) -> int:
    """
    Print what became of a change.

    @param done: What to print if the change is made, before the balancer's messages.
    @param undone: The exit status if the change was undone.
    @return: The exit status.
    """
    value = answer.value if isinstance(answer.value, dict) else {}
    result = value.get("result", "done")
    if not isinstance(result, str):
        result = plain(result)
    status = undone if result == "undone" else STATUS.get(result, ERROR)
    if call.json:
        sayJson(answer.body)
        return status
    given = value.get("messages")
    messages = [plain(each) for each in given] if isinstance(given, list) else []
    if status == DONE:
        say(plain(done), *messages)
        return status
    for each in messages or [_otherwise(result, value.get("left"))]:
        complain(each)
    return status


def _otherwise(result: str, left: Any) -> str:
    if result == "left":
        return f"timed out with {_connections(left)} left" if left else "timed out"
    return "undone by another" if result == "undone" else f"the result is {result}"


def _connections(count: Any) -> str:
    return f"{plain(count)} connection{'' if count == 1 else 's'}"


def follow(
    call: Call,
    path: str,
    body: Mapping[str, Any],
    target: str,
    wait: float,
    done: str,
    undone: int = UNDONE,
) -> int:
    """
    Ask for a change that takes time. On a terminal a line says how many connections
    are left. An interrupt says what the balancer goes on with.

    @param wait: How long the balancer may take, in seconds.
    @param done: The word for the change.
    @return: The exit status.
    @raise CommandError: It failed, or was interrupted.
    """
    progress = Progress()

    def show() -> None:
        if progress.wanted:
            left = _activeOf(call, target)
            if left is not None:
                progress.show(f"{shownTarget(target)}: {_connections(left)} left")

    try:
        answer = call.send("POST", path, body, wait=wait, idle=show)
    except KeyboardInterrupt:
        progress.clear()
        raise CommandError(_whatIsLeft(call, target), INTERRUPTED) from None
    finally:
        progress.clear()
    return finish(call, answer, f"{shownTarget(target)}: {done}", undone)


def shownTarget(target: str) -> str:
    """
    Write a target for people.
    """
    return "all" if target == EVERYTHING else plain(target)


def _look(call: Call, target: str) -> list[tuple[str, dict[str, Any]]]:
    """
    Return what a target names now, as pairs of a full name and a pool or destination.
    """
    pools = items(call.client.ask("GET", "/pools", limit=LOOK).value)
    found = []
    for pool in pools:
        name = str(pool.get("name"))
        if target in (EVERYTHING, name):
            found.append((name, pool))
        for each in items(pool.get("destinations", [])):
            full = f"{name}/{each.get('name')}"
            if target in (full, each.get("name")):
                found.append((full, each))
    return found


def _activeOf(call: Call, target: str) -> int | None:
    """
    Count the connections that a target still serves, if the balancer says so soon.
    """
    try:
        return sum(int(each.get("active", 0)) for _, each in _look(call, target))
    except (CommandError, TypeError, ValueError):
        return None


def _whatIsLeft(call: Call, target: str) -> str:
    """
    Say in which state an interrupted change has left its target.
    """
    try:
        found = _look(call, target)
    except (CommandError, KeyboardInterrupt):
        return f"interrupted; iawlb list shows the state of {shownTarget(target)}"
    said = [f"{name} {_state(each)}" for name, each in found[:5]]
    if len(found) > 5:
        said.append(f"and {len(found) - 5} more")
    held = [each.get("state") not in ("up", "down") for _, each in found]
    argument = "" if target == EVERYTHING else f" {target}"
    undo = f"; iawlb resume{argument} undoes it" if any(held) else ""
    return f"interrupted: {', '.join(said) or 'nothing is left'}{undo}"


def _state(each: Mapping[str, Any]) -> str:
    text = f"is {plain(each.get('state'))}"
    paused = each.get("paused")
    if isinstance(paused, dict):
        until = paused.get("until")
        text += f" until {clock(until)}" if until else " until it is resumed"
    active = each.get("active")
    if active:
        text += f" with {_connections(active)} left"
    return text
