"""What a tuning needs is said before it runs, and a length that does not fit is refused with one that does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ropewalk.cli.arguments import seconds
from ropewalk.errors import ExperimentError, ModelError
from ropewalk.model_spec import ModelSpec
from ropewalk.models import load
from ropewalk.models.size import ModelSize, read_size
from ropewalk.scoring.memory import weight_bytes
from ropewalk.tuning import loss, memory
from ropewalk.tuning.asked import Request
from ropewalk.tuning.plan import lines, plan

REQUEST = Request(length=256, budget_s=100.0, repeats=2)


def test_it_counts_steps_and_tokens(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a clock on which everything takes 2 s; steps are probed with the kernels that they are taken with."""
    ticks: Iterator[int] = iter(range(0, 1000, 2))
    own, strict = loss.descend, list[bool]()

    def descend(*args: Any) -> loss.Loss:
        strict.append(torch.are_deterministic_algorithms_enabled())
        return own(*args)

    monkeypatch.setattr("ropewalk.tuning.plan.descend", descend)
    found = plan(asked, REQUEST, clock=lambda: float(next(ticks)))
    assert (found.what, found.documents, found.step_s) == ("rotation+head+pair", (3, 3), 2.0)
    assert found.steps == 48  # 97 % of 100 s
    assert strict == [True, True]
    assert found.pass_s == pytest.approx(found.pass_tokens * 2.0 / 256)
    least = 12 * 3 * 256 + 14 * (3 * 256 + 2 * 2 * (176 + 256))  # of a dozen configurations and rows
    assert least < found.pass_tokens < 4 * least
    assert found.seconds == pytest.approx(2 * 48 * 2.0 + found.pass_s)
    text = "\n".join(lines(found, REQUEST))
    assert "tuned on 3 documents and judged on 3 others" in text
    assert "48 steps of 2 descents take 192 s" in text
    shared = dataclasses.replace(found, workers=2)
    assert shared.seconds == found.seconds / 2
    assert f"{shared.seconds:.0f} s in all, by 2 workers." in "\n".join(lines(shared, REQUEST))
    assert re.search(r"Memory: at least \d+ MB on cpu, \d+ MB of them weights", text)


@pytest.mark.parametrize(
    ("shape", "length", "peak"),
    [("1B", 32768, 9.69e9), ("1B", 131072, 31.15e9), ("8B", 32768, 33.92e9), ("8B", 131072, 87.29e9)],
)
def test_memory_is_what_a_gpu_took_and_at_most_an_eighth_more(shape: str, length: int, peak: float) -> None:
    """Peaks of one H200 (docs/results/tune.md, Cost of a step)."""
    widths = {"1B": (1_235_814_400, 2048, 8192, 64, 16), "8B": (8_030_261_248, 4096, 14336, 128, 32)}[shape]
    parameters, hidden, intermediate, head_dim, layers = widths
    size = ModelSize(
        parameters=parameters, element_bytes=2, hidden=hidden, inner=3 * intermediate, head_dim=head_dim,
        queries=hidden, keys=8 * head_dim, vocabulary=128_256, layers=layers, sliding_window=None, device="cuda",
    )  # fmt: skip
    assert peak < weight_bytes(size) + memory.step_bytes(size, length) < 1.125 * peak


def test_a_length_that_does_not_fit_is_refused_with_one_that_does(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the weights are there: what they will take is not free."""
    size = dataclasses.replace(read_size(ModelSpec(id=asked.model), "float32"), device="cuda")
    room = weight_bytes(size) + memory.step_bytes(size, 8192)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (room, room))
    memory.require_size(size, 8192, None)
    with pytest.raises(ModelError, match=r"--length 9000: a step .* the longest length that fits is 8192"):
        memory.require_size(size, 9000, None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    memory.require_size(size, 9000, "auto")  # what one holds too little for, two hold


def test_on_a_cpu_too_a_length_that_does_not_fit_is_refused(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the weights are there, and beside them."""
    size = read_size(ModelSpec(id=asked.model), "float32")
    room = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": weight_bytes(size) + memory.step_bytes(size, 2048)}
    monkeypatch.setattr("ropewalk.tuning.memory.os.sysconf", room.__getitem__)
    with pytest.raises(ModelError, match=r"--length 3000: a step .* the longest length that fits is 2048"):
        memory.require_size(size, 3000, None)
    model = load(ModelSpec(id=asked.model), dtype="float32", device="cpu").model
    memory.require(model, 2048)
    with pytest.raises(ModelError, match=r"--length 3000: a step .* the longest length that fits is 2048"):
        memory.require(model, 3000)


def test_a_budget_is_a_number_with_a_unit() -> None:
    assert [seconds(text) for text in ("90s", "5m", "1h")] == [90.0, 300.0, 3600.0]
    for text in ("5", "m", "0m", "-1m", "5 m", "5d"):
        with pytest.raises(ExperimentError, match=r"--budget .* must be a whole number with s, m or h"):
            seconds(text)
