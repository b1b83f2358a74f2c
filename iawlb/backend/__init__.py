"""
The backend: addresses, names, and connects to destinations.
"""
