"""
The tests of iawlb.
"""
