"""
Real servers and clients through twistd iawlb, compared with going direct.
"""
