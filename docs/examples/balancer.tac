"""
A balancer among other services: twistd -ny balancer.tac
"""

from twisted.application.service import Application
from twisted.internet import reactor

from iawlb import LoadBalancer

balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    destinations=["localhost:9001", "localhost:9002 slots=4"],
    queueTimeout="10s",
)
application = Application("balancer")
balancer.setServiceParent(application)
