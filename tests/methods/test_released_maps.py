"""The maps of distances that the authors' released code computes, on the same positions.

Tables are computed the way that code goes (chunk after chunk; positions as tensors and a mask of neighbours), read at
HKUNLP/ChunkLlama 15c5787c (chunkllama_attn_replace.py) and datamllab/LongLM 18950b5a (self_extend_patch/Llama.py).
Nothing of it is copied.
"""

import numpy as np
import pytest

from ropewalk.methods import make_params, resolve
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import distance_map

WINDOW = 64


def told(method, length, **raw):
    geometry = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=WINDOW)
    return distance_map(resolve(geometry, method, make_params(method, raw), length).scheme.branches, length)


def chunk_llama(length, chunk_size, local_window):
    """Three tables of query positions, one of keys; every chunk looks at itself, the one before and all older ones."""
    size = chunk_size - local_window
    intra, successive = np.arange(size), np.minimum(np.arange(size) + size, chunk_size)
    keys, found = np.arange(length) % size, np.full((length, length), np.nan)
    for begin in range(0, length, size):
        end = min(begin + size, length)
        own = np.arange(begin, end)
        place = own % size
        causal = own[:, None] >= own[None]
        found[begin:end, begin:end] = np.where(causal, intra[place][:, None] - keys[own], np.nan)
        if begin:
            before = np.arange(begin - size, begin)
            found[begin:end, before] = successive[place][:, None] - keys[before]
            found[begin:end, : begin - size] = successive[size - 1] - keys[: begin - size]
    return found


def long_lm(length, group_size_1, group_size_2):
    """Query and key positions of neighbours and of groups, and the triangle that is taken out of the neighbours."""
    place, lower = np.arange(length), np.tril(np.ones((length, length), bool))
    shift = 0 if place.max() < group_size_2 else group_size_2
    queries, keys = place // group_size_1 + shift - shift / group_size_1, place // group_size_1
    near = lower.copy()
    if length > group_size_2:
        near[group_size_2:, :-group_size_2] &= ~np.tril(np.ones((length - group_size_2,) * 2, bool))
    found = np.where(near, place[:, None] - place[None], queries[:, None] - keys[None])
    return np.where(lower, found, np.nan)


@pytest.mark.parametrize(("chunk", "local"), [(48, 4), (48, 8), (40, 25)])
@pytest.mark.parametrize("length", [30, 64, 201])
@pytest.mark.parametrize("reading", ["paper", "released"])
def test_dual_chunk_attention_is_the_released_one(length, chunk, local, reading):
    found = told("dca", length, chunk_size=chunk, local_size=local, reading=reading)
    np.testing.assert_array_equal(found, chunk_llama(length, chunk, local))


@pytest.mark.parametrize(("group", "near"), [(8, 16), (4, 30), (5, 12)])
@pytest.mark.parametrize("length", [20, 64, 161])
def test_self_extend_is_the_released_one(length, group, near):
    found = told("self_extend", length, group_size=group, neighbor_window=near, division="true")
    np.testing.assert_allclose(found, long_lm(length, group, near), rtol=0, atol=1e-12)
