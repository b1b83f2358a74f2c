"""
Checks of destinations: what is sent, what counts as an answer, and who asks.
"""
