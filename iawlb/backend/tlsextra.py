"""
TLS to destinations, as far as their settings ask for it. TLS is an extra, which may not
be installed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from iawlb.backend.address import placeOf
from iawlb.backend.hints import quoted
from iawlb.errors import InvalidSetting
from iawlb.options.tls import DestinationTls
from iawlb.settings import DestinationSettings

if TYPE_CHECKING:
    from iawlb.backend.tlsclient import TlsClient


def tlsClientOf(
    clock: IReactorTime, settings: DestinationSettings, text: str
) -> TlsClient | None:
    """
    Make what speaks TLS with a destination, if the destination's settings say so.

    @param text: The destination's address, or what an endpoint is called.
    @raise InvalidSetting: A setting is wrong, or a file cannot be used.
    """
    if not settings.tls:
        return None
    kind = text.partition(":")[0].lower()
    if kind in ("tls", "ssl"):
        raise InvalidSetting(
            f"tls: {quoted(text)} is over TLS without it: write tcp:HOST:PORT"
        )
    try:
        from iawlb.backend.tlsclient import TlsClient
    except ImportError:
        raise InvalidSetting(
            "tls: the packages for TLS are not installed: pip install 'iawlb[tls]'"
        ) from None
    place = placeOf(text, listening=False)
    return TlsClient(clock, settings, "" if place is None else place.host)


def checkSpoken(given: Collection[str], spoken: bool) -> None:
    """
    Refuse what was given about TLS with a destination while none is spoken: it would be
    without effect, and the bytes would go in the clear.

    @param given: The settings that were given, by their names in Python. Where C{tls}
        is one of them, somebody has decided.
    @param spoken: Whether TLS is spoken.
    @raise InvalidSetting: One of them is about TLS.
    """
    if spoken or "tls" in given:
        return
    for each in fields(DestinationTls):
        if each.name in given:
            raise InvalidSetting(
                f"{each.name}: no TLS is spoken with the destination: set tls, too"
            )


def sameTls(old: DestinationSettings, new: DestinationSettings) -> bool:
    """
    Return whether two settings say the same about TLS.
    """
    return all(
        getattr(old, each.name) == getattr(new, each.name)
        for each in fields(DestinationTls)
    )
