"""
Rules for the first message of a TLS client, and for answering it. No I/O.
"""
