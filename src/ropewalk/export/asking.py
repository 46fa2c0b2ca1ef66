"""JSON over HTTP from a server that is not trusted: bounded in bytes and in time, and from the named address alone."""

from __future__ import annotations

import http.client
import io
import json
import ssl
import time
import urllib.parse
from dataclasses import dataclass
from socket import socket
from typing import Any, cast

from typing_extensions import Buffer, override

from ropewalk.errors import ExportError

CONNECT_S = 10.0
SHOWN = 300
"""Characters of what a server says that a refusal quotes."""
REMEDY = "check that --target names the server's engine, that it serves this model, and its version"


class Refused(ExportError):
    """The server answered with an HTTP error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where to ask, for how long, and the words of error messages.

    Attributes:
        url: scheme, host, port and perhaps a path, without a slash at its end.
        ends: when the last answer has to be there, seconds of `time.monotonic`.
        most: bytes of one answer, headers included.
    """

    url: str
    ends: float
    most: int

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            extra = parts.username is not None or parts.query or parts.fragment
        except ValueError:  # a port that is none, half a bracket
            known, extra = False, False
        if extra:
            raise ExportError("server: must be http://HOST:PORT alone, as neither passwords nor queries are sent.")
        if not known:
            raise ExportError(f"server {self.url!r}: must be http://HOST:PORT, as the server prints it.")

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST of JSON. No redirect is followed and no proxy asked.

        Raises:
            Refused: the server answers with an error, or points elsewhere.
            ExportError: no JSON comes back within the time and the bytes.
        """
        try:
            status, raw = self._answer(path, None if body is None else json.dumps(body).encode())
            if status == http.client.OK:
                return json.loads(raw)
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as wrong:
            raise ExportError(
                f"server {self.url}{path}: gives no answer ({_short(str(wrong))}); is the server running?"
            ) from wrong
        said = _short(raw[:SHOWN].decode(errors="replace"))
        where = ", a redirect, which is not followed: name the address it leads to" if 300 <= status < 400 else ""
        raise Refused(f"server {self.url}{path}: answers {status} ({said}){where}; {REMEDY}.")

    def _answer(self, path: str, data: bytes | None) -> tuple[int, bytes]:
        parts = urllib.parse.urlsplit(self.url)
        keywords: dict[str, Any] = {"timeout": min(CONNECT_S, _left(self.ends))}
        if parts.scheme == "https":
            kind: type[http.client.HTTPConnection] = http.client.HTTPSConnection
            keywords["context"] = ssl.create_default_context()
        else:
            kind = http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, **keywords)
        connection.connect()
        with connection.sock as wire:
            connection.sock = cast(Any, _Bounded(wire, self.ends, self.most))
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST" if data is not None else "GET", parts.path + path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(self.most)

    def has(self, path: str) -> Any | None:
        """What stands at a path; None where the server refuses it."""
        try:
            return self.ask(path)
        except Refused:
            return None

    def broken(self, what: str) -> ExportError:
        """The server answers, but not as its engine is documented to."""
        return ExportError(f"server {self.url}: {what}; {REMEDY}.")


class _Bounded(io.RawIOBase):
    """A socket as http.client uses it, that takes so many bytes until such a time, however they drip."""

    def __init__(self, wire: socket, ends: float, most: int) -> None:
        self._wire, self._ends, self._room = wire, ends, most

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def sendall(self, data: bytes) -> None:
        self._wire.settimeout(_left(self._ends))
        self._wire.sendall(data)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        self._wire.settimeout(_left(self._ends))
        got = self._wire.recv_into(buffer)
        self._room -= got
        if self._room < 0:
            raise OSError("it is longer than any that was asked for")
        return got

    @override
    def close(self) -> None:
        """Nothing: http.client closes before it has read to the end."""


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long in all")
    return left


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."
