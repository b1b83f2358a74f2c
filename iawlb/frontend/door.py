"""
The door of a pool: who may come in, and who waits outside until limits allow more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.interfaces import IAddress, IReactorTime

from iawlb.core.origin import PoolCount
from iawlb.core.outcome import Outcome
from iawlb.core.sessionlimits import Limits, Over
from iawlb.core.table import SessionTable
from iawlb.core.turnstile import Turnstile
from iawlb.frontend.refusals import DENIED, Refusals
from iawlb.frontend.steps import Arriving, Step
from iawlb.networks import packedAddress
from iawlb.proxyvalidators import Trusted
from iawlb.settings import ListenerSettings, Settings

Guard: TypeAlias = Callable[[IAddress | None], bool]
"""
Returns whether a client may come in, before it has a session.
"""

REASONS = (DENIED, *(each.word for each in Over))
"""
The words for the reasons for which clients are refused.
"""


class Door:
    """
    The networks that may come in, and the limits of sessions. What applies is decided
    when the pool is configured: a pool without such settings has neither a guard nor a
    step.

    Allow and deny are asked before the client has a session. A peer that is trusted to
    send a PROXY header is a proxy: only deny is asked about it, since the user has
    named it already, and both about the client that the header names.

    @ivar refusals: Those who were refused.
    @ivar turnstile: Keeps the limits, or L{None} while there were none yet.
    """

    def __init__(
        self,
        clock: IReactorTime,
        settings: Settings,
        count: PoolCount,
        table: SessionTable,
        full: Callable[[], bool],
    ) -> None:
        """
        @param count: The counts of the pool.
        @param full: Returns whether the queue takes no more.
        """
        self.refusals = Refusals(clock, count.name, REASONS)
        self.turnstile: Turnstile | None = None
        self._clock = clock
        self._settings = settings
        self._count = count
        self._table = table
        self._full = full
        self.configure()

    @property
    def delayed(self) -> int:
        """
        The number of clients that limits delay now.
        """
        return 0 if self.turnstile is None else self.turnstile.delayed

    @property
    def delays(self) -> int:
        """
        The number of clients that limits have delayed so far.
        """
        return 0 if self.turnstile is None else self.turnstile.delays

    @property
    def sources(self) -> int:
        """
        The number of sources that are counted now.
        """
        return 0 if self.turnstile is None else len(self.turnstile.sources)

    def configure(self) -> None:
        """
        Use the settings as they are now.
        """
        settings = self._settings
        if not settings.limited and self.turnstile is None:
            return
        limits = Limits.of(settings, self._table.limit)
        if self.turnstile is None:
            self.turnstile = Turnstile(
                self._clock, limits, self._full, self._table.whenEnded
            )
        else:
            self.turnstile.configure(limits)
        if settings.limited:
            # Those that came before there were limits count too.
            count = self._count
            self.turnstile.count(
                each for each in self._table if each.origin.pool is count
            )

    def guard(self, listener: ListenerSettings) -> Guard | None:
        """
        Return the function that is asked about a listener's clients before they have a
        session, or L{None} if nobody needs to be asked.
        """
        settings = self._settings
        if not (settings.allow or settings.deny or self._refuses):
            return None
        if not listener.acceptProxy:
            return self._mayComeIn
        trusts = Trusted(listener.acceptProxy).trusts

        def mayComeIn(address: IAddress | None) -> bool:
            if trusts(address):
                return self.allows(address, denyAlone=True)
            return self._mayComeIn(address)

        return mayComeIn

    def steps(self, listener: ListenerSettings) -> list[Step]:
        """
        Return the step that a listener's clients have to take, if there is one.
        """
        settings = self._settings
        listed = bool(listener.acceptProxy and (settings.allow or settings.deny))
        if listed or settings.limited:
            return [_Admit(self, listed, settings.queueTimeout)]
        return []

    @property
    def _refuses(self) -> bool:
        return self._settings.limited and self._settings.overLimit == "refuse"

    def _mayComeIn(self, address: IAddress | None) -> bool:
        """
        Return whether a client may come in, and count it if not.
        """
        if not self.allows(address):
            return False
        if self._refuses and self.turnstile is not None:
            over = self.turnstile.over(address)
            if over is not None:
                self.refuse(over, address)
                return False
        return True

    def allows(self, address: IAddress | None, denyAlone: bool = False) -> bool:
        """
        Return whether allow and deny let a client in, and count it if not. A client
        without an IP address, such as one of a Unix socket, is let in: its socket has
        modes.
        """
        settings = self._settings
        found = packedAddress(address)
        if found is None:
            return True
        if settings.deny.covers(found):
            why = "deny has its address"
        elif settings.allow and not denyAlone and not settings.allow.covers(found):
            why = "allow does not have its address"
        else:
            return True
        self.refusals.add(DENIED, why, address, settings.sourceMask)
        return False

    def refuse(self, over: Over, address: IAddress | None) -> None:
        """
        Count a client that is refused over a limit.
        """
        self.refusals.add(over.word, over.text, address, self._settings.sourceMask)

    def stop(self) -> None:
        """
        Stop all timers.
        """
        self.refusals.stop()
        if self.turnstile is not None:
            self.turnstile.stop()


class _Admit(Step):
    """
    Lets a client in that has a session already: as the limits allow, and if its own
    address may come in, where that is known only now.
    """

    late = Outcome.DELAY_TIMEOUT
    gone = Outcome.CLIENT_LEFT_DELAYED
    state = "delayed"

    def __init__(self, door: Door, listed: bool, timeout: float) -> None:
        """
        @param listed: Whether allow and deny have to be asked about clients that a
            PROXY header names.
        @param timeout: How long a client may be delayed, in seconds; 0 is no limit.
        """
        super().__init__(timeout)
        self._door = door
        self._listed = listed

    def begin(self, arrival: Arriving) -> None:
        """
        Let the client in, now or when the limits allow it, or refuse it.
        """
        door, session = self._door, arrival.session
        # Without a header the address is that of the peer, which was asked for.
        named = session.info is not None and session.info.peer is not None
        if self._listed and named and not door.allows(session.address):
            arrival.refuse(Outcome.REFUSED)
            return
        if door.turnstile is None:
            arrival.proceed()
            return
        over = door.turnstile.enter(session, arrival.proceed)
        if over is not None:
            door.refuse(over, session.address)
            arrival.refuse(Outcome.LIMITED)

    def cancel(self, arrival: Arriving) -> None:
        """
        Forget a client that has left, or was closed, while it was delayed.
        """
        if self._door.turnstile is not None:
            self._door.turnstile.leave(arrival.session)
