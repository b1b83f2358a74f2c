"""
L{EventLog}, the observer that writes log lines for people.
"""

from __future__ import annotations

from twisted.logger import Logger
from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_CHANGED,
    DESTINATION_DOWN,
    DESTINATION_WITHDRAWN,
    LISTENER_LISTENING,
    LISTENER_REFUSING,
    POOL_ADDED,
    SESSION_ENDED,
    IObserver,
    IPoolObserver,
)
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.observe.formats import TextFormat, twistedStart
from iawlb.observe.writer import LogWriter


@implementer(IObserver, IPoolObserver)
class EventLog:
    """
    An observer that writes one line for each ended session, and one for each change of
    a destination or listener. They go to Twisted's logger. That takes longer for a line
    than the kernel for a connection, so the lines of sessions can go to a writer
    instead.

    @ivar errorsOnly: Whether sessions that both sides closed get no line.
    @ivar writer: Receives the lines of sessions; L{None} for Twisted's logger.
    """

    log = Logger()
    endsOnly = True

    def __init__(
        self, errorsOnly: bool = False, writer: LogWriter | None = None
    ) -> None:
        self.errorsOnly = errorsOnly
        self.writer = writer
        self._text = TextFormat(twistedStart())

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Write a line if a session has ended.
        """
        if event != SESSION_ENDED or session.outcome is None or session.ended is None:
            return
        if self.errorsOnly and session.outcome is Outcome.DONE:
            return
        if self.writer is not None:
            self.writer.write(self._text(session, session.ended, "end"))
            return
        pulled = session.ended if session.pulled is None else session.pulled
        connect = (
            0.0
            if session.connected is None or session.pulled is None
            else session.connected - session.pulled
        )
        self.log.info(
            "{client} to {destination}: {text} ({code}), waited {waited:.3f} s, "
            "connect {connect:.3f} s, total {total:.3f} s, {bytesIn} bytes in, "
            "{bytesOut} out, tries {tries}, {listener}",
            client=session.client,
            destination=session.destination or "nobody",
            text=session.outcome.text,
            code=session.outcome.code,
            waited=pulled - session.accepted,
            connect=connect,
            total=session.ended - session.accepted,
            bytesIn=session.bytesIn,
            bytesOut=session.bytesOut,
            tries=session.tries,
            listener=session.listener,
        )

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Write a line about a destination's change.
        """
        if event in (DESTINATION_DOWN, DESTINATION_WITHDRAWN):
            self.log.warn(
                "destination {destination} is {event}: {why}",
                event=event,
                destination=destination.name,
                why=destination.why,
            )
        elif event == DESTINATION_CHANGED:
            self.log.info(
                "destination {destination} has slots {slots}, weight {weight}",
                destination=destination.name,
                slots=destination.slots,
                weight=destination.settings.weight,
            )
        else:
            self.log.info(
                "destination {destination} is {event} ({address})",
                destination=destination.name,
                event=event,
                address=destination.address,
            )

    def poolChanged(self, pool: str, event: str, by: str) -> None:
        """
        Write a line about a pool's change.
        """
        if event != POOL_ADDED:
            self.log.info(
                "pool {pool} is {event} by {by}" if by else "pool {pool} is {event}",
                pool=pool,
                event=event,
                by=by,
            )

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Write a line about a listener's change.
        """
        texts = {
            LISTENER_LISTENING: "listening on {address} ({listener})",
            LISTENER_REFUSING: "refusing connections on {address} ({listener})",
        }
        self.log.info(
            texts.get(event, "closed {address} ({listener})"),
            address=address,
            listener=name,
        )
