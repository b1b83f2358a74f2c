"""
What is told of a session: log lines.
"""
