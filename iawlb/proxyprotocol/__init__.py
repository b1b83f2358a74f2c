"""
The PROXY protocol, which carries a client's address to the next server: reading and
writing its headers, without I/O.
"""
