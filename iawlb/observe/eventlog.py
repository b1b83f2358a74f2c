"""
An observer that writes log lines for people.
"""

from __future__ import annotations

from twisted.logger import Logger
from zope.interface import implementer

from iawlb.core.destination import Destination
from iawlb.core.events import (
    DESTINATION_DOWN,
    LISTENER_LISTENING,
    LISTENER_REFUSING,
    SESSION_ENDED,
    IObserver,
)
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session


@implementer(IObserver)
class EventLog:
    """
    One line for each ended session, and one for each change of a destination or
    listener.
    """

    log = Logger()

    def __init__(self, errorsOnly: bool = False) -> None:
        """
        @param errorsOnly: Whether sessions that both sides closed get no line.
        """
        self._errorsOnly = errorsOnly

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Write how a session ended.
        """
        if event != SESSION_ENDED or session.outcome is None or session.ended is None:
            return
        if self._errorsOnly and session.outcome is Outcome.DONE:
            return
        pulled = session.ended if session.pulled is None else session.pulled
        waited = pulled - session.accepted
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
            waited=waited,
            connect=connect,
            total=session.ended - session.accepted,
            bytesIn=session.bytesIn,
            bytesOut=session.bytesOut,
            tries=session.tries,
            listener=session.listener,
        )

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Write how a destination changed.
        """
        if event == DESTINATION_DOWN:
            self.log.warn(
                "destination {destination} is down: {why}",
                destination=destination.name,
                why=destination.down,
            )
        else:
            self.log.info(
                "destination {destination} is {event} ({address})",
                destination=destination.name,
                event=event,
                address=destination.address,
            )

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Write how a listener changed.
        """
        texts = {
            LISTENER_LISTENING: "listening on {address} ({listener})",
            LISTENER_REFUSING: "refusing connections on {address} ({listener}): "
            "no destination is up",
        }
        self.log.info(
            texts.get(event, "closed {address} ({listener})"),
            address=address,
            listener=name,
        )
