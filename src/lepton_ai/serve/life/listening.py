"""The sockets of a server."""

from __future__ import annotations

import socket

from lepton_ai.errors import InvalidRequest

_SEND_BYTES = 1 << 18
"""What the kernel keeps of an answer that is not read. It would let this grow to megabytes for each client."""


def listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of ``host``, bound to one ``port``; 0 takes a free one.

    Connections are not accepted yet. A port that a server had until a moment ago can be taken again. Raises
    InvalidRequest.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            made = socket.socket(family, kind, protocol)
            sockets.append(made)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((address[0], port_of(sockets[0]) or port, *address[2:]))
    except OSError as error:
        for each in sockets:
            each.close()
        raise InvalidRequest(
            f"port: expected to listen at {host}, port {port}: {error.strerror}", param="port"
        ) from None
    return sockets


def port_of(bound: socket.socket) -> int:
    """The port that a socket is bound to, 0 for none."""
    port = bound.getsockname()[1]
    assert isinstance(port, int)
    return port


_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]


def _addresses(host: str, port: int) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))  # type: ignore[arg-type]  # of the internet, whose addresses are tuples
