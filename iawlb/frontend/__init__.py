"""
The frontend, where clients come in: listeners, accepting, admission.
"""
