"""
The two connections of a session and the bytes between them.
"""
