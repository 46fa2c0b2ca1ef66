"""Stock transformers behind a small server of OpenAI's completions with echo, and every fault put into it by hand.

Nothing of ropewalk runs here: a fault is an edited configuration, an overwritten buffer, other tokens or a mask.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import torch

Ids = list[int]


def logprobs(model: Any, ids: Ids) -> list[float | None]:
    """Of every token but the first, which has none."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
    picked = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return [None, *picked.tolist()]


def answers(model: Any, change: Callable[[Ids], Ids] = lambda ids: ids) -> Callable[[str, Any], Any]:
    """What such a server says; `change` is what it makes of the tokens before it computes."""

    def handle(path: str, body: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "served"}]}
        if path != "/v1/completions":
            return None
        found = logprobs(model, change(body["prompt"]))
        return {"choices": [{"text": "x", "logprobs": {"token_logprobs": [*found, -0.5]}}]}

    return handle


@contextmanager
def serving(handle: Callable[[str, Any], Any]) -> Iterator[str]:
    """The address of a server on loopback, which ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            found = handle(self.path, body)
            raw = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def rebuilt(model: Any, rope: dict[str, Any], **changes: Any) -> Any:
    """The same weights under a configuration with other rope_parameters, or other keys."""
    config = copy.deepcopy(model.config)
    config.rope_parameters = copy.deepcopy(rope)
    for key, value in changes.items():
        setattr(config, key, value)
    other = type(model)(config).eval().requires_grad_(False)
    other.load_state_dict(model.state_dict())
    return other


def buffers(model: Any, *, kind: str = "", inv_freq: Any = None, factor: float | None = None) -> Any:
    """The model with the numbers of its rotary module overwritten."""
    module, before = model.model.rotary_emb, f"{kind}_" if kind else ""
    if inv_freq is not None:
        setattr(module, f"{before}inv_freq", torch.as_tensor(inv_freq, dtype=torch.float32))
    if factor is not None:
        setattr(module, f"{before}attention_scaling", factor)
    return model
