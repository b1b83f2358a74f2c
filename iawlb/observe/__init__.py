"""
Observers of sessions: log lines, and the writer of these.
"""
