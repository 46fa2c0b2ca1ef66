"""The proof: an exported directory under stock transformers against the model that was measured."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from ropewalk.corpus import Document, load_documents, tokenize
from ropewalk.errors import ExportError
from ropewalk.export.checkpoint import Described
from ropewalk.export.request import Request
from ropewalk.models import ModelSpec, load, patched
from ropewalk.rope import Rotation

TOLERANCE = 1e-3
"""Allowed difference of the mean NLL, nats/token."""

TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Mean NLL in nats/token of the exported and of the patched model on the same tokens."""

    exported: float
    measured: float
    tokens: int
    document: str

    @property
    def sentence(self) -> str:
        return (
            f"transformers {transformers.__version__}: mean NLL {self.exported:.6f} nats/token from the exported "
            f"directory, {self.measured:.6f} from the patched model, on the first {self.tokens} tokens of "
            f"{self.document}."
        )


def check(directory: Path, found: Described, asked: Request) -> Checked:
    """Score the first tokens of a built-in document with both, one model in memory at a time.

    Raises:
        ExportError: the means differ by more than TOLERANCE.
    """
    document = load_documents({"corpus": "builtin", "count": 1})[0]
    tokens = min(asked.length, TOKENS)
    measured = _mean_nll(found.spec, document, tokens, asked.rotation)
    exported = _mean_nll(ModelSpec(id=str(directory)), document, tokens, None)
    result = Checked(exported=exported, measured=measured, tokens=tokens, document=document.id)
    if not abs(exported - measured) <= TOLERANCE:
        raise ExportError(
            f"{asked.method}: the exported model is not the measured one ({result.sentence[:-1]}; allowed difference "
            f"{TOLERANCE}); nothing was written, so choose another method and report this."
        )
    return result


def _mean_nll(spec: ModelSpec, document: Document, length: int, rotation: Rotation | None) -> float:
    loaded = load(spec, device="cpu")
    ids = torch.from_numpy(tokenize(loaded.tokenizer, document).ids[:length].copy()).long()[None]
    with torch.no_grad(), contextlib.nullcontext() if rotation is None else patched(loaded.model, rotation):
        logits = loaded.model(input_ids=ids, use_cache=False).logits.float()
    return float(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))
