"""
Pull, connect, relay; probe; end what takes too long.
"""
