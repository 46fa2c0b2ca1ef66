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


def pass_bytes(size: ModelSize, length: int, *, shared: bool = False) -> int:
    """Bytes that one row of `length` positions takes at its worst moment, beside the weights.

    Args:
        size: of the model.
        length: positions fed.
        shared: keys and values of all layers are kept, as passkey prompts that share a beginning do.
    """
    element = size.element_bytes
    chunked = min(length, MLP_CHUNK_TOKENS)
    mask = length**2 if size.sliding_window is not None and size.sliding_window < length else 0
    mlp = element * (4 * size.hidden * length + size.inner * chunked) + mask
    attention = element * length * (3 * size.hidden + 4 * size.queries + 3 * size.keys) + (1 + element) * mask
    head = element * size.hidden * length + 2 * min(CHUNK_BYTES[size.device], 4 * size.vocabulary * length)
    kept = element * 2 * size.keys * size.layers * length if shared else 0
    ids_and_angles = length * (8 + 4 * element * size.head_dim)  # cos and sin, for two kinds of layers
    return max(mlp, attention, head) + kept + ids_and_angles


def peak_bytes(size: ModelSize, length: int, *, shared: bool = False) -> int:
    """Bytes of the whole process (CPU) or of the device: libraries, weights, and a row of `length` positions."""
    return LIBRARIES_BYTES + weight_bytes(size) + pass_bytes(size, length, shared=shared)
