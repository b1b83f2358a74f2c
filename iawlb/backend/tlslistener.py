"""
Whether and how a listener ends TLS, by its settings and its endpoint string. TLS is an
extra, so what needs OpenSSL is imported only where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from iawlb.backend.hints import quoted
from iawlb.backend.strings import Words
from iawlb.errors import InvalidSetting
from iawlb.setting import asOption
from iawlb.settings import ListenerSettings

if TYPE_CHECKING:
    from iawlb.backend.certificates import Certificates as _Certificates
    from iawlb.backend.tlsserver import TlsServer

Certificates: TypeAlias = "_Certificates"
"""
The certificates of a TLS listener.
"""

_NEED_CERTIFICATE = ("certificateKey", "clientCa", "alpn")


def certificatesOf(
    reactor: Any, name: str, settings: ListenerSettings
) -> Certificates | None:
    """
    Read the certificates that the settings of a listener name.

    @param name: What the certificates belong to, for the log.
    @return: L{None} if the listener does not end TLS.
    @raise InvalidSetting: The settings do not fit each other, or a file cannot be used.
    """
    if not settings.certificate:
        for each in _NEED_CERTIFICATE:
            if getattr(settings, each):
                raise InvalidSetting(
                    f"{asOption(each)} is for TLS listeners: set certificate, too"
                )
        return None
    try:
        # TLS is an extra, which may not be installed.
        from iawlb.backend.tlsserver import certificatesOf
    except ImportError:
        raise InvalidSetting(
            f"{quoted(name)}: TLS is not installed: pip install 'iawlb[tls]'"
        ) from None
    return certificatesOf(reactor, name, settings)


def checkOwn(words: Words, settings: ListenerSettings) -> None:
    """
    Check that the settings name no certificate for an endpoint string that names one.

    @raise InvalidSetting: They do.
    """
    if settings.certificate or settings.certificateKey:
        raise InvalidSetting(
            f"{words.kind}: names its certificate itself: leave certificate and "
            "certificate-key out, or listen on tcp:"
        )


def serverOf(reactor: Any, words: Words, settings: ListenerSettings) -> TlsServer:
    """
    Read an C{ssl:} or C{tls:} string.

    @raise InvalidSetting: A file cannot be used.
    """
    from iawlb.backend.tlsserver import ssl, tls

    make: Any = ssl if words.kind == "ssl" else tls
    made: TlsServer = make(reactor, settings, *words.args, **words.named)
    return made
