"""
Workers: pull sessions, connect them, relay them; probe destinations; end sessions that
take too long.
"""
