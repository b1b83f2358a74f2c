"""
Reload: read the configuration again, and change the running balancer to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import time
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from iawlb.balancer import Balancer
from iawlb.config.model import Configuration
from iawlb.control.apply import Application
from iawlb.control.errors import Conflict
from iawlb.control.plan import Change, applied, isLive, plan
from iawlb.errors import IawlbError, InvalidConfiguration
from iawlb.observe.moments import isoTime

Result = dict[str, Any]

MOST = 100
"""
The number of lines that are remembered of a reload.
"""


class Reloader:
    """
    Changes a balancer that runs to what its configuration says now.

    All that can be checked is checked first, and new listeners are opened: so a file
    that is wrong, or an address that is in use, changes nothing. Two reloads at once
    are made one after the other.

    @ivar running: The configuration that the balancer has. Of a setting that needs a
        restart it has the value that is in use.
    @ivar last: The result of the last reload, as C{reload} in C{GET /status}.
    @ivar succeededAt: When the last one was that succeeded, in seconds since 1970; the
        start counts as one.
    @ivar began: Called when a reload begins.
    @ivar ended: Called when it has ended.
    @ivar publish: Called with each reload's result, as an event for those who watch.
    @ivar configure: Called with each live setting of the process that has changed: its
        place in the file, and the new value.
    """

    log = Logger()

    def __init__(
        self,
        balancer: Balancer,
        read: Callable[[], Configuration] | None,
        running: Configuration,
        now: Callable[[], float] = time,
        inThread: Callable[..., Deferred[Any]] = deferToThread,
    ) -> None:
        """
        @param read: Reads and checks the configuration; L{None} if there is no file.
        @param running: The configuration that the balancer was made from.
        @param now: Returns the time of day.
        @param inThread: Calls a function outside of the reactor's thread.
        """
        self.running = running
        self.succeededAt = now()
        self.began: Callable[[], object] = lambda: None
        self.ended: Callable[[], object] = lambda: None
        self.publish: Callable[..., object] = lambda *_, **__: None
        self.configure: Callable[[tuple[str, ...], Any], object] = lambda *_: None
        self.last: Result = {
            "successful": None if read is None else True,
            "at": None if read is None else isoTime(now()),
            "messages": [],
            "file": running.path,
        }
        self._balancer = balancer
        self._read = read
        self._now = now
        self._inThread = inThread
        self._lock = DeferredLock()

    def plan(self, new: Configuration) -> list[Change]:
        """
        List what a reload would change.
        """
        return plan(self.running, new)

    async def reload(self, diff: bool = False, by: str = "") -> Result:
        """
        Read the configuration, and change the balancer to it.

        @param diff: Only say what would change.
        @param by: Who has asked for it.
        @return: C{result}, which is C{done} or C{failed}; C{changes}; C{messages}; and
            C{mistakes}, if it failed.
        @raise Conflict: There is no file, or the balancer is not running.
        """
        await self._lock.acquire()
        try:
            self._checkRunning()
            if diff:
                return await self._reload(True, by)
            self.began()
            try:
                return await self._reload(False, by)
            finally:
                self.ended()
        finally:
            self._lock.release()

    async def _reload(self, diff: bool, by: str) -> Result:
        assert self._read is not None
        try:
            # A large file takes a while.
            new = await self._inThread(self._read)
        except InvalidConfiguration as error:
            return self._failed(list(error.mistakes), [], diff, by)
        except Exception as error:
            self.log.failure("reading the configuration failed")
            mistake = f"reading the configuration failed: {error!r}"
            return self._failed([mistake], [], diff, by)
        changes = self.plan(new)
        waiting = [
            f"{each.path}: needs a restart; until then it stays {each.before!r}"
            for each in changes
            if not isLive(each)
        ]
        if diff:
            return _result("done", changes, waiting)
        application = Application(self._balancer, new, changes)
        try:
            await application.prepare()
            self._checkRunning()
            await application.commit()
        except Exception as error:
            if not isinstance(error, IawlbError):
                self.log.failure("a step of a reload failed")
            failed = application.rollBack()
            self.running = applied(self.running, application.done)
            mistakes = [str(error) or repr(error), *failed]
            return self._failed(mistakes, application.done, diff, by)
        for pool in self._balancer.pools.values():
            for listener in pool.listeners:
                if listener.certificates is not None:
                    listener.certificates.readAgain()
        for each in changes:
            if each.pool is None and each.where[0] != "global" and isLive(each):
                application.done.append(each)
                self.configure(each.where, each.after)
        return self._succeeded(new, changes, application, waiting, by)

    def _checkRunning(self) -> None:
        if self._read is None:
            raise Conflict("there is no configuration file, so nothing to reload")
        if self._balancer.stopping:
            raise Conflict("the balancer is stopping, and reloads no more")
        if not self._balancer.running:
            raise Conflict("the balancer has not started yet")

    def _succeeded(
        self,
        new: Configuration,
        changes: list[Change],
        application: Application,
        waiting: list[str],
        by: str,
    ) -> Result:
        """
        Remember a reload that was made.
        """
        made = applied(self.running, application.done)
        self.running = replace(made, origins=new.origins, path=new.path)
        messages = [*waiting, *application.messages]
        number = len(application.done)
        text = f"{number} changes" if number != 1 else "1 change"
        self.log.info("reloaded {file}: {text}", file=new.path, text=text)
        for each in messages:
            self.log.info("{message}", message=each)
        self._remember(True, messages)
        self.publish("reload", text=text, by=by or None)
        return _result("done", changes, messages)

    def _failed(
        self, mistakes: list[str], made: list[Change], diff: bool, by: str
    ) -> Result:
        """
        Remember a reload that failed.

        @param made: The changes that were made nevertheless.
        """
        messages = [f"{each.path}: was changed nevertheless" for each in made]
        if not diff:
            for each in (*mistakes, *messages):
                self.log.error("reload failed: {message}", message=each)
            self._remember(False, [*mistakes, *messages])
            self.publish("reload-failed", text=mistakes[0], by=by or None)
        return {**_result("failed", made, messages), "mistakes": mistakes}

    def _remember(self, successful: bool, messages: list[str]) -> None:
        if successful:
            self.succeededAt = self._now()
        more = len(messages) - MOST
        if more > 0:
            messages = [*messages[:MOST], f"and {more} lines more, which the log has"]
        self.last = {
            "successful": successful,
            "at": isoTime(self._now()),
            "messages": messages,
            "file": self.running.path,
        }


def _result(result: str, changes: list[Change], messages: list[str]) -> Result:
    return {
        "result": result,
        "changes": [each.shown() for each in changes],
        "messages": messages,
    }
