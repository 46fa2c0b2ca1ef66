"""From a measured rotation to the configuration of one engine; a rotation that it cannot run is refused.

A new engine is one file with a function `export(Request) -> Export`, and one line of ENGINES.
"""

from __future__ import annotations

from collections.abc import Callable

from ropewalk.export import hf, llamacpp, sglang, vllm
from ropewalk.export.request import Checkpoint, Export, Request, request

__all__ = ["ENGINES", "Checkpoint", "Export", "Request", "request"]

ENGINES: dict[str, Callable[[Request], Export]] = {
    "hf": hf.export,
    "vllm": vllm.export,
    "sglang": sglang.export,
    "llama.cpp": llamacpp.export,
}
