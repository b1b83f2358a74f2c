"""
A dialogue within TLS, on a connection without.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import lru_cache

from iawlb.health.verdict import Dialogue, Verdict


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    # Sessions end their TLS at the destination and look at the certificate themselves;
    # a check only finds out whether there is one who answers.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Securely:
    """
    A TLS handshake, and a dialogue behind it, if any.
    """

    def __init__(self, name: str | None, inner: Dialogue | None) -> None:
        """
        @param name: The name that the server is asked for, or L{None}.
        """
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._in, self._out, server_hostname=name)
        self._inner = inner
        self._shaken = False

    def begin(self) -> bytes:
        """
        Return the ClientHello.
        """
        found = self._go()
        assert isinstance(found, bytes)
        return found

    def received(self, data: bytes) -> Verdict | bytes:
        """
        Go on with the handshake, and then with the dialogue.
        """
        self._in.write(data)
        return self._go()

    def ended(self) -> Verdict:
        """
        Return what the dialogue finds at its end.
        """
        if self._shaken and self._inner is not None:
            return self._inner.ended()
        return Verdict(False, "closed during the TLS handshake")

    def _go(self) -> Verdict | bytes:
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                if self._inner is None:
                    return self._done(Verdict(True, f"{self._tls.version()}"))
                self._say(self._inner.begin())
            return self._talk()
        except ssl.SSLWantReadError:
            return self._out.read()
        except ssl.SSLError as error:
            why = (error.reason or str(error)).replace("_", " ").lower()
            return Verdict(False, f"TLS: {why}", farewell=self._out.read())

    def _talk(self) -> Verdict | bytes:
        assert self._inner is not None
        while True:
            data = self._tls.read(16 * 1024)
            if not data:  # the end of TLS
                return self._done(self._inner.ended())
            found = self._inner.received(data)
            if isinstance(found, Verdict):
                self._say(found.farewell)
                return self._done(found)
            self._say(found)

    def _say(self, data: bytes) -> None:
        if data:
            self._tls.write(data)

    def _done(self, found: Verdict) -> Verdict:
        with suppress(ssl.SSLError):
            self._tls.unwrap()  # the answer to our end is not waited for
        return found._replace(farewell=self._out.read())
