"""
Connections wait, workers pull: the rules, without I/O.
"""
