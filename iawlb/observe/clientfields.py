"""
The fields of an access log that say what is known of a client beyond its address.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as quoted

from iawlb.core.session import Session, describe
from iawlb.core.text import printable
from iawlb.proxyprotocol.tlvs import named

Value = str | Mapping[str, str] | None


def serverName(session: Session) -> str | None:
    """
    Return the name of the server that the client asked for.
    """
    return None if session.info is None else session.info.serverName


def protocol(session: Session) -> str | None:
    """
    Return the application protocol that was agreed upon.
    """
    return None if session.info is None else session.info.protocol


def tlsSession(session: Session) -> str | None:
    """
    Return the version and the cipher of TLS, such as C{TLSv1.3/TLS_AES_128_GCM_SHA256}.
    """
    tls = None if session.info is None else session.info.tls
    return None if tls is None else f"{tls.version}/{tls.cipher}"


def tlsClient(session: Session) -> str | None:
    """
    Return the common name in the client's certificate.
    """
    tls = None if session.info is None else session.info.tls
    return None if tls is None else tls.clientName


def proxy(session: Session) -> str | None:
    """
    Return the address of the proxy whose header has named the client.
    """
    peer = None if session.info is None else session.info.peer
    return None if peer is None else describe(peer)[0]


def tlvs(session: Session) -> Mapping[str, str] | None:
    """
    Return what else that header said, by name.
    """
    return None if session.info is None else dict(named(session.info.tlvs)) or None


def uniqueId(session: Session) -> str | None:
    """
    Return the unique id that a header has given the connection, or is to give.
    """
    known = None if session.info is None else session.info.uniqueId
    return None if known is None else known.decode("ascii", "backslashreplace")


FIELDS: dict[str, Callable[[Session], Value]] = {
    "sni": serverName,
    "alpn": protocol,
    "tls": tlsSession,
    "tlsClient": tlsClient,
    "proxy": proxy,
    "tlvs": tlvs,
    "uniqueId": uniqueId,
}
"""
The function that returns each field: a text, several by name, or L{None} if unset.
"""

_NOTHING = "".join(f',"{name}":null' for name in FIELDS)


def jsonFields(session: Session) -> str:
    """
    Write the fields as the end of a JSON object.
    """
    if session.info is None:
        return _NOTHING
    text = ""
    for name, read in FIELDS.items():
        value = read(session)
        if isinstance(value, str):
            text += f',"{name}":{quoted(value)}'
        else:
            text += f',"{name}":{json.dumps(value)}'
    return text


def plainText(value: str | Mapping[str, str]) -> str:
    """
    Write a field for a line of a template, in which the client must not end a quoted
    value. Of several values each is one word.
    """
    if not isinstance(value, str):
        words = (f"{name}={plainText(text)}" for name, text in value.items())
        return " ".join(word.replace(" ", "\\x20") for word in words)
    return printable(value).replace("\\", "\\\\").replace('"', '\\"')
