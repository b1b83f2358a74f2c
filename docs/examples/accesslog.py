"""
A balancer that writes its lines of connections, as JSON, to standard output.
"""

from twisted.internet import reactor

from iawlb import AccessLog, LoadBalancer

log = AccessLog(reactor, format="json", to="stdout", null=False)
balancer = LoadBalancer(
    reactor,
    listeners=["127.0.0.1:8080"],
    destinations=["localhost:9001"],
    observers=[log],
)
# The lines then hold how many connections there are beside theirs.
log.follow(balancer)
balancer.startService()
reactor.addSystemEventTrigger("before", "shutdown", balancer.stopService)
reactor.run()
