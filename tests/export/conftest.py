"""The tiny architectures of the model tests, described as an export sees them."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from raw_servers import raw as raw

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))


@pytest.fixture(autouse=True, scope="session")
def _silence() -> Iterator[None]:
    """transformers logs what it thinks of short_mscale and of drawn configurations."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


Handle = Callable[[str, Any], Any]


@pytest.fixture
def serve() -> Iterator[Callable[[Handle], str]]:
    """Start a server from a function (path, body or None) -> JSON; None is 404."""
    running: list[HTTPServer] = []

    def start(handle: Handle) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Any) -> None:
                found = handle(self.path, body)
                raw = json.dumps(found).encode() if not isinstance(found, bytes) else found
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
