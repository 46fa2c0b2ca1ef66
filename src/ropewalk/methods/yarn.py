"""YaRN (arXiv:2309.00071)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ropewalk.errors import MethodError
from ropewalk.methods.blend import Pairs, blend, ramp_over_index, ramp_over_turns, softmax_factor, temperature
from ropewalk.methods.method import KIND, Auto, Method, Scaled, ordered
from ropewalk.methods.parameters import Choice, Flag, Number
from ropewalk.rope import RopeGeometry, Rotation

ATTENTION_FACTOR = Number(
    above=0, maximum=1e3, words=("auto",), doc="A, multiplies cos and sin; 'auto' takes the method's own formula"
)


def together(params: Yarn) -> None:
    """The rule that mscale_all_dim comes with mscale: transformers ignores it alone, so it would say two things."""
    if params.mscale_all_dim is not None and params.mscale is None:
        raise MethodError(
            f"yarn: mscale_all_dim={params.mscale_all_dim:g} counts only together with mscale; "
            "give both, or leave mscale_all_dim out."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Yarn(Scaled):
    method: ClassVar[str] = "yarn"
    rules: ClassVar = (
        ordered("beta_slow", "beta_fast", "write beta_slow 1 and beta_fast 32, as the paper does, turns in the window"),
        together,
    )
    beta_fast: float = field(
        default=32.0, metadata={KIND: Number(above=0, doc="turns in the window from which a pair is kept")}
    )
    beta_slow: float = field(
        default=1.0, metadata={KIND: Number(above=0, doc="turns in the window up to which a pair is divided by factor")}
    )
    attention_factor: float | Auto = field(default="auto", metadata={KIND: ATTENTION_FACTOR})
    mscale: float | None = field(
        default=None,
        metadata={KIND: Number(above=0, optional=True, doc="multiplies ln(factor) in attention_factor; null is 1")},
    )
    mscale_all_dim: float | None = field(
        default=None,
        metadata={KIND: Number(above=0, optional=True, doc="as mscale, in a divisor of attention_factor (DeepSeek)")},
    )
    truncate: bool = field(
        default=True, metadata={KIND: Flag(doc="round the bounds of the ramp to whole pairs; nothing with ramp: turns")}
    )
    ramp: Literal["index", "turns"] = field(
        default="index",
        metadata={
            KIND: Choice(options=("index", "turns"), doc="ramp in pair index (released code) or in turns (paper)")
        },
    )


def yarn(geometry: RopeGeometry, params: Yarn, length: int) -> Rotation:
    """Divide slow dimensions by s, keep fast ones, blend between; sharpen attention (arXiv:2309.00071, as released).

    1/lambda_i = (1-m)/s + m with the ramp m (blend.py); A = 0.1 mscale ln s + 1, divided by the same with
    mscale_all_dim where that is given too. In architectures whose attention reads mscale_all_dim (DeepSeek's), the
    divisor's square multiplies the softmax scale, as in transformers.

    Departs from the paper on purpose: eq. 18 ramps in turns per window, released code in pair index (up to 2.3
    times apart); `ramp: turns` is the paper's. Departs from transformers: mscale alone counts (ignored there).
    """
    return Rotation(
        inv_freq=blend(geometry.unscaled_inv_freq, kept(geometry, params), params.s),
        attention_factor=attention(params),
        softmax_factor=softmax_factor(geometry, params.s, params.mscale_all_dim),
    )


def kept(geometry: RopeGeometry, params: Yarn) -> Pairs:
    """m, the share of f that is kept, per pair."""
    if params.ramp == "turns":
        return ramp_over_turns(geometry, params.window, low=params.beta_slow, high=params.beta_fast)
    return ramp_over_index(
        geometry, params.window, params.beta_fast, params.beta_slow, truncate=params.truncate, method=params.method
    )


def attention(params: Yarn) -> float:
    """A: as given, else 0.1 mscale ln s + 1 over the same with mscale_all_dim, if there is one."""
    if not isinstance(params.attention_factor, str):
        return params.attention_factor
    sharpened = temperature(params.s, 1.0 if params.mscale is None else params.mscale)
    return sharpened if params.mscale_all_dim is None else sharpened / temperature(params.s, params.mscale_all_dim)


def hf(geometry: RopeGeometry, params: Yarn, length: int) -> dict[str, Any] | None:
    """`yarn` with A and truncate written out.

    None with a ramp in turns, and with bounds that are not rounded in models with several kinds of layers:
    transformers reads truncate beside those, and not among them.
    """
    if params.ramp != "index" or not (params.truncate or geometry.layer_type is None):
        return None
    return {
        "rope_type": "yarn",
        "factor": params.s,
        "original_max_position_embeddings": params.window,
        "beta_fast": params.beta_fast,
        "beta_slow": params.beta_slow,
        "attention_factor": attention(params),
        "truncate": params.truncate,
    }


METHOD = Method(
    name="yarn",
    params=Yarn,
    function=yarn,
    paper="Peng et al. 2023, arXiv:2309.00071",
    summary="The usual first choice beyond the window, with or without finetuning; factor: auto is the dynamic YaRN.",
    formula="1/lambda_i = (1-m_i)/s + m_i, m_i from 1 (beta_fast turns) to 0 (beta_slow); A = 0.1 mscale ln s + 1",
    hugging_face="yarn",
    hf=hf,
)
