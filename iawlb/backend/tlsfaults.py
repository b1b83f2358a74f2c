"""
Why a TLS handshake with a destination has failed, in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from twisted.python.failure import Failure

from iawlb.backend.openssl import reasonsOf
from iawlb.core.text import printable

SHOWN = 100
"""
The number of characters of a name in a certificate that a message shows.
"""

NAMES = 3
"""
The number of names of a certificate that a message shows.
"""

EXPIRED, NOT_YET = 10, 9
"""
OpenSSL's numbers of what is wrong with the times of a certificate.
"""

_WHY = {
    18: "it has issued itself (self-signed), and is not in the file of tls-ca",
    19: "its chain ends at an authority that is not trusted: give its file as tls-ca",
    2: "its issuer is not known: give the authority's file as tls-ca",
    20: "its issuer is not known: give the authority's file as tls-ca",
    21: "its issuer is not known, or the destination does not send its chain",
    7: "its signature is wrong",
    24: "one of its issuers is not an authority",
    26: "it is not for servers",
    66: "its key is too weak",
    67: "the key of one of its issuers is too weak",
    68: "its signature is made in a way that is too weak",
}

_HINTS = {
    "wrong version number": "does it speak TLS on this port?",
    "packet length too long": "does it speak TLS on this port?",
    "http request": "it speaks HTTP without TLS on this port",
    "certificate required": "it asks for a certificate: give tls-certificate",
    "handshake failure": "it may ask for a certificate, or have no cipher in common",
    "unknown ca": "it does not trust the issuer of tls-certificate",
    "bad certificate": "it does not accept tls-certificate",
    "certificate expired": "tls-certificate has expired",
    "unrecognized name": "it does not know the name that it is asked for",
    "no application protocol": "it speaks none of tls-alpn",
    "protocol version": "it speaks no version of TLS from 1.2 on",
    "unsupported protocol": "it speaks no version of TLS from 1.2 on",
}
"""
What messages of OpenSSL's may mean, by their last words.
"""


def certificateFault(number: int, certificate: Any) -> str:
    """
    Say what is wrong with a certificate.

    @param number: OpenSSL's number of the error.
    @param certificate: The certificate that is wrong, which may be an issuer's.
    """
    if number in (EXPIRED, NOT_YET):
        found = certificate.to_cryptography()
        if number == EXPIRED:
            return f"it expired on {_written(found.not_valid_after_utc)}"
        return f"it is not valid before {_written(found.not_valid_before_utc)}"
    return _WHY.get(number, f"OpenSSL refuses it with error {number}")


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d at %H:%M} UTC"


def nameFault(wanted: str, names: Sequence[str]) -> str:
    """
    Say that a certificate is not for the name that was wanted.

    @param names: The names that it is for.
    """
    if not names:
        return f"it is not for {wanted}, and has no names (subjectAltName)"
    shown = ", ".join(printable(each)[:SHOWN] for each in names[:NAMES])
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"it is for {shown}{more}, and not for {wanted}"


def handshakeFault(failure: Failure | None) -> str:
    """
    Say why a handshake has failed.
    """
    reasons = reasonsOf(None if failure is None else failure.value)
    if not reasons:
        return "the destination has closed the connection"
    text = ", ".join(reasons)
    for words, hint in _HINTS.items():
        if reasons[0].endswith(words):
            return f"{text} ({hint})"
    return text
