"""
Where clients come in: listeners, accepting, admission.
"""
