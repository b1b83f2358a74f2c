"""
The worker of a destination that sleeps while no client needs it.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from iawlb.backend.connector import DestinationConnector
from iawlb.core.destination import Destination
from iawlb.health.verdict import Check
from iawlb.settings import DestinationSettings
from iawlb.workers.serving import Serving
from iawlb.workers.waking import Waker
from iawlb.workers.worker import Worker
from iawlb.workers.workerpool import WorkerPool


class WakingWorker(Worker):
    """
    A worker whose destination has to be started before it serves.

    @ivar waker: Starts and stops the destination.
    """

    def __init__(
        self,
        destination: Destination,
        connector: DestinationConnector,
        pool: WorkerPool,
    ) -> None:
        super().__init__(destination, connector, pool)
        self.waker = Waker(self, pool)

    def start(self) -> None:
        """
        Begin to pull, once the destination is awake.
        """
        super().start()
        self.waker.start()

    def stop(self) -> None:
        """
        Stop pulling, and stop the destination.
        """
        super().stop()
        self.waker.close()

    def configured(self, old: DestinationSettings) -> None:
        """
        Called when the destination has got other settings.
        """
        super().configured(old)
        self.waker.configured()

    def readiness(self) -> Check:
        """
        Make the check that shows whether the destination is ready.
        """
        return self._watch.readiness()

    def forgetWords(self) -> None:
        """
        Forget what the destination has said of itself, because it is being stopped.
        """
        self._watch.forget()

    def given(self, serving: Serving) -> None:
        """
        Called when a session no longer uses its slot.
        """
        if serving.sent:
            self.waker.used()
        super().given(serving)

    def _give(self) -> None:
        super()._give()
        self.waker.slotGiven()

    def _awaitRecovery(self) -> None:
        self.waker.wentDown()

    def nameFailed(self, failure: Failure) -> None:
        """
        Do nothing: the name may resolve once the destination was started.
        """
