"""
The settings about checks, slow start and backups.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.checkvalidators import (
    check,
    escaped,
    expected,
    method,
    place,
    statuses,
)
from iawlb.commandvalidators import commandLine
from iawlb.errors import InvalidSetting
from iawlb.setting import Validated, setting
from iawlb.validators import count, duration, filePath, flag, positiveDuration

HEALTH = "Checks of destinations"


@dataclass(frozen=True, kw_only=True)
class _Both(Validated):
    """
    Of a pool, for all its destinations, and of a destination.
    """

    __slots__ = ()

    # Or a function, in Python.
    healthCheck: str = setting(
        "off",
        check,
        "CHECK",
        HEALTH,
        "how each destination is checked while it is up, too: off, tcp, tls, "
        "http:/path, https:/path, send, postgresql:USER, redis, agent or command",
    )
    checkAddress: str = setting(
        "",
        place,
        "ADDRESS",
        HEALTH,
        "port, or address, that checks connect to instead of the destination's",
    )
    checkInterval: float = setting(
        "2s",
        positiveDuration,
        "TIME",
        HEALTH,
        "time between two checks of a destination that is well, with jitter",
    )
    checkFast: float = setting(
        "500ms",
        positiveDuration,
        "TIME",
        HEALTH,
        "the same while rise or fall are being counted",
    )
    checkDown: float = setting(
        "1s",
        positiveDuration,
        "TIME",
        HEALTH,
        "the same while the destination is down; at most 200ms while clients wait and "
        "nothing is up",
    )
    checkTimeout: float = setting(
        "2s",
        positiveDuration,
        "TIME",
        HEALTH,
        "longest check, its connect included",
    )
    rise: int = setting(
        2,
        count(1, 100),
        "N",
        HEALTH,
        "checks that have to succeed in a row for a destination to come up",
    )
    fall: int = setting(
        3,
        count(1, 100),
        "N",
        HEALTH,
        "checks that have to fail in a row for a destination to go down",
    )
    checkMethod: str = setting("GET", method, "WORD", HEALTH, "method of an HTTP check")
    checkStatus: tuple[str, ...] = setting(
        "2xx,3xx",
        statuses,
        "STATUSES",
        HEALTH,
        "statuses with which an HTTP check succeeds, such as 200,3xx",
    )
    checkSend: str = setting(
        "",
        escaped,
        "TEXT",
        HEALTH,
        r"what a send check sends, with \r, \n, \t, \s, \\ and \xff",
    )
    checkExpect: str = setting(
        "",
        expected,
        "TEXT",
        HEALTH,
        "what the answer to it has to hold: text, or re: and a regular expression; "
        "without this any byte",
    )
    checkCommand: tuple[str, ...] = setting(
        "",
        commandLine,
        "COMMAND",
        HEALTH,
        "program that a command check runs, with its arguments; it succeeds with "
        "status 0",
        remote=False,
    )
    checkPasswordFile: str = setting(
        "",
        filePath,
        "FILE",
        HEALTH,
        "file with the password for a redis check, alone or behind a user and a space",
        remote=False,
    )
    agent: str = setting(
        "",
        place,
        "ADDRESS",
        HEALTH,
        "port, or address, of an agent that says in words how much the destination "
        "takes: up, down, drain, 75%, maxconn:10, as HAProxy's agent-check",
    )
    ejectAfter: int = setting(
        0,
        count(0, 1000),
        "N",
        HEALTH,
        "connections in a row that a destination closes within 50ms, without a byte, "
        "after which it is down for a while; 0 is never",
    )
    slowStart: float = setting(
        0,
        duration,
        "TIME",
        HEALTH,
        "time over which the slots of a destination grow that was down",
    )
    endOnDown: bool = setting(
        "no",
        flag,
        "",
        HEALTH,
        "end the connections of a destination that goes down",
    )


@dataclass(frozen=True, kw_only=True)
class PoolHealth(_Both):
    """
    Of a pool.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class DestinationHealth(_Both):
    """
    Of a destination.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.healthCheck == "command" and not self.checkCommand:
            raise InvalidSetting(
                "healthCheck: command needs a program: set check-command too"
            )

    backup: bool = setting(
        "no",
        flag,
        "",
        "",
        "it takes connections only while all that are no backups take none",
    )
