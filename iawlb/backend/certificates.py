"""
The certificates of a TLS listener: read from files, and read again when a file changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iawlb.backend.filewatch import FileWatch
from iawlb.backend.pem import Identity, Source
from iawlb.backend.tlscontexts import Contexts, TlsOptions
from iawlb.errors import InvalidSetting

TICKETS = 6 * 3600.0
"""
How long the same keys are used for the tickets by which clients resume TLS sessions, in
seconds: who steals the keys can read of TLS 1.2 only what was sent in this time.
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A certificate that clients are shown, for people.

    @ivar name: The first host name that it is for; without one, its subject.
    @ivar names: All of them.
    @ivar until: When it expires.
    """

    name: str
    names: Sequence[str]
    until: datetime


class Certificates:
    """
    Makes the server's end of TLS connections, with the certificates that are in the
    files now. If changed files cannot be used, the certificates read before stay in
    use.

    @ivar shown: The certificates that clients are shown, the default one first.
    @ivar problem: Why the files cannot be used as they are now, or L{None} if the
        certificates in use are those of the files.
    @ivar handshakes: The number of handshakes that were done.
    @ivar failed: The number of handshakes that have failed, but for clients that left
        or took too long.
    """

    log = Logger()
    shown: Sequence[Shown]

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        sources: Sequence[Source],
        options: TlsOptions,
    ) -> None:
        """
        @param name: What the certificates belong to, for the log.
        @param sources: The certificates, the default one first.
        @raise InvalidSetting: The files cannot be used.
        """
        self._clock = clock
        self._name = name
        self._sources = sources
        self._options = options
        self.problem: str | None = None
        self.handshakes = 0
        self.failed = 0
        self._keyed = clock.seconds()
        # Looked at before the files are read, so that a change in between is seen
        # later.
        self._files = FileWatch(clock, self._listFiles)
        self._contexts = Contexts(options)
        self._read()

    def accept(self) -> SSL.Connection:
        """
        Make the server's end of a connection, for a client that begins its handshake.
        """
        self.look()
        connection = SSL.Connection(self._contexts.default, None)
        connection.set_accept_state()
        return connection

    def look(self) -> None:
        """
        Read the files again if one has changed. They are looked at when a client begins
        its TLS handshake, and when somebody asks for the status or the metrics.
        """
        now = self._clock.seconds()
        if not 0 <= now - self._keyed < TICKETS:
            self._keyed = now
            self._contexts.renewTickets()
        if self._files.changed():
            self._renew(True)

    def readAgain(self) -> None:
        """
        Read the files again, changed or not.
        """
        self._renew(self._files.look())

    def _read(self) -> None:
        identities = [each for source in self._sources for each in source.read()]
        self._contexts.use(identities)
        self.shown = [_shown(each) for each in identities]

    def _renew(self, changed: bool) -> None:
        """
        Read the files, and use what they hold if it can be used.

        @param changed: Whether a file has changed, as far as its state shows.
        """
        before, former = self._contexts.identities, self.problem
        try:
            self._read()
        except InvalidSetting as error:
            self.problem = str(error)
            if changed or self.problem != former:
                self.log.error(
                    "the certificates of {name} have changed and cannot be used, so "
                    "the former ones are: {why}",
                    name=self._name,
                    why=self.problem,
                )
            return
        self.problem = None
        if changed or former or self._contexts.identities != before:
            self.log.info("the certificates of {name} were read again", name=self._name)

    def _listFiles(self) -> list[str]:
        files = [each for source in self._sources for each in source.files()]
        return files + self._options.files()


def _shown(identity: Identity) -> Shown:
    names = identity.names()
    certificate: Any = identity.certificate
    subject = certificate.subject.rfc4514_string()
    name = names[0] if names else subject
    return Shown(name, names, certificate.not_valid_after_utc)
