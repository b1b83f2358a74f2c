"""
The processes of the comparison on real sockets, each started by its role:

    peers.py serve SECONDS SEED        a destination: one client after the other
    peers.py balance POLICY PORT...    a balancer
    peers.py load PORT RATE CLIENTS SEED    the clients

Each writes one line when it is ready, a port; or, the clients, what they have measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

QUESTION = b"?"


def serve(seconds: str, seed: str) -> None:
    """
    Serve one client after the other, in the order in which they came, each in a random
    time.
    """
    draw = random.Random(int(seed))
    turn = asyncio.Lock()  # which is fair

    async def client(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1)
        async with turn:
            await asyncio.sleep(draw.expovariate(1 / float(seconds)))
        writer.write(b"!")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(client, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


def balance(policy: str, *ports: str) -> None:
    """
    Run a balancer.
    """
    from rivals import RIVALS
    from twisted.internet import reactor

    from iawlb import LoadBalancer, useMonotonicTime

    useMonotonicTime(reactor)
    balancer = LoadBalancer(
        reactor,
        listeners=["127.0.0.1:0"],
        destinations=[f"127.0.0.1:{port}" for port in ports],
        policy=RIVALS[policy](reactor.seconds, random.Random(1)),
        queueTimeout=0,
    )
    balancer.startService()
    print(balancer.addresses[0].rpartition(":")[2], flush=True)
    reactor.run()


def load(port: str, rate: str, clients: str, seed: str) -> None:
    """
    Let clients come at random, whether or not those before them are answered, and
    write how many seconds each waited for its answer.
    """
    draw = random.Random(int(seed))

    async def client() -> tuple[float, float]:
        clock = asyncio.get_running_loop().time
        began = clock()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(QUESTION)
        answer = await reader.read(1)
        took = clock() - began
        writer.close()
        if answer != b"!":
            raise ConnectionError("no answer")
        return began, took

    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        at, tasks = loop.time(), []
        for _ in range(int(clients)):
            at += draw.expovariate(float(rate))
            await asyncio.sleep(max(0.0, at - loop.time()))
            tasks.append(asyncio.create_task(client()))
        return [took for _, took in sorted(await asyncio.gather(*tasks))]

    print(json.dumps(asyncio.run(run())), flush=True)


if __name__ == "__main__":
    {"serve": serve, "balance": balance, "load": load}[sys.argv[1]](*sys.argv[2:])
