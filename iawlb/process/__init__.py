"""
The process of its own that the balancer may be.
"""
