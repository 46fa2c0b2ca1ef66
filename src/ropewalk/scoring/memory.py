"""How much memory a pass takes, estimated from a model's size; pure.

Between two layers a pass holds hidden states; within one it holds more, and what counts is the worst of three
moments: attention, MLP, and a chunk of logits. All three were read off the allocator (tests/scoring/test_memory.py).
"""

from __future__ import annotations

from ropewalk.models.size import ModelSize
from ropewalk.scoring.head import CHUNK_BYTES
from ropewalk.scoring.kernels import MLP_CHUNK_TOKENS

LIBRARIES_BYTES = 700_000_000
"""Python with torch and transformers loaded (375 MB), a tokenizer and documents; of a GPU, its context.

A run of SmolLM2-135M in float32 at 8192 tokens on a CPU took 1.45 GB resident, and 1.47 GB are estimated."""


def weight_bytes(size: ModelSize) -> int:
    """Bytes of the weights, unquantised."""
    return size.parameters * size.element_bytes


def pass_bytes(size: ModelSize, length: int, *, rows: int = 1, shared: bool = False) -> int:
    """Bytes that rows of `length` positions take at their worst moment, beside the weights.

    Args:
        size: of the model.
        length: positions fed per row.
        rows: in one batch.
        shared: keys and values of all layers are held, as for prompts that share a beginning.
    """
    element, positions = size.element_bytes, rows * length
    chunked = min(positions, MLP_CHUNK_TOKENS)
    mask = length**2 if size.sliding_window is not None and size.sliding_window < length else 0
    mlp = element * (4 * size.hidden * positions + size.inner * chunked) + mask
    attention = element * positions * (3 * size.hidden + 4 * size.queries + 3 * size.keys) + (1 + element) * mask
    head = element * size.hidden * positions + 2 * min(CHUNK_BYTES[size.device], 4 * size.vocabulary * length)
    held = element * 2 * size.keys * size.layers * positions if shared else 0
    ids_and_angles = positions * (8 + 4 * element * size.head_dim)  # cos and sin, for two kinds of layers
    return max(mlp, attention, head) + held + ids_and_angles


def peak_bytes(size: ModelSize, length: int, *, rows: int = 1, shared: bool = False) -> int:
    """Bytes of the whole process (CPU) or of the device: libraries, weights, and a batch of rows."""
    return LIBRARIES_BYTES + weight_bytes(size) + pass_bytes(size, length, rows=rows, shared=shared)


def rows_that_fit(size: ModelSize, length: int, most: int, free_bytes: float) -> int:
    """How many rows of `length` positions, up to `most`, fit beside the weights; at least one is tried."""
    return next((n for n in range(most, 1, -1) if pass_bytes(size, length, rows=n, shared=True) <= free_bytes), 1)
