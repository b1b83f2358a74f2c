"""
The command C{iawlb}.
"""
