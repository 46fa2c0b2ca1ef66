"""What ropewalk makes of a tiny checkpoint, against stock transformers built from an edited configuration."""

from __future__ import annotations

import contextlib
import copy
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from zoo_models import VOCABULARY, WINDOW, tiny_config, tiny_model

from ropewalk.errors import RopewalkError
from ropewalk.methods import make_params, resolve
from ropewalk.models import ModelSpec, load, read_geometry
from ropewalk.models.size import read_size, size_of_loaded
from ropewalk.scheme import Scheme
from ropewalk.scoring import Failure, NllRow, fast, score, split

LENGTH = 2 * WINDOW
TOLERANCE = 1e-4
"""Nats per token: float32 sums in another order differ by 1e-6, a rotation that is off by a thousandth by 1e-3."""

METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "yarn": (
        {"factor": 2},
        {"rope_type": "yarn", "factor": 2.0},
    ),
    "linear": ({"factor": 2}, {"rope_type": "linear", "factor": 2.0}),
}
"""Method -> its parameters here, and the keys of `rope_parameters` that mean the same in transformers."""

SCALING = frozenset(
    {"rope_type", "type", "factor", "original_max_position_embeddings", "max_position_embeddings", "attention_factor"}
    | {"beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim", "short_factor", "long_factor"}
    | {"low_freq_factor", "high_freq_factor"}
)
"""Keys of `rope_parameters` that one scaling leaves behind when another takes its place."""

WHOLE_CONTEXT = {
    "deepseek_v4": ("compress",),
    "dots3_note": ("indexed_attention",),
    "dots3_note_text": ("indexed_attention",),
    "zaya": ("hybrid",),
}
"""The keys of `rope_parameters` whose layers see the whole context, where that is not full_attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One path through ropewalk, or both together.

    Attributes:
        status: "equal", "wrong", "refused" or "crash"; "blind" where a rotation moves no loss; "not built" without a
            tiny checkpoint.
        note: the differences, the sentence of the refusal, or the exception.
    """

    status: str
    note: str = ""


def compare(name: str, model_type: str, directory: Path) -> Verdict:
    """A class's tiny checkpoint, judged on the default path and on the exact one; what is worse counts."""
    try:
        model = tiny_model(tiny_config(name), name)
        expected = {"none": stock_nll(model, model_type, {})}
    except Exception as error:
        return Verdict(status="not built", note=_sentence(error))
    model.save_pretrained(directory)
    for method, (_, scaling) in METHODS.items():
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # transformers cannot scale it
            expected[method] = stock_nll(model, model_type, scaling)
    default, exact = (judge(directory, expected, exact=way) for way in (False, True))
    if default.status == "refused" and exact.status == "equal":
        return Verdict(status="equal with --exact", note=default.note)
    return exact if default.status in ("equal", "refused") else default


def tokens() -> torch.Tensor:
    """`[1, LENGTH]` random token ids, no special ones."""
    return torch.randint(3, VOCABULARY, (1, LENGTH), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def stock_nll(model: Any, model_type: str, scaling: Mapping[str, Any]) -> np.ndarray:
    """Token NLL of the class built anew from the edited configuration, with the same weights, eager attention."""
    config = copy.deepcopy(model.config)
    if scaling:
        edit(config.get_text_config(decoder=True), model_type, scaling)
    twin = type(model)._from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    twin.load_state_dict(model.state_dict())
    ids = tokens()
    logits = twin(input_ids=ids, use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1].float(), ids[0, 1:], reduction="none").numpy()


def edit(text: Any, model_type: str, scaling: Mapping[str, Any]) -> None:
    """Scale what a user of transformers would scale: the rotation of the layers that see the whole context."""
    rope = text.rope_parameters
    nested = [key for key, value in rope.items() if isinstance(value, Mapping)]
    for part in [rope[key] for key in WHOLE_CONTEXT.get(model_type, ("full_attention",))] if nested else [rope]:
        scaling = {**scaling, **extra(model_type, part, scaling)}
        whole = part.get("rope_type") == "proportional"  # rotates whole heads, partly at frequency 0
        original = part.get("original_max_position_embeddings", WINDOW)
        for key in [key for key in part if key in SCALING or (whole and key == "partial_rotary_factor")]:
            del part[key]
        part |= {"original_max_position_embeddings": original, **scaling} if scaling["rope_type"] == "yarn" else scaling


def extra(model_type: str, part: Mapping[str, Any], scaling: Mapping[str, Any]) -> dict[str, Any]:
    """What attention reads beside a rotation and keeps (Ministral 3's temperature), or wants said twice (PhiMoE)."""
    if "llama_4_scaling_beta" in part:
        return {"original_max_position_embeddings": part["original_max_position_embeddings"]}
    if model_type == "phimoe":
        factor = 0.1 * math.log(scaling["factor"]) + 1 if scaling["rope_type"] == "yarn" else 1.0
        return {"short_mscale": factor, "long_mscale": factor, "original_max_position_embeddings": WINDOW}
    return {}


def judge(directory: Path, expected: Mapping[str, np.ndarray], *, exact: bool) -> Verdict:
    """What one path through ropewalk makes of a checkpoint."""
    try:
        found = measured(directory, exact=exact)
    except RopewalkError as refusal:
        return Verdict(status="refused", note=str(refusal).replace(f"model {str(directory)!r}", "the model"))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Verdict(status="crash", note=f"{_sentence(error)} ({Path(place.filename).name}:{place.lineno})")
    if len(expected) < len(METHODS):
        return Verdict(status="wrong", note="measured under a scaling that transformers itself cannot run")
    off = {method: float(np.abs(found[method] - nll).max()) for method, nll in expected.items()}
    moved = float(np.abs(expected["linear"] - expected["none"]).max())
    if moved < 20 * TOLERANCE:
        return Verdict(status="blind", note=f"linear moves no loss by more than {moved:.1e} nats")
    note = ", ".join(f"{method} {value:.1e}" for method, value in off.items())
    return Verdict(status="equal" if max(off.values()) <= TOLERANCE else "wrong", note=f"off by nats: {note}")


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def measured(directory: Path, *, exact: bool) -> dict[str, np.ndarray]:
    """Token NLL per method, as a sweep scores it."""
    spec = ModelSpec(id=str(directory))
    geometry = read_geometry(spec)
    read_size(spec, "float32")
    loaded = load(
        spec, dtype="float32", device="cpu", attn_implementation="eager" if exact else None, tokenizer=object()
    )
    size_of_loaded(loaded)
    ids = tokens()[0].numpy().astype(np.int32)
    rows = [
        NllRow(ids=ids, scheme=Scheme(rotation=resolve(geometry, method, make_params(method, raw), LENGTH).rotation))
        for method, (raw, _) in METHODS.items()
    ]
    parts = split(loaded.model)
    if exact:
        outcomes = dict(outcome for batch in score(loaded.model, parts, rows, 1) for outcome in batch)
    else:
        with fast(loaded.model, parts, compiled=False) as parts:
            outcomes = dict(outcome for batch in score(loaded.model, parts, rows, 8 * LENGTH) for outcome in batch)
    for outcome in outcomes.values():
        assert not isinstance(outcome, Failure), outcome
    return {method: outcomes[i] for i, method in enumerate(METHODS)}
