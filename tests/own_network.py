"""A network namespace of its own for a process of the tests, from which nothing but some servers can be reached."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
LOOPBACK = "127.0.0.1"


def may_have_one() -> bool:
    """Whether this process may make such namespaces: tried by a child."""
    child = os.fork()
    if child == 0:
        os._exit(ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0)
    return os.waitpid(child, 0)[1] == 0


def enter(ports: Sequence[int]) -> None:
    """Give this process a network of its own, where the servers at these ports of the loopback are at the same ports.

    A child, which stays outside, passes on what is said. It ends with this process. Raises OSError where that is not
    allowed. Call it before any thread is started.
    """
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        with suppress(BaseException):
            _pass_on(theirs, ports)
        os._exit(0)
    theirs.close()
    with socket.create_server((LOOPBACK, 0)) as outside:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no network namespace")
        _raise_loopback()
        with suppress(ConnectionRefusedError):
            socket.create_connection(outside.getsockname()).close()
            raise AssertionError("the network is the one from before")
    servers = [socket.create_server((LOOPBACK, port)) for port in ports]
    socket.send_fds(ours, [b"x"], [server.fileno() for server in servers])
    for server in servers:
        server.close()
    ours.detach()  # stays open as long as this process lives


def _raise_loopback() -> None:
    """A new network has a loopback that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _pass_on(channel: socket.socket, ports: Sequence[int]) -> None:
    """Take sockets that listen elsewhere, and connect whoever comes to the server at the same port here."""
    _, handles, _, _ = socket.recv_fds(channel, 1, len(ports))
    listening = [socket.socket(fileno=handle) for handle in handles]
    asyncio.run(_serve(channel, list(zip(listening, ports, strict=True))))


async def _serve(channel: socket.socket, places: Sequence[tuple[socket.socket, int]]) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(channel, over.set)
    for listening, port in places:
        await asyncio.start_server(_to(port), sock=listening)
    await over.wait()
    os._exit(0)  # at once: who is cut off here has nobody to hear of it


def _to(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, port)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    return connect


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while some := await reader.read(2**16):
            writer.write(some)
            await writer.drain()
    writer.close()
