"""
The limits of one connection to the admin server.
"""

from __future__ import annotations

LONGEST_TARGET = 8192
"""
The longest target of a request, in bytes.
"""

MOST_HEADERS = 100
"""
The number of header lines of a request.
"""

MOST_HEADER_BYTES = 16 * 1024
"""
The length of all header lines together.
"""

MOST_BODY = 256 * 1024
"""
The longest body, in bytes.
"""

MOST_HELD = 16 * 1024
"""
How many bytes are read ahead while a request is answered.
"""

REQUEST_WITHIN = 10.0
"""
The time from a request's first byte to its last, in seconds.
"""

IDLE = 60.0
"""
How long a connection may wait for its next request, in seconds.
"""

STALLED = 60.0
"""
How long a client may read nothing of an answer, in seconds.
"""

LINGER = 2.0
"""
How long a client may go on to send what is discarded, in seconds: so long it has time
to read why its request was refused. If the connection were closed at once, the kernel
would reset it, and the answer could be lost.
"""
