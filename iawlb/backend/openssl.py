"""
What all uses of OpenSSL have in common, for clients and for destinations.
"""

from __future__ import annotations

from OpenSSL import SSL

from iawlb.backend.pem import Identity


def contextFor(method: int) -> SSL.Context:
    """
    Make a context without what OpenSSL has for old peers alone.
    """
    context = SSL.Context(method)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def show(context: SSL.Context, identity: Identity) -> None:
    """
    Have a context show a certificate with its chain.

    @raise SSL.Error: OpenSSL does not accept the certificate or its key.
    """
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    for each in identity.chain:
        context.add_extra_chain_cert(each)


def reasonsOf(error: BaseException | None) -> list[str]:
    """
    List what OpenSSL says about an error. There may be nothing: OpenSSL 4 has no words
    for an end of the bytes.
    """
    if not isinstance(error, SSL.Error) or not error.args:
        return []
    said = error.args[0]
    found = [str(each[-1]) for each in said] if isinstance(said, list) else []
    return list(filter(None, found))
