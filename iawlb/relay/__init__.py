"""
The relay: the two connections of a session, and the bytes that pass between them.
"""
