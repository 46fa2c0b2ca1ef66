"""Dual chunk attention (arXiv:2402.17463, HKUNLP/ChunkLlama): positions within chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ropewalk.errors import MethodError
from ropewalk.methods.method import KIND, Extension, Method
from ropewalk.methods.parameters import Choice, Tokens
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Branch, Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class DualChunk(Extension):
    method: ClassVar[str] = "dca"
    chunk_size: int | None = field(default=None, metadata={KIND: Tokens(doc="c in tokens; null is 3/4 L0")})
    local_size: int | None = field(default=None, metadata={KIND: Tokens(doc="l in tokens; null is L0/8")})
    reading: Literal["paper", "released"] = field(
        default="paper",
        metadata={KIND: Choice(options=("paper", "released"), doc="released: cos and sin grow beyond the window, too")},
    )

    @property
    def c(self) -> int:
        """chunk_size in tokens, once resolved."""
        return self.window * 3 // 4 if self.chunk_size is None else self.chunk_size

    @property
    def local(self) -> int:
        """local_size in tokens, once resolved."""
        return self.window // 8 if self.local_size is None else self.local_size


def dca(geometry: RopeGeometry, params: DualChunk, length: int) -> Scheme:
    """Chunks of m = c - l tokens. Same chunk: i mod m - j mod m. The one before: min(i mod m + m, c) - j mod m. Older:
    min(2m - 1, c) - j mod m.

    The authors' code has this map in all its versions. Its first (15c5787c) takes l = L0/16 and multiplies nothing, as
    the paper; the last (847ae71a), for which results in the paper did not speak, takes l = L0/8, which is the default
    here, and multiplies cos and sin by 0.05 ln(L / L0) + 1 for L > L0, L being the longest text that its cache has
    seen. `reading: released` does that too, with L the length that is measured; then it depends on the length.

    Raises:
        MethodError: l is not smaller than c, or c is more than the window.
    """
    c, local = params.c, params.local
    size = c - local
    if size < 1 or c > params.window:
        raise MethodError(
            f"dca: local_size={local} must be smaller than chunk_size={c}, and that at most the trained window of "
            f"{params.window} tokens; leave both out for {params.window * 3 // 4} and {params.window // 8}."
        )
    own = Rotation(inv_freq=geometry.unscaled_inv_freq, attention_factor=_factor(params, length))
    key = Positions(period=size)
    before, older = Positions(period=size, offset=size, limit=c), Positions(scale=0, offset=min(2 * size - 1, c))
    branches = (
        Branch(rotation=own, block=size, stop=1),
        Branch(rotation=own, block=size, start=1, stop=2, query=before, key=key),
        Branch(rotation=own, block=size, start=2, query=older, key=key),
    )
    return Scheme(rotation=own, branches=branches)


def _factor(params: DualChunk, length: int) -> float:
    beyond = params.reading == "released" and length > params.window
    return 0.05 * math.log(length / params.window) + 1 if beyond else 1.0


def varies(geometry: RopeGeometry, params: DualChunk) -> bool:
    """The released factor does."""
    return params.reading == "released"


METHOD = Method(
    name="dca",
    params=DualChunk,
    function=dca,
    paper="An et al. 2024, arXiv:2402.17463; code: HKUNLP/ChunkLlama",
    summary="Any length by chunks; what Qwen served a million tokens with.",
    formula="same chunk: t; the one before: min(i mod m + m, c) - j mod m; older: min(2m-1, c) - j mod m; m = c - l",
    varies=varies,
)
