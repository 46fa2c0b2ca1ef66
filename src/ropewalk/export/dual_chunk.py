"""Dual chunk attention for SGLang: `dual_chunk_attention_config`, which versions up to 0.5.18 run on CUDA.

Read at sglang 0.5.18, layers/attention/dual_chunk_flashattention_backend.py and DualChunkRotaryEmbedding: chunks of
chunk_size - local_size tokens, the chunk before at min(i mod m + m, chunk_size), older ones at its last position, under
the unscaled rotation whatever rope_parameters say. That is the reading `paper`. Keys are also multiplied by max(1, 0.1
ln(T / original_max_position_embeddings) + 1) of a text of T tokens, and so is the softmax scale; without that key a
prompt fails. With the served length under it both are 1. Version 0.5.21 has the key, and no attention that reads it.
"""

from __future__ import annotations

import json

from ropewalk.errors import ExportError
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.methods.dca import DualChunk
from ropewalk.rope import Rotation
from ropewalk.scheme import Branch, Positions

MODELS = frozenset({"qwen2", "qwen2_moe", "qwen3_moe"})
"""Models whose attention SGLang 0.5.18 builds with the key, with heads that turn in halves."""

BACKEND = "dual_chunk_flash_attn"
NEAREST = "what comes nearest is a rotation for all distances, such as yarn; `ropewalk run` measures both"


def dual_chunk(asked: Request) -> Export:
    """The line that runs these branches.

    Raises:
        ExportError: they are no dual chunk attention as SGLang has it, or the model has none there.
    """
    own, params = Rotation(inv_freq=asked.geometry.unscaled_inv_freq), asked.params
    if not isinstance(params, DualChunk) or asked.branches != served(own, params.c, params.local):
        raise ExportError(
            f"sglang: {asked.method} with these parameters is not the dual chunk attention that it runs (dca, "
            f"reading=paper, over the unscaled rotation); {NEAREST}."
        )
    checkpoint = asked.checkpoint
    if checkpoint.model_type not in MODELS or checkpoint.nested or asked.geometry.layer_type is not None:
        raise ExportError(
            f"sglang: has dual chunk attention for {', '.join(sorted(MODELS))} and not for {checkpoint.model_type}; "
            f"{NEAREST}."
        )
    config = {
        "max_position_embeddings": max(asked.length, asked.geometry.max_position_embeddings),
        "dual_chunk_attention_config": {
            "chunk_size": params.c,
            "local_size": params.local,
            "original_max_position_embeddings": asked.length,
            "sparse_attention_enabled": False,
        },
    }
    launch = ("python", "-m", "sglang.launch_server", "--model-path", checkpoint.name)
    options = ("--json-model-override-args", json.dumps(config), "--context-length", str(asked.length))
    return Export(
        engine="sglang",
        fidelity="exact",
        config=config,
        command=(*launch, *options, "--attention-backend", BACKEND, "--page-size", "1"),
        notes=(
            *common_notes(asked),
            "SGLang 0.5.18 runs it, on CUDA, read from its source and not run by us: --check it. 0.5.21 has no such "
            "attention any more and refuses the line.",
            "original_max_position_embeddings is the served length, so that neither keys nor logits are multiplied.",
        ),
    )


def served(own: Rotation, chunk_size: int, local_size: int) -> tuple[Branch, ...]:
    """What SGLang makes of its two numbers."""
    size = chunk_size - local_size
    key = Positions(period=size)
    before = Positions(period=size, offset=size, limit=chunk_size)
    older = Positions(scale=0, offset=min(2 * size - 1, chunk_size))
    return (
        Branch(rotation=own, block=size, stop=1),
        Branch(rotation=own, block=size, start=1, stop=2, query=before, key=key),
        Branch(rotation=own, block=size, start=2, query=older, key=key),
    )
