"""
A TCP load balancer that pulls: connections wait, workers take the next.
"""

from iawlb.service import LoadBalancer

__all__ = ["LoadBalancer"]
