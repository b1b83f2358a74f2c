"""
What the command says of the certificates of TLS listeners, when not all is well.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from iawlb.command.calls import items
from iawlb.command.text import age, plain, since

SOON = 14 * 86400
"""
The time before a certificate expires from which the command says so, in seconds.
"""


def tlsNotes(pool: dict[str, Any], now: datetime) -> Iterator[str]:
    """
    Iterate over lines about a pool's certificates that expire soon or have expired, and
    about files that cannot be used.
    """
    for listener in items(pool.get("listeners") or []):
        tls = listener.get("tls")
        if not isinstance(tls, dict):
            continue
        where = plain(listener.get("address"))
        if tls.get("problem"):
            why = plain(tls["problem"])
            yield f"{where}: certificates have changed and cannot be used: {why}"
        passed = since(tls.get("expires"), now)
        name = plain(tls.get("expiring"))
        if passed is not None and passed >= 0:
            yield f"{where}: the certificate of {name} expired {age(passed)} ago"
        elif passed is not None and passed > -SOON:
            yield f"{where}: the certificate of {name} expires in {age(-passed)}"
