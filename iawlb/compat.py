"""
All that is used of Twisted and Python without a public name, each with what
happens where it is missing. A test notices when one of them changes.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

Iterate = Callable[[float | None], None]


def epollOf(reactor: Any) -> select.epoll | None:
    """
    Return the epoll object of Twisted's reactor for Linux.

    @return: L{None} for other reactors, or if Twisted has renamed the attribute;
        the socket poller then is one reader of the reactor.
    """
    poller = getattr(reactor, "_poller", None)
    return poller if isinstance(poller, select.epoll) else None


def replaceIteration(reactor: Any, iterate: Iterate) -> Iterate | None:
    """
    Have a reactor's main loop call another function for each of its iterations.
    C{doIteration} is a method that reactors document for those who derive from
    them; that an attribute of one reactor replaces it is not documented.

    @return: The reactor's own function, or L{None} if somebody has replaced it
        already; then nothing is changed.
    """
    if "doIteration" in vars(reactor):
        return None
    own: Iterate = reactor.doIteration
    reactor.doIteration = iterate
    return own


def restoreIteration(reactor: Any) -> None:
    """
    Undo L{replaceIteration}.
    """
    del reactor.doIteration
