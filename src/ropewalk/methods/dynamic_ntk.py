"""Dynamic NTK: ntk_aware with a base that grows with the length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ropewalk.methods.method import Method, Scaled
from ropewalk.methods.ntk_aware import larger_base, larger_theta
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicNtk(Scaled):
    method: ClassVar[str] = "dynamic_ntk"


def dynamic_ntk(geometry: RopeGeometry, params: DynamicNtk, length: int) -> Rotation:
    """ntk_aware with alpha = s L/L0 - (s-1) beyond the window, f inside it (emozilla 2023).

    At s = 1 alpha is L/L0, not 1: beyond the window the base grows even then, here as in transformers.
    Departs from transformers on purpose: L0 is the trained window, there it is max_position_embeddings.
    """
    return larger_base(geometry, alpha(params, length), params.method)


def alpha(params: DynamicNtk, length: int) -> float:
    """s L/L0 - (s-1) beyond the window, 1 inside it."""
    return 1.0 + params.s * (max(length, params.window) / params.window - 1.0)


def hf(geometry: RopeGeometry, params: DynamicNtk, length: int) -> dict[str, Any]:
    """The rope_theta of this length; transformers' own `dynamic` follows the length, from another window."""
    return larger_theta(geometry, alpha(params, length))


def grows(geometry: RopeGeometry, params: Any) -> bool:
    """Beyond the window every length has a base of its own, whatever the factor."""
    return True


METHOD = Method(
    name="dynamic_ntk",
    params=DynamicNtk,
    function=dynamic_ntk,
    paper="emozilla 2023 (r/LocalLLaMA, 'Dynamically Scaled RoPE'); arXiv:2309.00071, section 3.3",
    summary="Without finetuning, costs nothing inside the window; depends on the length, so cached keys go stale.",
    formula="lambda_i = alpha^(2i/(d-2)), alpha = s L/L0 - (s-1) for L > L0, else 1; A = 1",
    hugging_face="dynamic",
    varies=grows,
    hf=hf,
)
