"""
Keeps what was changed while the balancer runs in the state file, and restores it at the
next start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import time
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from iawlb.balancer import Balancer
from iawlb.config.model import Configuration
from iawlb.control.overlay import differences
from iawlb.control.restore import Restorer, Superseded
from iawlb.control.statefile import (
    BadState,
    Times,
    entryOf,
    readState,
    setAside,
    textOf,
    writeState,
)
from iawlb.core.destination import Destination
from iawlb.core.events import DESTINATION_DOWN, DESTINATION_UP, IObserver
from iawlb.core.session import Session
from iawlb.errors import IawlbError
from iawlb.observe.moments import isoTime

LATEST = 1.0
"""
How long after a change the file is written, in seconds. It is not written more often.
"""

RETRY = 30.0
"""
How long after the file could not be written it is tried again, in seconds.
"""

Write = Callable[[Callable[[], None]], Deferred[None]]


@implementer(IObserver)
class Keeper:
    """
    Writes the state file soon after each change, in a thread, so that a slow disk does
    not stop the traffic; and once more when the balancer stops.

    @ivar sessions: This observer wants no events of sessions.
    """

    log = Logger()
    sessions = False

    def __init__(
        self,
        balancer: Balancer,
        running: Callable[[], Configuration],
        path: str,
        inThread: Write = deferToThread,
        now: Callable[[], float] = time,
    ) -> None:
        """
        @param running: Returns the configuration that the balancer has.
        @param path: The state file.
        @param inThread: Calls a function outside of the reactor's thread.
        @param now: Returns the time of day.
        """
        self._balancer = balancer
        self._running = running
        self._path = path
        self._inThread = inThread
        self._now = now
        self._timer: IDelayedCall | None = None
        # The write that is under way.
        self._writing: Deferred[None] | None = None
        self._started = False
        # The entries that are in the file.
        self._written: str | None = None
        self._failure = ""

    # At the start.

    def restore(self) -> None:
        """
        Read the file, and make the changes again that it has. Call this before the
        balancer is started. A file that cannot be read is put aside, and an entry that
        cannot is left out.
        """
        try:
            self._restore()
        except FileNotFoundError:
            return  # the first start
        except OSError as error:
            self.log.error(
                "cannot read the state file {path}: {why}; starting without it",
                path=self._path,
                why=error.strerror or error,
            )
        except BadState as error:
            self._putAside(str(error))

    def _restore(self) -> None:
        times = self._times()
        restorer = Restorer(
            self._balancer, self._running(), self._balancer.clock.seconds()
        )
        for each in readState(self._path, times):
            if isinstance(each, str):
                self.log.error("{path}: {why}", path=self._path, why=each)
                continue
            difference, address = each
            try:
                restorer.restore(difference, address)
            except Superseded as error:
                self.log.info(
                    "{path} is not restored: {why}", path=difference.path, why=error
                )
            except IawlbError as error:
                self.log.error(
                    "{path} cannot be restored: {why}", path=difference.path, why=error
                )
            else:
                runtime = entryOf(difference, None, times)["runtime"]
                self.log.info(
                    "{path} is restored: {value}",
                    path=difference.path,
                    value=json.dumps(runtime),
                )

    def _putAside(self, why: str) -> None:
        try:
            aside = f"it is kept as {setAside(self._path)}"
        except OSError as error:
            aside = f"it cannot be renamed: {error.strerror}"
        self.log.error(
            "the state file {path} cannot be used, {why}; {aside}",
            path=self._path,
            why=why,
            aside=aside,
        )

    def _times(self) -> Times:
        return Times(self._balancer.clock.seconds(), self._now())

    # While the balancer runs.

    def start(self) -> None:
        """
        Begin to follow the balancer.
        """
        self._started = True
        self._balancer.observe(self)
        self.changed()

    def changed(self) -> None:
        """
        Called when something may have changed.
        """
        if self._started and self._timer is None:
            self._timer = self._balancer.clock.callLater(LATEST, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._writing is None:
            self._write(self._inThread)
        else:
            self.changed()  # a slow disk

    def _write(self, call: Write) -> Deferred[None]:
        """
        Write the file, if it would be another one.
        """
        entries = textOf(self._entries())
        if entries == self._written:
            return succeed(None)
        when = isoTime(self._now())
        writing = call(lambda: writeState(self._path, entries, when))
        self._writing = writing

        def done(_: None) -> None:
            self._written = entries
            if self._failure:
                self.log.info("{path} is written again", path=self._path)
            self._failure = ""

        def failed(failure: Any) -> None:
            failure.trap(OSError)
            why = failure.value.strerror or str(failure.value)
            if why != self._failure:
                self._failure = why
                self.log.error(
                    "cannot write the state file {path}: {why}; what is changed now "
                    "may be lost at the next start",
                    path=self._path,
                    why=why,
                )
            if self._started and self._timer is None:
                self._timer = self._balancer.clock.callLater(RETRY, self._due)

        def over(_: object) -> None:
            self._writing = None

        return writing.addCallbacks(done, failed).addBoth(over)

    def _entries(self) -> list[Any]:
        times = self._times()
        entries = []
        for each in differences(self._balancer, self._running()):
            address = None
            if each.destination is not None:
                worker = self._balancer.pools[each.pool].workers.get(each.destination)
                address = worker.destination.address if worker is not None else None
            entries.append(entryOf(each, address, times))
        return entries

    async def stop(self) -> None:
        """
        Stop following, and write the file once more if that is needed.
        """
        if not self._started:
            return
        self._started = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._writing is not None:
            waiting: Deferred[None] = Deferred()
            self._writing.addBoth(lambda _: waiting.callback(None))
            await waiting
        await self._write(self._inThread)

    # What it observes.

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Do nothing; this is not called.
        """

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Called when a destination has changed.
        """
        if event not in (DESTINATION_UP, DESTINATION_DOWN):
            self.changed()

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Do nothing.
        """

    def poolChanged(self, pool: str, event: str, by: str) -> None:
        """
        Called when a pool has changed.
        """
        self.changed()
