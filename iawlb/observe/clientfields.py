"""
The fields of an access log that say what is known of a client beyond its address.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted

from iawlb.core.session import Session
from iawlb.core.text import printable


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


FIELDS = {
    "sni": serverName,
    "alpn": protocol,
    "tls": tlsSession,
    "tlsClient": tlsClient,
}
"""
The function that returns each field.
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
        text += f',"{name}":{"null" if value is None else quoted(value)}'
    return text


def plainText(value: str) -> str:
    """
    Write a field for a line of a template, in which the client must not end a quoted
    value.
    """
    return printable(value).replace("\\", "\\\\").replace('"', '\\"')
