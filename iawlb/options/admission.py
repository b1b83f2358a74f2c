"""
The settings about who may come in, and how many at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.networks import Networks
from iawlb.networkvalidators import masks, networks, rate
from iawlb.setting import Validated, setting
from iawlb.validators import count, flag, oneOf

ADMISSION = "Who may come in; NETWORKS are 10.0.0.0/8,::1, a RATE is 100/s or 20/m"


@dataclass(frozen=True, kw_only=True)
class PoolAdmission(Validated):
    """
    Of a pool.
    """

    __slots__ = ()

    allow: Networks = setting(
        "",
        networks,
        "NETWORKS",
        ADMISSION,
        "the only networks whose clients may come in; without it all may",
    )
    deny: Networks = setting(
        "",
        networks,
        "NETWORKS",
        ADMISSION,
        "networks whose clients may not come in, also if allow has them",
    )
    maxSessions: int = setting(
        0,
        count(0, 10_000_000),
        "N",
        ADMISSION,
        "connections open at a time in a pool, the waiting ones included",
    )
    sessionRate: str = setting(
        0,
        rate,
        "RATE",
        ADMISSION,
        "new connections of a pool in a time",
    )
    maxPerSource: int = setting(
        0,
        count(0, 10_000_000),
        "N",
        ADMISSION,
        "connections open at a time from one source",
    )
    sourceRate: str = setting(
        0,
        rate,
        "RATE",
        ADMISSION,
        "new connections from one source in a time",
    )
    sourceMask: tuple[int, int] = setting(
        "32,56",
        masks,
        "BITS",
        ADMISSION,
        "the bits of an IPv4 and of an IPv6 address that make a source",
    )
    overLimit: str = setting(
        "delay",
        oneOf("delay", "refuse"),
        "WORD",
        ADMISSION,
        "a client beyond these limits waits for its turn, then enters the queue, or "
        "is refused",
    )
    fairness: bool = setting(
        "no",
        flag,
        "",
        ADMISSION,
        "sources take turns in the queue, so that one with many connections does not "
        "keep the others waiting; without this it is first come, first served",
    )

    @property
    def limited(self) -> bool:
        """
        Whether there is a limit of sessions.
        """
        return bool(
            self.maxSessions
            or self.maxPerSource
            or self.sessionRate != "0"
            or self.sourceRate != "0"
        )


@dataclass(frozen=True, kw_only=True)
class ListenerAdmission(Validated):
    """
    Of a listener.
    """

    __slots__ = ()

    priority: int = setting(
        0,
        count(0, 9),
        "N",
        "",
        "its clients are served before those of listeners with a smaller number",
    )
