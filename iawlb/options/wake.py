"""
The settings about destinations that are started when a client comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iawlb.commandvalidators import wordList
from iawlb.errors import InvalidSetting
from iawlb.setting import Validated, setting
from iawlb.validators import duration, positiveDuration, shaped


@shaped({"const": ""})
def function(value: object) -> Callable[..., Any] | None:
    """
    Read a function of a Python program. Nothing, as L{None} or empty text, is none.

    @raise InvalidSetting: The value is something else.
    """
    if value is None or value == "":
        return None
    if not callable(value):
        raise InvalidSetting(
            f"{value!r} is not a function, and only a Python program can give one"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class DestinationWake(Validated):
    """
    Of a destination.
    """

    __slots__ = ()

    command: tuple[str, ...] = setting(
        "",
        wordList,
        "WORDS",
        "",
        "the program that serves, as a list of words; it is started when a client "
        "waits for it",
        remote=False,
    )
    stopCommand: tuple[str, ...] = setting(
        "",
        wordList,
        "WORDS",
        "",
        "a command that stops what command has started; command itself then has to "
        "end once that runs",
        remote=False,
    )
    ensureRunning: Any = setting(
        "",
        function,
        "FUNCTION",
        "",
        "in Python, called with the destination instead of starting a command; may "
        "return a Deferred or be a coroutine",
        scope="python",
    )
    ensureStopped: Any = setting(
        "",
        function,
        "FUNCTION",
        "",
        "in Python, called likewise to stop what ensureRunning has started",
        scope="python",
    )
    idleTimeout: float = setting(
        0,
        duration,
        "TIME",
        "",
        "time without a client after which it is stopped; 0 is never",
        inherits=False,  # that of a pool ends silent sessions
    )
    wakeTimeout: float = setting(
        "20s",
        positiveDuration,
        "TIME",
        "",
        "longest time from its start until it can be connected to",
    )
    readyAfter: float = setting(
        0,
        duration,
        "TIME",
        "",
        "time from then on until it gets the first client",
    )
    stopTimeout: float = setting(
        "10s",
        positiveDuration,
        "TIME",
        "",
        "longest time that its program may take to end by itself, after which the "
        "program is killed",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.command and self.ensureRunning is not None:
            raise InvalidSetting("command: there is ensureRunning too: give one")
        if self.stopCommand and not self.command:
            raise InvalidSetting("stopCommand: there is no command")
        if self.ensureStopped is not None and self.ensureRunning is None:
            raise InvalidSetting("ensureStopped: there is no ensureRunning")
        if self.idleTimeout and not self.command and self.ensureStopped is None:
            raise InvalidSetting(
                "idleTimeout: a destination's own is the time after which it is "
                "stopped, and there is no command, nor ensureStopped; that of sessions "
                "is a setting of the pool"
            )

    @property
    def sleeps(self) -> bool:
        """
        Whether the destination has to be started before it serves.
        """
        return bool(self.command) or self.ensureRunning is not None
