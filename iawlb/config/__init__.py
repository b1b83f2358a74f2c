"""
The configuration: the file, the environment and the options, read and checked.
"""
