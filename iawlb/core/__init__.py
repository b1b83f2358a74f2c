"""
Rules without I/O: connections wait in a queue, and workers pull them.
"""
