"""Memory that runs out in near and far attention, amid a pass: smaller batches, or a recorded failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from rows_for_tests import FLOAT_NOISE, ids, losses, outcomes, random_model

from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, NllRow, attention, fast, score, score_shared, split

LENGTH, WINDOW = 61, 32
METHODS: dict[str, dict[str, Any]] = {
    "self_extend": {"neighbor_window": 5, "group_size": 4},
    "dca": {"chunk_size": 13, "local_size": 3},
}


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model("Llama", num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=WINDOW)


@pytest.fixture(scope="module")
def parts(model: Any) -> Iterator[Any]:
    with fast(model, split(model), compiled=False) as found:
        yield found


def scheme(model: Any, method: str) -> Scheme:
    return resolve(geometry_of(model.config), method, make_params(method, METHODS[method]), LENGTH).scheme


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes branches of more than so many rows run out of memory in the second layer; gives what was tried."""
    tried: list[int] = []

    def at(most: int) -> list[int]:
        real, calls = attention.branched, dict[int, int]()

        def branched(query: Any, *more: Any) -> Any:
            rows = query.shape[0]
            calls[rows] = calls.get(rows, 0) + 1
            if calls[rows] % 2 == 0:  # of two layers
                tried.append(rows)
                if rows > most:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return real(query, *more)

        monkeypatch.setattr(attention, "branched", branched)
        return tried

    return at


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_is_halved_and_stays_there(model: Any, parts: Any, tight: Any, method: str) -> None:
    rows = [NllRow(ids=ids(LENGTH, seed), scheme=scheme(model, method)) for seed in range(9)]
    alone = losses(model, parts, rows)
    tried = tight(2)
    found = losses(model, parts, rows, batch_tokens=8 * LENGTH)
    assert tried == [5, 2, 2, 2, 2, 1]
    assert max(np.abs(one - other).max() for one, other in zip(found, alone, strict=True)) < FLOAT_NOISE


@pytest.mark.parametrize("run", [score, score_shared])
def test_what_does_not_fit_alone_is_a_failure_and_the_rest_goes_on(
    model: Any, parts: Any, tight: Any, run: Any
) -> None:
    far, plain = scheme(model, "self_extend"), Scheme(rotation=scheme(model, "self_extend").rotation)
    prompts = [np.concatenate([ids(50), ids(10, seed)]) for seed in (1, 2)]
    rows = [AnswerRow(ids=each, scheme=one, answer_tokens=3) for one in (far, plain) for each in prompts]
    expected = outcomes(model, parts, rows[2:], 1000)
    tight(0)
    found = outcomes(model, parts, rows, 1000, run=run)
    assert [each.status for each in found[:2]] == ["out_of_memory"] * 2
    assert "did not fit in memory" in found[0].reason
    for one, other in zip(found[2:], expected, strict=True):
        assert np.abs(one.nll - other.nll).max() < FLOAT_NOISE
