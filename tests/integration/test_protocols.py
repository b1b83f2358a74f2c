"""
Redis, PostgreSQL and git through the balancer, as they are without it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Serve, Start
from tests.integration.programs import Program, answers, find, freePort, run


@pytest.fixture
def redis(tmp_path: Path, start: Start) -> int:
    """
    A Redis server; its port.
    """
    port = freePort()
    arguments = ("redis-server", "--bind", "127.0.0.1", "--port", str(port))
    start(
        Program(
            [*arguments, "--save", "", "--appendonly", "no"],
            tmp_path,
            ready=lambda: answers(port),
        )
    )
    return port


def benchmark(port: int) -> list[str]:
    """
    Run redis-benchmark.

    @return: The commands that it has run to the end.
    """
    said = run(
        *("redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-q"),
        *("-n", "3000", "-c", "25", "-P", "4", "-d", "200"),
        *("-t", "ping,set,get,incr,lpush,lrange_100,mset"),
    ).decode()
    assert "rror" not in said, said
    return re.findall(r"([A-Z][^\r\n:]*): [\d.]+ requests per second", said)


def test_redisBenchmark(redis: int, balancer: Balancers) -> None:
    """
    A benchmark of Redis runs all its commands, and none fails.
    """
    front = balancer(redis)
    direct = benchmark(redis)
    assert len(direct) >= 7
    assert benchmark(front.port) == direct


def test_redisData(redis: int, balancer: Balancers) -> None:
    """
    What is written through the balancer is what is read without it, and the
    other way round.
    """
    front = balancer(redis)
    through = ("redis-cli", "-p", str(front.port))
    direct = ("redis-cli", "-p", str(redis))
    value = os.urandom(5_000_000)
    run(*through, "-x", "set", "large", give=value)
    assert run(*direct, "get", "large") == value + b"\n"
    many = "".join(f"SET key:{n} {n * n}\r\n" for n in range(5000)).encode()
    assert b"errors: 0, replies: 5000" in run(*through, "--pipe", give=many)
    keys = [f"key:{n}" for n in range(5000)]
    expected = "".join(f"{n * n}\n" for n in range(5000)).encode()
    assert run(*through, "mget", *keys) == run(*direct, "mget", *keys) == expected


@pytest.fixture
def postgres(start: Start) -> Iterator[int]:
    """
    A PostgreSQL server; its port.
    """
    port = freePort()
    # Not below pytest's own folder, which the server's user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="iawlb-postgres-"))
    data = str(folder / "data")
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        making = Program(
            ["initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"],
            folder,
            user="nobody",
        )
        start(making)
        assert making.ended() == 0, making.text()
        start(
            Program(
                ["postgres", "-D", data, "-p", str(port), "-k", str(folder), "-F"],
                folder,
                user="nobody",
                ready=lambda: answers(port),
            )
        )
        yield port
    finally:
        # The server may still write; what it makes anew is not worth a failure.
        shutil.rmtree(folder, ignore_errors=True)


def test_pgbench(postgres: int, balancer: Balancers) -> None:
    """
    PostgreSQL's benchmark fills its tables and runs through the balancer: no
    transaction fails, and each has left its row.
    """
    front = balancer(postgres)
    where = ("-h", "127.0.0.1", "-U", "tester")
    through, direct = ("-p", str(front.port)), ("-p", str(postgres))

    def rows(table: str, port: tuple[str, str]) -> int:
        query = ("-d", "postgres", "-Atc", f"select count(*) from {table}")
        return int(run("psql", *where, *port, *query))

    run("pgbench", "-i", "-q", *where, *through, "postgres")
    assert rows("pgbench_accounts", direct) == 100_000
    # One with connections that are kept, one with a connection a transaction.
    for options, total in ((("-t", "150"), 600), (("-C", "-t", "20"), 80)):
        said = run(
            *("pgbench", "-n", "-c", "4", "-j", "2", *options),
            *(*where, *through, "postgres"),
        ).decode()
        assert f"actually processed: {total}/{total}" in said, said
        assert "failed transactions: 0 " in said, said
    assert rows("pgbench_history", through) == rows("pgbench_history", direct) == 680


def test_gitClone(balancer: Balancers, start: Start, tmp_path: Path) -> None:
    """
    A repository that is cloned through the balancer is whole, and the same as
    one cloned without it.
    """
    source = tmp_path / "source"
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    run("git", "init", "-q", str(source))
    for number in range(5):
        (source / f"file-{number}").write_bytes(os.urandom(1_000_000))
        run("git", "-C", str(source), "add", ".")
        run("git", "-C", str(source), *author, "commit", "-q", "-m", f"{number}")
    port = freePort()
    start(
        Program(
            [
                *("git-daemon", "--listen=127.0.0.1", f"--port={port}"),
                *("--export-all", f"--base-path={tmp_path}", "--reuseaddr"),
            ],
            tmp_path,
            ready=lambda: answers(port),
        )
    )
    heads = []
    for name, via in (("direct", port), ("through", balancer(port).port)):
        clone = str(tmp_path / name)
        run("git", "clone", "-q", f"git://127.0.0.1:{via}/source", clone)
        run("git", "-C", clone, "fsck", "--strict")
        heads.append(run("git", "-C", clone, "rev-parse", "HEAD"))
    assert heads[0] == heads[1]
    assert (tmp_path / "through/file-4").read_bytes() == (
        source / "file-4"
    ).read_bytes()


def test_halfClose(serve: Serve, balancer: Balancers) -> None:
    """
    A client of a shell pipe, which asks by ending its half, gets its answer.
    """

    def hash(peer: socket.socket) -> None:
        digest = hashlib.sha256()
        while part := peer.recv(65_536):
            digest.update(part)
        peer.sendall(digest.hexdigest().encode())

    find("socat")
    front = balancer(serve(hash))
    # With many sizes, since an end that overtakes its bytes shows at few.
    for size in (0, 1, 4096, 65_536, 65_537, 262_143, 1_000_003):
        data = os.urandom(size)
        said = run("socat", "-t", "10", "-", f"TCP:127.0.0.1:{front.port}", give=data)
        assert said.decode() == hashlib.sha256(data).hexdigest()
