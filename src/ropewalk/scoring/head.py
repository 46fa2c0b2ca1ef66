"""Hidden states to token NLL, without ever holding `[T, V]`.

Shapes: B rows, T positions, H hidden size, V vocabulary, N = B * T flattened positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ropewalk.errors import ModelError
from ropewalk.models import patched
from ropewalk.models.auto import before_head, trunk
from ropewalk.scoring.comparing import REFUSALS, apart, said, two_rotations
from ropewalk.scoring.foreign_errors import naming, part

CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 384 * 2**20}
"""Float32 logits that one chunk of positions may take: the cache counts on a CPU, the size of a product on a GPU."""

TILE = 256
"""A GPU multiplies positions in tiles of so many."""

PROBE_TOKENS = 8
PROBE_STRIDE = 7919
"""Between the ids that are tried: the first of a vocabulary are special tokens, on which a model may do anything."""

LSE_WIDTH = 1024
"""Logits that one log-sum-exp takes at most: compiled for a GPU it reads so many once, and a whole vocabulary twice."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits `[N, V]` (or hidden states `[N, H]`) and targets `[N]` to cross entropy in nats per token, float32 `[N]`."""


def token_nll(vocabulary: int) -> Loss:
    """The loss over a vocabulary: log-sum-exps of even parts of it, and then over those."""
    width = max(width for width in range(1, min(LSE_WIDTH, vocabulary) + 1) if vocabulary % width == 0)
    parts = vocabulary // width

    def nll(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        lse_N = logits_NV.unflatten(-1, (parts, width)).logsumexp(-1).logsumexp(-1)
        return lse_N - logits_NV.gather(-1, targets_N[:, None])[:, 0]

    return nll


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a causal language model does to its last hidden state: a linear map, then perhaps a scale and a cap.

    Attributes:
        weight: `[V, H]`.
        bias: `[V]` or None.
        multiplier: logits are multiplied by it (Cohere's `logit_scale`, Muse's `output_multiplier`,
            1 / Granite's `logits_scaling`).
        softcap: logits become `softcap * tanh(logits / softcap)` (Gemma 2's `final_logit_softcapping`).
        loss: what `token_nll` gave for V, perhaps compiled.
        fused: losses from hidden states in one step, where there is a kernel for it; None takes chunks of logits.
    """

    weight: Tensor
    bias: Tensor | None
    multiplier: float
    softcap: float | None
    loss: Loss
    fused: Loss | None = None

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Float32 `[N, V]`, also where the weights are narrower; for few positions only."""
        return self.shaped(self.product(hidden_NH))

    def product(self, hidden_NH: Tensor) -> Tensor:
        """The linear map alone, float32 `[N, V]`."""
        if hidden_NH.is_cuda and hidden_NH.dtype != torch.float32 and self.bias is None:
            return torch.mm(hidden_NH, self.weight.T, out_dtype=torch.float32)
        return F.linear(hidden_NH, self.weight, self.bias).float()

    def shaped(self, logits_NV: Tensor) -> Tensor:
        """Scale and cap of what `product` gives."""
        if self.multiplier != 1.0:
            logits_NV = logits_NV * self.multiplier
        if self.softcap is not None:
            logits_NV = torch.tanh(logits_NV / self.softcap) * self.softcap
        return logits_NV

    def nll(self, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
        """Negative log-likelihood of each target, nats, float32 `[N]`: fused, or in chunks of CHUNK_BYTES of logits."""
        if self.fused is not None:
            return self.fused(hidden_NH, targets_N)
        room = CHUNK_BYTES["cuda" if hidden_NH.is_cuda else "cpu"]
        chunk = max(1, room // (4 * self.weight.shape[0]))
        if hidden_NH.is_cuda and chunk > TILE:
            chunk -= chunk % TILE
        parts = []
        for hidden, targets in zip(hidden_NH.split(chunk), targets_N.split(chunk), strict=True):
            parts.append(self.loss(self.logits(hidden), targets))
        return torch.cat(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A causal language model as two functions, and which shortcuts are known to be right for it.

    Attributes:
        body: ids `[B, T]` (and positions `[1, T]`, from 0 if not given) to hidden states `[B, T, H]`.
        head: hidden states to losses.
        first: where token ids and positions belong; another GPU than the head's where a model is cut. A copy from one
            to the other would wait for all that both were asked for.
        rows: several texts go through beside each other, each under a rotation of its own.
        tail: the last layer may leave out positions that nobody asks for.
        held: prompts that begin alike may go on from held keys and values.
        attention: the implementation that runs.
        left_out: a sentence for every shortcut that gives other numbers.
        exact: the attention that is exact, where another runs; "" where none does.
        schemes: why the attention that runs does not give what the exact one gives under gains, temperatures and
            branches; None if it does. Asked, and proven, when such a scheme is first run.
    """

    body: Callable[..., Tensor]
    head: Head
    first: torch.device
    rows: bool = True
    tail: bool = False
    held: bool = False
    attention: str = ""
    left_out: tuple[str, ...] = ()
    exact: str = ""
    schemes: Callable[[], str | None] = lambda: None


def split(model: Any) -> Split:
    """Take a transformers causal language model apart, and prove on a few tokens that the parts make the whole, and
    that rows beside each other do not disturb each other.

    Raises:
        ForwardError: its forward pass fails.
        ModelError: the model's own logits are not what body and head give, so it cannot be scored in chunks; or they
            are not finite (overflow of float16, damaged weights).
    """
    text = model.config.get_text_config()
    embeddings = model.get_output_embeddings()
    scaling = getattr(text, "logits_scaling", None) or 1.0
    head = Head(
        weight=embeddings.weight,
        bias=getattr(embeddings, "bias", None),
        multiplier=(getattr(text, "logit_scale", None) or getattr(text, "output_multiplier", None) or 1.0) / scaling,
        softcap=getattr(text, "final_logit_softcapping", None),
        loss=token_nll(embeddings.weight.shape[0]),
    )
    base, last = trunk(model), before_head(model)

    first = model.get_input_embeddings().weight.device  # of a model over several devices another one than the head's

    def body(ids_BT: Tensor, positions_1T: Tensor | None = None) -> Tensor:
        positions = None if positions_1T is None else positions_1T.to(first)
        with naming(model):
            found = base(input_ids=ids_BT.to(first), position_ids=positions, use_cache=False)
            return last(part(model, found, "last_hidden_state")).to(head.weight.device)

    whole = Split(body=body, head=head, first=first)
    _prove(model, whole, vocabulary=embeddings.weight.shape[0])
    if (why := crosstalk(model, whole)) is None:
        return whole
    note = f"{type(model).__name__}: rows are scored one by one: {why}"
    return dataclasses.replace(whole, rows=False, left_out=(note,))


@torch.inference_mode()
def _prove(model: Any, parts: Split, vocabulary: int) -> None:
    device = parts.head.weight.device
    ids = torch.arange(1, PROBE_TOKENS + 1, device=device)[None] % vocabulary
    with naming(model):
        expected = part(model, model(input_ids=ids, use_cache=False), "logits")[0].float()
    if not bool(expected.isfinite().all()):
        narrow = str(model.dtype).removeprefix("torch.")
        raise ModelError(
            f"{type(model).__name__}: its logits on a few tokens are no finite numbers in {narrow}, so nothing can be "
            f"measured; use {'dtype bfloat16 or float32' if narrow == 'float16' else 'weights that are whole'}."
        )
    found = parts.head.logits(parts.body(ids)[0])
    error = (found - expected).abs().max().item()
    allowed = max(1e-5, 4 * torch.finfo(model.dtype).eps) * max(1.0, expected.abs().max().item())
    if not error <= allowed:
        raise ModelError(
            f"{type(model).__name__}: logits from its last hidden state differ from its own by {error:.3g} "
            f"(allowed {allowed:.3g}); its head does something that chunked scoring does not know, "
            "so it cannot be measured: report the architecture."
        )


@torch.inference_mode()
def crosstalk(model: Any, parts: Split) -> str | None:
    """Why texts do not come out of a batch, each under its own rotation, as they do alone; None if they do."""
    weight, rotations = parts.head.weight, two_rotations(model)
    ids = (torch.arange(2 * PROBE_TOKENS, device=weight.device) * PROBE_STRIDE % weight.shape[0]).view(2, -1)
    alone = []
    for row, rotation in zip(ids, rotations, strict=True):
        with patched(model, rotation):
            alone.append(parts.body(row[None]))
    try:
        with patched(model, rotations):
            return apart(torch.cat(alone), parts.body(ids))
    except REFUSALS as error:
        return said(error)
