"""
Programs that are started when a client comes: processes, and their output in the log.
"""
