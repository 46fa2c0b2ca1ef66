"""SGLang's dual chunk attention: the line, and that its two numbers make the very branches that were measured.

The table of positions is computed the way sglang 0.5.18 goes (DualChunkRotaryEmbedding: a table for each of five
queries, of which three are used; keys counted within chunks), read there and not copied.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ropewalk.errors import ExportError
from ropewalk.export import sglang
from ropewalk.export.request import Checkpoint, request
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import distance_map

WINDOW = 64
QWEN = Checkpoint(name="Qwen/some", model_type="qwen2")


def geometry(**raw: Any) -> RopeGeometry:
    return RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=WINDOW, **raw)


def asked(
    method: str = "dca", checkpoint: Checkpoint = QWEN, length: int | None = 256, geo: Any = None, **raw: Any
) -> Any:
    return request(geo or geometry(), method, raw, length, checkpoint, branches=True)


def positions(config: dict[str, int], tokens: int) -> np.ndarray:
    """The distance that each query is told of each key; queries of a chunk look at it, the one before, all older."""
    chunk_len = config["chunk_size"] - config["local_size"]
    place = np.arange(tokens)
    own, before = place % chunk_len, np.minimum(place % chunk_len + chunk_len, config["chunk_size"])
    inter = np.minimum(np.arange(chunk_len) + chunk_len, config["chunk_size"])[chunk_len - 1]
    chunk, told = place // chunk_len, np.full((tokens, tokens), np.nan)
    for i in range(tokens):
        for j in range(i + 1):
            query = own[i] if chunk[i] == chunk[j] else before[i] if chunk[i] == chunk[j] + 1 else inter
            told[i, j] = query - own[j]
    return told


@pytest.mark.parametrize("raw", [{}, {"chunk_size": 40, "local_size": 25}, {"chunk_size": 48, "local_size": 4}])
def test_its_two_numbers_make_the_branches_that_were_measured(raw: dict[str, int]) -> None:
    wanted = asked(**raw)
    export = sglang.configure(wanted)
    config = export.config["dual_chunk_attention_config"]
    np.testing.assert_array_equal(distance_map(wanted.scheme.branches, 150), positions(config, 150))
    factor = max(1.0, 0.1 * np.log(256 / config["original_max_position_embeddings"]) + 1)
    assert factor == 1.0  # of keys and of logits, at the served length and at any shorter one
    assert config["sparse_attention_enabled"] is False
    assert export.config["max_position_embeddings"] == 256  # its table of keys ends there
    assert export.fidelity == "exact"


def test_the_line() -> None:
    (*line,) = sglang.configure(asked()).command
    assert line[3:5] == ["--model-path", "Qwen/some"]
    assert json.loads(line[6])["dual_chunk_attention_config"]["chunk_size"] == 48
    assert line[7:] == ["--context-length", "256", "--attention-backend", "dual_chunk_flash_attn", "--page-size", "1"]


def test_a_length_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(ExportError, match=r"^dca: has no factor that says for which length; give --length, in tokens"):
        asked(length=None)


SHIPPED = {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reading": "released"}, "sglang: dca with these parameters is not the dual chunk attention that it runs"),
        ({"method": "rerope", "neighbor_window": 16}, "sglang: rerope with these parameters is not the dual chunk"),
        ({"geo": geometry(rope_parameters=SHIPPED), "compose": "stack"}, "sglang: dca with these parameters is not"),
        (
            {"checkpoint": Checkpoint(model_type="llama")},
            "sglang: has dual chunk attention for qwen2, .* not for llama",
        ),
        ({"temperature": "logn"}, "dca: has a temperature beside its branches, which no engine runs"),
    ],
)
def test_what_it_would_run_otherwise_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=f"^{said}"):
        sglang.configure(asked(**change))
