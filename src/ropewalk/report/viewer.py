"""Pages of runs on this machine alone, made when they are asked for, so that they follow a run that goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from typing_extensions import override

from ropewalk.errors import RopewalkError, StoreError, visible
from ropewalk.experiment.guards import DATABASE, sound
from ropewalk.experiment.store import Store
from ropewalk.report import study
from ropewalk.report.catalogue import catalogue, runs
from ropewalk.report.content import content
from ropewalk.report.page import page

LOOPBACK = "127.0.0.1"
REFRESH_S = 20
"""How often the page of an unfinished run is loaded again."""


class Pages:
    """HTML by path: `/` is the run, or a list of the runs in a folder, and `/run/NAME` one of those; nothing else."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.folder, self.targets = folder, targets
        self.single = Store.exists(folder)
        self._made: dict[Path, tuple[int, str, bool]] = {}
        runs(folder)

    def get(self, path: str) -> tuple[str, bool] | None:
        """A page, and whether its run goes on; None where there is none."""
        if path == "/":
            return self._run(self.folder) if self.single else (catalogue(self.folder, self._address), False)
        for run in [] if self.single else runs(self.folder):
            if self._address(run.relative_to(self.folder).as_posix()) == f"/{quote(unquote(path[1:]))}":
                return self._run(run)
        return None

    def _address(self, name: str) -> str:
        return f"/run/{quote(name)}"

    def _run(self, run: Path) -> tuple[str, bool]:
        try:
            changed = os.stat(run / DATABASE).st_mtime_ns
        except OSError as error:
            raise StoreError(f"{run / DATABASE}: is gone ({error.strerror}); start `ropewalk view` again.") from None
        known = self._made.get(run)
        if known is None or known[0] != changed:
            with sound(run):
                found = study.read(run)
                known = (changed, page(content(found, targets=self.targets)), bool(found.missing.cells))
            self._made[run] = known
        return known[1:]


def server(folder: Path, port: int, targets: Sequence[str]) -> ThreadingHTTPServer:
    """A server bound to the loopback address; `port` 0 takes a free one.

    Raises:
        StoreError: there is no run, or the port is taken.
    """
    pages = Pages(folder, targets)

    class Handler(BaseHTTPRequestHandler):
        """Answers GET with pages, and nobody but this machine's own browser."""

        @override
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            """A page, or 404; 403 where another site's name was made to point here."""
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host not in (LOOPBACK, "localhost"):
                return self._send(403, "This server answers to 127.0.0.1 alone.")
            try:
                found = pages.get(urlsplit(self.path).path)
            except RopewalkError as error:
                return self._send(500, str(error))
            if found is None:
                return self._send(404, "There is no such page; go to /.")
            return self._send(200, found[0], html=True, again=found[1])

        def _send(self, status: int, text: str, *, html: bool = False, again: bool = False) -> None:
            data = text.encode("utf-8", "backslashreplace")
            self.send_response(status)
            self.send_header("Content-Type", f"text/{'html' if html else 'plain'}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            if again:
                self.send_header("Refresh", str(REFRESH_S))
            with contextlib.suppress(ConnectionError):  # nobody waits for it any more
                self.end_headers()
                self.wfile.write(data)

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
    except (OSError, OverflowError) as error:
        raise StoreError(
            visible(f"--port {port}: cannot be had ({error}); choose another, or 0 for a free one.")
        ) from None
