"""
The keys that keep a client with its destination.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias

from iawlb.core.ratelimit import FailureLog
from iawlb.core.session import Session

KeyOf: TypeAlias = Callable[[Session], str]
"""
A function that returns the key of a session.
"""

LONGEST = 256
"""
The number of characters of a key that are kept. Of a longer one, a hash is kept.
"""


def boundedKey(key: object) -> str:
    """
    Return a key, or of a long one a hash: keys are kept.
    """
    text = str(key)
    if len(text) <= LONGEST:
        return text
    return blake2b(text.encode("utf-8", "surrogateescape")).hexdigest()


def addressKey(session: Session) -> str:
    """
    Return the client's address, without the port.
    """
    # Each host has its own name for the network interface of a link-local address.
    return session.clientHost.partition("%")[0]


def serverNameKey(session: Session) -> str:
    """
    Return the name of the server that the client asked for by TLS; the client's address
    if it asked for none.
    """
    info = session.info
    if info is None or not info.serverName:
        return addressKey(session)
    return boundedKey(info.serverName.lower())


class TlvKey:
    """
    The value of a field of the client's PROXY header; the client's address if there is
    no such field.
    """

    def __init__(self, kind: int) -> None:
        """
        @param kind: The type of the field, a number.
        """
        self._kind = kind

    def __call__(self, session: Session) -> str:
        """
        Return the key.
        """
        if session.info is not None:
            for kind, value in session.info.tlvs:
                if kind == self._kind:
                    return boundedKey(value.decode("latin-1"))
        return addressKey(session)


class OwnKey:
    """
    The answer of the user's own function, which is called once for each session; the
    client's address if the answer is L{None}, or if the function fails.
    """

    def __init__(
        self, function: Callable[[Session], object], failures: FailureLog
    ) -> None:
        """
        @param failures: Logs what the function raises.
        """
        self._function = function
        self._failures = failures

    def __call__(self, session: Session) -> str:
        """
        Return the key.
        """
        info = session.learn()
        if info.affinity is None:
            info.affinity = self._ask(session)
        return info.affinity

    def _ask(self, session: Session) -> str:
        try:
            key = self._function(session)
            if isinstance(key, bytes):
                key = key.decode("latin-1")
            if isinstance(key, str):
                return boundedKey(key)
            if key is not None:
                raise TypeError(f"affinity gave {key!r}, which is no str")
        except Exception:
            self._failures.add()
        return addressKey(session)


def keyOf(affinity: str | Callable[[Session], object], failures: FailureLog) -> KeyOf:
    """
    Return the function that returns the keys that a setting asks for.

    @param affinity: C{address}, C{sni}, C{tlv:} and a number, or the user's own
        function.
    @param failures: Logs what the user's function raises.
    """
    if not isinstance(affinity, str):
        return OwnKey(affinity, failures)
    if affinity == "sni":
        return serverNameKey
    if affinity.startswith("tlv:"):
        return TlvKey(int(affinity[4:]))
    return addressKey
