"""
The package of the admin server: HTTP for those who operate a balancer.
"""
