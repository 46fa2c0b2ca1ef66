"""Servers of raw bytes on loopback, and answers that never end."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

HEAD = b"HTTP/1.1 200 OK\r\n"


def answer(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def raw() -> Iterator[Callable[..., tuple[str, list[bytes]]]]:
    """Start a server that answers each connection with the chunks of a function, as long as somebody listens; gives
    its address, and what was sent to it."""
    stop, opened = threading.Event(), list[socket.socket]()

    def start(chunks: Callable[[], Iterable[bytes]], wait_s: float = 0.0) -> tuple[str, list[bytes]]:
        listening, heard = socket.create_server(("127.0.0.1", 0)), list[bytes]()
        opened.append(listening)

        def work() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    wire, _ = listening.accept()
                    with wire, contextlib.suppress(OSError):
                        heard.append(wire.recv(65536))
                        for chunk in chunks():
                            wire.sendall(chunk)
                            if stop.wait(wait_s):
                                break

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}", heard

    yield start
    stop.set()
    for each in opened:
        each.close()


ENDLESS: dict[str, Callable[[], Iterable[bytes]]] = {
    "a body": lambda: itertools.chain([HEAD + b"\r\n"], itertools.repeat(b" " * 2**16)),
    "a body of a length": lambda: [HEAD + b"Content-Length: %d\r\n\r\n" % 10**17, *[b" " * 2**20] * 64],
    "chunks": lambda: itertools.chain(
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
    ),
    "interim answers": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "an error": lambda: itertools.chain(
        [b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"],
        itertools.repeat(b"8000\r\n" + b" " * 0x8000 + b"\r\n"),
    ),
}
