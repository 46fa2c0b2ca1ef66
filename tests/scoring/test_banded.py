"""Attention within a sliding window, against the same under one mask over all keys."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_causal_mask_function,
    sliding_window_causal_mask_function,
)

from ropewalk.scoring.banded import banded, mask_unless_sliding, slides

WINDOW = 8


@pytest.mark.parametrize(
    ("places", "keys"),
    [(1, 1), (5, 5), (8, 8), (9, 9), (16, 16), (24, 24), (29, 29), (64, 64), (20, 23), (3, 40), (33, 70)],
)
def test_it_is_attention_under_the_mask(places, keys):
    draw = torch.Generator().manual_seed(places)
    query, key, value = (
        torch.randn(2, heads, size, dim, generator=draw)
        for heads, size, dim in ((4, places, 16), (2, keys, 16), (2, keys, 12))
    )
    asks, seen = torch.arange(keys - places, keys)[:, None], torch.arange(keys)
    mask = (seen <= asks) & (seen > asks - WINDOW)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(banded(query, key, value, 0.3, WINDOW), expected, rtol=0, atol=1e-5)


def test_only_a_plain_sliding_window_is_one():
    sliding = sliding_window_causal_mask_function(WINDOW)
    assert slides(sliding, WINDOW)
    assert not slides(sliding_window_causal_mask_function(WINDOW + 1), WINDOW)
    assert not slides(sliding_window_causal_mask_function(WINDOW - 1), WINDOW)
    assert not slides(causal_mask_function, WINDOW)
    assert not slides(chunked_causal_mask_function(WINDOW, torch.zeros(1, dtype=torch.long)), WINDOW)
    assert not slides(and_masks(sliding, lambda b, h, q, k: q - k != 3), 4)


def test_other_masks_are_made_as_they_are():
    common = {"mask_function": sliding_window_causal_mask_function(WINDOW), "local_size": WINDOW}
    assert mask_unless_sliding(1, 32, 32, **common) is None
    padded = torch.ones(1, 32, dtype=torch.bool).index_fill(1, torch.tensor([0]), False)
    made = mask_unless_sliding(1, 32, 32, attention_mask=padded, **common)
    assert made is not None
    assert not made[0, 0, 7, 0]
    chunked = chunked_causal_mask_function(WINDOW, torch.zeros(1, dtype=torch.long))
    made = mask_unless_sliding(1, 32, 32, mask_function=chunked, local_size=WINDOW)
    assert made is not None
    assert made[0, 0, 8].nonzero().ravel().tolist() == [8]
