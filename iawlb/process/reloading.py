"""
L{Reloading}: the reloads and the state file of a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from iawlb.balancer import Balancer
from iawlb.config.model import Configuration
from iawlb.control.errors import Conflict
from iawlb.control.keeper import Keeper
from iawlb.control.reload import Reloader
from iawlb.errors import InvalidSetting
from iawlb.process.hangup import Hangup
from iawlb.process.logs import Logs


class Reloading:
    """
    Reloads the configuration at SIGHUP, and keeps what was changed while the balancer
    ran, if there is a state file.

    @ivar reloader: Makes the reloads, also those that others ask for.
    @ivar hangup: Handles SIGHUP, once it is installed.
    @ivar keeper: Keeps the state file; L{None} if there is none.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        balancer: Balancer,
        configuration: Configuration,
        read: Callable[[], Configuration] | None,
        logs: Logs,
    ) -> None:
        """
        @param configuration: What the balancer was built from.
        @param read: Reads the configuration file again; L{None} if there is none.
        @param logs: Gets the level of messages, if it changes.
        @raise InvalidSetting: The state file cannot be used; the message begins with
            the option.
        """
        self.reloader = Reloader(balancer, read, configuration)
        self.reloader.configure = self._configure
        self.keeper: Keeper | None = None
        state = configuration.process.state
        if state:
            if configuration.path and _same(state, configuration.path):
                raise InvalidSetting(f"state: {state!r} is the configuration file")
            self.keeper = Keeper(balancer, lambda: self.reloader.running, state)
        self._logs = logs
        self.hangup = Hangup(reactor, None if read is None else self._hungUp)
        self._restored = False
        # Whether a reload at SIGHUP is under way, and whether the signal has come again
        # since.
        self._busy = False
        self._again = False

    def open(self) -> None:
        """
        Restore what was changed before. This comes before the balancer listens.
        """
        if self.keeper is not None and not self._restored:
            self._restored = True
            self.keeper.restore()

    def start(self) -> None:
        """
        Begin to write the state file.
        """
        if self.keeper is not None:
            self.keeper.start()

    async def stop(self) -> None:
        """
        Write the state file once more, now that the balancer has stopped.
        """
        if self.keeper is not None:
            await self.keeper.stop()

    def _hungUp(self) -> Deferred[None]:
        return ensureDeferred(self._reload())

    async def _reload(self) -> None:
        """
        Reload; once more if the signal has come meanwhile, however often.
        """
        self._again = True
        if self._busy:
            return
        self._busy = True
        try:
            while self._again:
                self._again = False
                await self.reloader.reload(by="SIGHUP")
        except Conflict as error:
            self.log.warn("SIGHUP: {why}", why=str(error))
        finally:
            self._busy = False

    def _configure(self, where: tuple[str, ...], value: Any) -> None:
        """
        Change a setting of the process. The level is the only one that can change.
        """
        self._logs.setLevel(value)


def _same(one: str, other: str) -> bool:
    """
    Return whether two paths lead to the same file, whether it exists or not.
    """
    return os.path.realpath(one) == os.path.realpath(other)
