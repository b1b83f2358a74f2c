"""
The twistd command C{iawlb}.
"""

from twisted.application.service import ServiceMaker

# The module is named, not imported: C{twistd --help} then runs none of our
# code, and no reactor is installed before C{twistd --reactor} was read.
iawlb = ServiceMaker(
    "iawlb",
    "iawlb.tap",
    "A TCP load balancer: connections wait, workers pull.",
    "iawlb",
)
