"""
Changes while the balancer runs: operations, reload, what outlives it, and the state
file.
"""
