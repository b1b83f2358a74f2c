"""
How destinations are reached: addresses, names, connects.
"""
