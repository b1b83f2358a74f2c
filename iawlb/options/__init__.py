"""
The table of settings, a module for each thing that settings are about.
"""
