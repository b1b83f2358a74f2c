"""
L{Running}: what runs beside the balancer of a process, from the start to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from iawlb.admin.metricsserver import MOST_CONNECTIONS
from iawlb.admin.place import readPlace
from iawlb.admin.sources import LastReload
from iawlb.balancer import Balancer
from iawlb.config.model import Configuration
from iawlb.process.administration import Administration
from iawlb.process.logs import Logs
from iawlb.process.metering import Metering
from iawlb.process.reloading import Reloading
from iawlb.processsettings import ProcessSettings


class Running:
    """
    The admin server, the metrics, the reloads and the state file. The servers listen
    before the balancer does, and close after it: it can be watched while it drains.
    Their connections are no sessions: they have no slot, are in no queue, and no drain
    waits for them.

    @ivar metering: Counts and measures; L{None} if nobody can ask.
    @ivar administration: The admin server, or L{None}.
    @ivar reloading: Reloads, and keeps the state file.
    """

    def __init__(
        self,
        reactor: Any,
        balancer: Balancer,
        settings: ProcessSettings,
        configuration: Configuration,
        logs: Logs,
        *,
        usual: bool,
        read: Callable[[], Configuration] | None = None,
    ) -> None:
        """
        @param configuration: What the balancer was built from.
        @param usual: Whether the admin address is the usual place.
        @param read: Reads the configuration file again; L{None} if there is none.
        @raise InvalidSetting: A setting is wrong.
        """
        self.metering: Metering | None = None
        self.administration: Administration | None = None
        if settings.metrics or settings.admin:
            self.metering = Metering(
                reactor, balancer, lambda: logs.dropped, settings.metrics
            )
        if settings.metrics:
            balancer.keepFiles(MOST_CONNECTIONS)
        self.reloading = Reloading(reactor, balancer, configuration, read, logs)
        reloader = self.reloading.reloader
        if settings.admin and self.metering is not None:
            self.administration = Administration(
                reactor,
                balancer,
                settings.adminTokens,
                readPlace("admin", settings.admin, usual),
                logs,
                self.metering,
                reloader,
            )
        if self.metering is not None:
            self.metering.sources.reload = lambda: LastReload(
                reloader.last["successful"] is not False, reloader.succeededAt
            )

    def open(self, owner: int | None = None) -> None:
        """
        Bind, while the process has its privileges.

        @param owner: The number of the user that the process becomes after this.
        @raise CannotListen: That is not possible.
        """
        self.reloading.open()
        if self.administration is not None:
            self.administration.open(owner)
        if self.metering is not None:
            self.metering.open()

    def start(self) -> None:
        """
        Begin to serve.
        """
        if self.metering is not None:
            self.metering.start()
        if self.administration is not None:
            self.administration.start()
        self.reloading.start()

    def stopping(self) -> None:
        """
        Tell those who watch that the balancer drains from now on.
        """
        if self.administration is not None:
            self.administration.stopping()

    def stop(self) -> Deferred[Any]:
        """
        Stop serving, now that the balancer has stopped or has not started.
        """
        parts = (self.administration, self.metering)
        stops = [each.stop() for each in parts if each is not None]
        return gatherResults([ensureDeferred(self.reloading.stop()), *stops])
