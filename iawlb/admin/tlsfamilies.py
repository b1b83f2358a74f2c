"""
The metrics of listeners that end TLS, and of their certificates.
"""

from __future__ import annotations

from typing import NamedTuple

from iawlb.admin.family import Family
from iawlb.backend.tlslistener import Certificates


class CertificateView(NamedTuple):
    """
    What the metrics of a certificate are read from.

    @ivar until: When it expires, in seconds since 1970.
    """

    until: float


LISTENER: tuple[Family[Certificates], ...] = (
    Family(
        "iawlb_tls_handshakes",
        "counter",
        "TLS handshakes with clients that were done.",
        lambda view: view.handshakes,
    ),
    Family(
        "iawlb_tls_handshake_failures",
        "counter",
        "TLS handshakes with clients that have failed, but for clients that left or "
        "took too long.",
        lambda view: view.failed,
    ),
    Family(
        "iawlb_certificates_current",
        "gauge",
        "1 if the certificates in use are those of the files, 0 if these have changed "
        "and cannot be used.",
        lambda view: int(view.problem is None),
    ),
)
"""
The metrics of each listener that ends TLS.
"""

CERTIFICATE: tuple[Family[CertificateView], ...] = (
    Family(
        "iawlb_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the certificate expires, in seconds since 1970.",
        lambda view: view.until,
    ),
)
"""
The metrics of each certificate of a listener. Of several for one name, the last of a
listener counts.
"""
