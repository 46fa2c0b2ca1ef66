"""What a plan says about memory: an estimate from the model's configuration, before any weights are read."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.schema import MAX_LENGTH
from ropewalk.models.placement import SPREADS
from ropewalk.models.size import ModelSize, read_size, size_of_loaded
from ropewalk.scoring.budget import planned_rows
from ropewalk.scoring.memory import LIBRARIES_BYTES, pass_bytes, peak_bytes, weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a run at its worst moment: a batch of the longest length.

    Attributes:
        weights_bytes: unquantised, in the run's dtype.
        rows: of the longest length that go through together here.
        pass_bytes: of such a batch.
        peak_bytes: with LIBRARIES_BYTES for Python and torch.
        given_bytes: what the user has, if that was said.
        longest_length: the longest that fits into `given_bytes`, tokens; 0 where not even 4 tokens do.
    """

    weights_bytes: int
    rows: int
    pass_bytes: int
    peak_bytes: int
    given_bytes: int | None = None
    longest_length: int | None = None


def of(asked: Asked, given: int | None = None) -> Memory:
    """Estimate from the configuration; `given` is the memory to fit into, bytes.

    Raises:
        ModelError: see `read_size`.
    """
    loaded = asked.loaded
    size = read_size(asked.spec, asked.experiment.dtype) if loaded is None else size_of_loaded(loaded)
    shared = any(not each.prompts.new_tokens for each in asked.plan.prompts)
    length = asked.experiment.lengths[-1]
    rows = planned_rows(size, length, spread=asked.spec.device_map in SPREADS)
    return Memory(
        weights_bytes=weight_bytes(size),
        rows=rows,
        pass_bytes=pass_bytes(size, length, rows=rows, shared=shared),
        peak_bytes=peak_bytes(size, length, rows=rows, shared=shared),
        given_bytes=given,
        longest_length=None if given is None else longest(size, given, shared=shared),
    )


def longest(size: ModelSize, given: int, *, shared: bool) -> int:
    """The longest length whose peak fits into `given` bytes, by halving, tokens; 0 if none does."""
    low, high = 0, MAX_LENGTH + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak_bytes(size, middle, shared=shared) <= given else (low, middle)
    return low if low >= 4 else 0


def memory_line(memory: Memory) -> str:
    """The estimate for people."""
    said = (
        f"about {amount(memory.peak_bytes)} of memory: weights {amount(memory.weights_bytes)}, the longest pass "
        f"{amount(memory.pass_bytes)} ({memory.rows} rows at a time), libraries {amount(LIBRARIES_BYTES)}"
    )
    if memory.given_bytes is None:
        return said
    if not memory.longest_length:
        return f"{said}; nothing fits into {amount(memory.given_bytes)}: use a smaller dtype or model"
    return f"{said}; the longest length that fits into {amount(memory.given_bytes)} is {memory.longest_length} tokens"


def amount(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
