"""
Processes that the balancer starts, and their output in the log.
"""
