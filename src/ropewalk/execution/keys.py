"""Key tokens of the documents: from ready spans, or found by an evaluator model, once for the whole grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import KeySpans, Tokens
from ropewalk.errors import ExperimentError
from ropewalk.methods import make_params, resolve
from ropewalk.metrics.key_tokens import KeyRule, short_readings, spans_of
from ropewalk.metrics.readings import Reading
from ropewalk.models import LoadedModel
from ropewalk.scheme import Scheme
from ropewalk.scoring import Failure, NllRow, Split, score


def find(
    evaluator: LoadedModel, parts: Split, tokens: Tokens, rule: KeyRule, batch_tokens: int, characters: int
) -> tuple[KeySpans, Mapping[str, NDArray[Any]]]:
    """Key spans of one document under an evaluator, and what they come from.

    The evaluator reads no further than its trained window: past it its own long-context likelihood is worth nothing.

    Args:
        evaluator: the model that judges, with its own rotation.
        parts: the evaluator taken apart.
        tokens: the document under the evaluator's tokenizer.
        rule: short-context length, stride and thresholds.
        batch_tokens: positions per forward pass.
        characters: no token that starts at or after this one is asked about.

    Returns:
        The spans; arrays `nll_long` and `nll_short`, float32 `[T - 1]`, NaN where no short context was scored,
        and the tokens' character offsets `starts` and `ends`, int32 `[T]`.

    Raises:
        ExperimentError: the tokenizer gives no character offsets, or a pass failed.
    """
    if tokens.starts is None or tokens.ends is None:
        raise ExperimentError(
            f"longppl.evaluator={evaluator.provenance.id}: its tokenizer gives no character "
            "offsets; name another evaluator, or spans from a file."
        )
    window = evaluator.geometry.window("stack").length
    asked = int(np.searchsorted(tokens.starts, characters, side="left"))
    length = min(window, len(tokens.ids), asked)
    rotation = resolve(evaluator.geometry, "none", make_params("none", {}), length).rotation
    readings = [Reading(start=0, low=1, high=length), *short_readings(length, rule)]
    rows = [
        NllRow(ids=tokens.ids[r.start : r.high], scheme=Scheme(rotation=rotation), first=r.low - r.start)
        for r in readings
    ]
    losses: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(rows)
    for batch in score(evaluator.model, parts, rows, batch_tokens):
        for index, outcome in batch:
            if not isinstance(outcome, np.ndarray):
                reason = outcome.reason if isinstance(outcome, Failure) else "no losses"
                raise ExperimentError(
                    f"longppl.evaluator={evaluator.provenance.id} on {tokens.document.id}: "
                    f"{reason}; use a smaller trunc_len, a smaller evaluator, or ready spans."
                )
            losses[index] = outcome
    arrays = {
        "nll_long": losses[0],
        "nll_short": _short(length, readings[1:], losses[1:]),
        "starts": tokens.starts[:length],
        "ends": tokens.ends[:length],
    }
    spans = KeySpans(
        evaluator=evaluator.provenance.id,
        trunc_len=rule.trunc_len,
        stride=rule.stride,
        alpha=rule.alpha,
        beta=rule.beta,
        document_sha256=tokens.document.sha256,
        spans=spans_of(arrays, rule),
    )
    return spans, arrays


def _short(length: int, readings: Sequence[Reading], losses: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Losses `[length - 1]` out of those of readings `[high - low]` each; NaN between them."""
    nll = np.full(length - 1, np.nan, dtype=np.float32)
    for reading, values in zip(readings, losses, strict=True):
        nll[reading.low - 1 : reading.high - 1] = values
    return nll
