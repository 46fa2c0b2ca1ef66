"""Train strand, the built-in measuring stick: a Llama of 5.3 M parameters with a window of 256 tokens.

    python tools/strand_text.py PACKAGES WORK        # text -> tokens, on any computer, some minutes
    python tools/train_strand.py train WORK OUT      # one H100: 42 s of training, 90 s in all
    python tools/train_strand.py package WORK OUT    # OUT -> src/ropewalk/data/strand/

Three quarters of the rows are text at random offsets, so that a position in the window says nothing about a position
in a document. A quarter is synthetic: passkey prompts in many wordings, facts that are asked for, copied runs. Every
row, synthetic ones too, is a list of spans of one long stream of tokens and is put together on the accelerator.
The rotation is plain RoPE, theta 10000, positions 0..255: nothing in training prepares the model for longer inputs,
because what a method does to a model that never saw them is what strand is there to show.

Deterministic given the seed: tokenizer, tokens, every row of every batch, initial weights, schedule. Not bit for bit:
sums on the accelerator (attention's and the embedding's backward add atomically), hence the weights.
Optimizer: Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for matrices, Adam for the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

PACKAGE = Path(__file__).parent.parent / "src" / "ropewalk" / "data" / "strand"
RECORD = Path(__file__).parent.parent / "docs" / "strand"
"""Model card and record of the training, which nobody needs to run the model."""
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
DIGITS = 8  # the longest key


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the result, besides the text."""

    seed: int = 0
    steps: int = 1600
    rows: int = 1024  # per step
    window: int = 256
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    intermediate: int = 704
    vocabulary: int = 2048
    rope_theta: float = 10000.0
    passkey_rows: float = 0.12  # shares of the rows of a step
    fact_rows: float = 0.05
    copy_rows: float = 0.08
    answer_weight: float = 4.0  # of a loss on a key that the row has shown before
    muon_lr: float = 0.02
    adam_lr: float = 0.004
    momentum: float = 0.95
    weight_decay: float = 0.03  # times the learning rate, matrices only
    z_loss: float = 1e-5
    warmup_steps: int = 60
    decay_share: float = 0.55  # of the steps, linear to zero
    norm_eps: float = 1e-5


# The model: stock Llama mathematics, the matrices of all layers stacked


def rope(inv_freq: Tensor, length: int, factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 `[length, head_dim]`, times the attention factor."""
    angle = torch.outer(torch.arange(length, device=inv_freq.device, dtype=torch.float32), inv_freq.float())
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos() * factor, angle.sin() * factor


def rotate(x_BHTD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x_BHTD.float().chunk(2, dim=-1)
    return (x_BHTD * cos + torch.cat([-second, first], dim=-1) * sin).to(x_BHTD.dtype)


class Strand(nn.Module):
    """Parameters float32; the forward pass runs in `dtype`."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe, h, i, n = recipe, recipe.hidden, recipe.intermediate, recipe.layers
        shapes = {"q": (h, h), "k": (h, h), "v": (h, h), "o": (h, h), "gate": (i, h), "up": (i, h), "down": (h, i)}
        self.embed = nn.Parameter(torch.randn(recipe.vocabulary, h) * 0.03)
        self.norms = nn.Parameter(torch.ones(2 * n + 1, h))  # before attention, before MLP, ..., last
        self.matrices = nn.ParameterDict(
            {
                # What writes to the residual stream starts at zero: the untrained model is the embedding alone.
                name: nn.Parameter(torch.randn(n, *shape) * (0.0 if name in ("o", "down") else 0.04))
                for name, shape in shapes.items()
            }
        )

    def forward(self, ids_BT: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits `[B, T, vocabulary]` in `dtype`."""
        r, (batch, length) = self.recipe, ids_BT.shape
        x = F.embedding(ids_BT, self.embed).to(dtype)
        layers = zip(*(self.matrices[name].to(dtype).unbind() for name in MATRICES), strict=True)
        for at, (q, k, v, o, gate, up, down) in enumerate(layers):
            qkv = F.linear(self.normed(x, 2 * at), torch.cat([q, k, v]))
            q_BHTD, k_BHTD, v_BHTD = qkv.view(batch, length, 3, r.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(
                rotate(q_BHTD, cos, sin), rotate(k_BHTD, cos, sin), v_BHTD, is_causal=True
            )
            x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), o)
            both = F.linear(self.normed(x, 2 * at + 1), torch.cat([gate, up]))
            x = x + F.linear(F.silu(both[..., : r.intermediate]) * both[..., r.intermediate :], down)
        return F.linear(self.normed(x, -1), self.embed.to(dtype))

    def normed(self, x: Tensor, at: int) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.norms[at], self.recipe.norm_eps).to(x.dtype)

    def hugging_face(self) -> dict[str, Tensor]:
        """Name -> bfloat16 tensor, as LlamaForCausalLM wants them."""
        attention = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}
        mlp = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
        state = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norms[-1]}
        for at in range(self.recipe.layers):
            layer = f"model.layers.{at}"
            state[f"{layer}.input_layernorm.weight"] = self.norms[2 * at]
            state[f"{layer}.post_attention_layernorm.weight"] = self.norms[2 * at + 1]
            state |= {f"{layer}.self_attn.{to}.weight": self.matrices[name][at] for name, to in attention.items()}
            state |= {f"{layer}.mlp.{to}.weight": self.matrices[name][at] for name, to in mlp.items()}
        return {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in state.items()}


def loss(model: Strand, row: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    """Weighted mean of nll + z_loss * logsumexp^2; row, weight `[B, window + 1]`, a weight belongs to its token."""
    logits = model(row[:, :-1], cos, sin, dtype).float()
    log_sum = logits.logsumexp(-1)
    nll = log_sum - logits.gather(-1, row[:, 1:, None])[..., 0]
    weight = weight[:, 1:]
    return ((nll + model.recipe.z_loss * log_sum**2) * weight).sum() / weight.sum()


# Optimizer


@torch.no_grad()
def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices of a stack `[n, r, c]`, roughly: 5 Newton-Schulz steps in bfloat16."""
    x = matrix.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = x.mT if (tall := x.shape[-2] > x.shape[-1]) else x
    for a, b, c in ((3.4445, -4.7750, 2.0315),) * 5:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon:
    """Momentum, orthogonalised per matrix, with decoupled weight decay."""

    def __init__(self, stacks: list[nn.Parameter], recipe: Recipe) -> None:
        self.stacks, self.recipe, self.momenta = stacks, recipe, [torch.zeros_like(stack) for stack in stacks]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        lr, beta = scale * self.recipe.muon_lr, self.recipe.momentum
        for stack, momentum in zip(self.stacks, self.momenta, strict=True):
            momentum.lerp_(stack.grad, 1 - beta)
            update = orthogonalised(stack.grad.lerp(momentum, beta))  # Nesterov
            stack.mul_(1 - lr * self.recipe.weight_decay)
            stack.add_(update, alpha=-lr * max(1.0, stack.shape[-2] / stack.shape[-1]) ** 0.5)


def schedule(step: int, recipe: Recipe) -> float:
    """Warm up, hold, fall to zero: the factor on both learning rates."""
    return min(1.0, (step + 1) / recipe.warmup_steps, (recipe.steps - step) / (recipe.decay_share * recipe.steps))


# Rows: lists of spans of the stream


@dataclass(slots=True)
class Spans:
    """The rows being written: per span its start in the stream, its length and the weight of its losses."""

    rows: int
    device: torch.device
    starts: list[Tensor]
    lengths: list[Tensor]
    weights: list[Tensor]

    def add(self, start: Tensor, length: Tensor | int, weight: Tensor | float = 1.0) -> None:
        def full(value: Tensor | float) -> Tensor:
            return torch.as_tensor(value, device=self.device).expand(self.rows)

        self.starts.append(start)
        self.lengths.append(full(length))
        self.weights.append(full(weight).float())

    def assemble(self, stream: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Tokens int64 and weights float32, `[rows, width]`."""
        starts, lengths, weights = (torch.stack(part, 1) for part in (self.starts, self.lengths, self.weights))
        ends = lengths.cumsum(1)
        position = torch.arange(width, device=self.device).expand(self.rows, -1).contiguous()
        span = torch.searchsorted(ends, position, right=True).clamp(max=starts.shape[1] - 1)
        source = starts.gather(1, span) + position - (ends - lengths).gather(1, span)
        return stream[source].long(), weights.gather(1, span)


class Rows:
    """Batches of rows, drawn on the device. The stream's tail is scratch: fresh digits and tokens for every row."""

    def __init__(self, work: Path, recipe: Recipe, device: torch.device) -> None:
        with lzma.open(work / "stream.xz") as file:
            text = torch.from_numpy(np.frombuffer(file.read(), dtype="<u2").astype(np.int32)).to(device)
        facts = json.loads((work / "pieces.json").read_text())
        self.pieces = {name: torch.tensor(spans, device=device) for name, spans in facts["pieces"].items()}
        self.bounds = torch.tensor([facts["groups"][name] for name in facts["shares"]], device=device)
        self.shares = torch.tensor(list(facts["shares"].values()), device=device)
        self.recipe, self.device, self.width = recipe, device, recipe.window + 1
        self.draw = torch.Generator(device).manual_seed(recipe.seed)
        counts = [round(recipe.rows * share) for share in (recipe.passkey_rows, recipe.fact_rows, recipe.copy_rows)]
        self.counts = [recipe.rows - sum(counts), *counts]
        self.scratch, self.per_row = len(text), 3 * DIGITS + self.width
        self.stream = torch.cat([text, text.new_zeros(max(counts) * self.per_row + self.width)])
        self.first_digit = self.pieces["digits"][0, 0]

    def batch(self) -> tuple[Tensor, Tensor]:
        """One step's rows, `[rows, window + 1]` tokens and weights."""
        kinds = (self.text, self.passkey, self.facts, self.copies)
        built = []
        for kind, count in zip(kinds, self.counts, strict=True):
            spans = Spans(count, self.device, [], [], [])
            kind(spans)
            built.append(spans.assemble(self.stream, self.width))
        return torch.cat([row for row, _ in built]), torch.cat([weight for _, weight in built])

    # Draws, `[n]` each

    def uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.draw, device=self.device, dtype=torch.float64)

    def below(self, n: int, limit: Tensor | int) -> Tensor:
        """Integers 0..limit-1."""
        return (self.uniform(n) * limit).long()

    def chance(self, n: int, p: float) -> Tensor:
        return self.uniform(n) < p

    def offset(self, n: int) -> Tensor:
        """Somewhere in the text, by the groups' shares."""
        group = torch.multinomial(self.shares, n, replacement=True, generator=self.draw)
        low, high = self.bounds[group].unbind(1)
        return low + self.below(n, high - low - self.width)

    def one_of(self, n: int, name: str, first: float = 0.0) -> Tensor:
        """Indices of pieces; the first, the protocol's own, with an extra chance."""
        return torch.where(self.chance(n, first), 0, self.below(n, self.pieces[name].shape[-2]))

    def fresh(self, n: int) -> Tensor:
        """New scratch: per row three keys of up to 8 digits, then random tokens. Returns the rows' starts."""
        keys = self.stream[self.first_digit + self.below(n * 3 * DIGITS, 10)].view(n, 3, DIGITS)
        keys[:, :, 0] = self.stream[self.first_digit + 1 + self.below(n * 3, 9)].view(n, 3)  # no leading zero
        noise = 1 + self.below(n * self.width, self.recipe.vocabulary - 1).view(n, self.width)
        self.stream[self.scratch : self.scratch + n * self.per_row] = torch.cat([keys.flatten(1), noise], 1).view(-1)
        return self.scratch + torch.arange(n, device=self.device) * self.per_row

    def digits(self, n: int) -> Tensor:
        """How long a key is: five digits, now and then 3 to 8."""
        return torch.where(self.chance(n, 0.85), 5, 3 + self.below(n, 6))

    # Kinds of rows

    def text(self, spans: Spans) -> None:
        spans.add(self.offset(spans.rows), self.width)

    def passkey(self, spans: Spans) -> None:
        """Text, instruction, filler, needle, filler, question, key, text: the protocol's words in half of the rows."""
        n = spans.rows
        key, key_length = self.fresh(n), self.digits(n)
        wording, instruction = self.one_of(n, "before", 0.5), self.one_of(n, "instruction", 0.5)
        names = ("before", "middle", "after", "question")
        before, middle, after, question = (self.pieces[name][wording].unbind(1) for name in names)
        opening = self.pieces["instruction"][instruction].unbind(1)
        end = self.pieces["end"][self.one_of(n, "end")].unbind(1)
        fixed = opening[1] + before[1] + middle[1] + after[1] + question[1] + 3 * key_length
        room = self.width - 1 - fixed  # the token after the key is always there
        filler = (room * torch.where(self.chance(n, 0.4), 1.0, self.uniform(n))).long()
        lead = ((room - filler) * torch.where(self.chance(n, 0.5), 0.0, self.uniform(n))).long()
        depth = self.uniform(n) * 1.2 - 0.1  # the ends themselves are likely
        first = (filler * depth.clamp(0, 1)).long()
        start, _, cycle = self.pieces["filler"][self.one_of(n, "filler", 0.4)].unbind(1)
        start = start + torch.where(self.chance(n, 0.7), 0, self.below(n, cycle))
        essay = self.chance(n, 0.2)
        haystack = torch.where(essay, self.offset(n), start)
        spans.add(self.offset(n), lead)
        spans.add(*opening)
        spans.add(haystack, first)
        spans.add(*before)
        spans.add(key, key_length, 0.0)
        spans.add(*middle)
        spans.add(key, key_length, self.recipe.answer_weight)
        spans.add(*after)
        spans.add(torch.where(essay, haystack + first, haystack), filler - first)
        spans.add(*question)
        spans.add(key, key_length, self.recipe.answer_weight)
        spans.add(*end)
        spans.add(self.offset(n), self.width)

    def facts(self, spans: Spans) -> None:
        """Three named numbers between runs of text, then two of them are asked for."""
        n = spans.rows
        base, wording = self.fresh(n), self.below(n, self.pieces["fact"].shape[0])
        names = torch.rand(n, self.pieces["fact"].shape[1], generator=self.draw, device=self.device).argsort(1)[:, :3]
        keys, key_length = [base + at * DIGITS for at in range(3)], self.digits(n)
        end = self.pieces["fact_end"][wording].unbind(1)
        gap = self.below(n, 40)
        spans.add(self.offset(n), self.below(n, 20))
        for at in range(3):
            spans.add(*self.pieces["fact"][wording, names[:, at]].unbind(1))
            spans.add(keys[at], key_length, 0.0)
            spans.add(*end)
            spans.add(self.offset(n), gap)
        order = torch.rand(n, 3, generator=self.draw, device=self.device).argsort(1)
        for at in range(2):
            asked = order[:, at]
            spans.add(*self.pieces["fact_question"][wording, names.gather(1, asked[:, None])[:, 0]].unbind(1))
            spans.add(base + asked * DIGITS, key_length, self.recipe.answer_weight)
            spans.add(*end)
        spans.add(self.offset(n), self.width)

    def copies(self, spans: Spans) -> None:
        """A run of text or of random tokens, something else, and the run once more."""
        n = spans.rows
        noise = self.chance(n, 0.5)
        run = torch.where(noise, self.fresh(n) + 3 * DIGITS, self.offset(n))
        length = 8 + self.below(n, 93)
        lead, gap = self.below(n, 40), self.below(n, self.width - 2 * length)
        spans.add(self.offset(n), lead)
        spans.add(run, length, torch.where(noise, 0.0, 1.0))
        spans.add(self.offset(n), gap)
        spans.add(run, length)
        spans.add(self.offset(n), self.width)


# Training


def train(work: Path, out: Path, recipe: Recipe, device: torch.device, limit_s: float) -> None:
    """Writes model.safetensors, log.jsonl and result.json to `out`; stops early, saying so, after `limit_s` seconds."""
    began = time.perf_counter()
    torch.manual_seed(recipe.seed)
    cuda = device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    model = Strand(recipe).to(device)
    rows = Rows(work, recipe, device)
    head_dim = recipe.hidden // recipe.heads
    inv_freq = 1.0 / recipe.rope_theta ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    cos, sin = rope(inv_freq.to(device), recipe.window)
    step_loss = torch.compile(loss) if cuda else loss
    muon = Muon(list(model.matrices.values()), recipe)
    adam = torch.optim.Adam([model.embed, model.norms], lr=recipe.adam_lr, betas=(0.9, 0.95), fused=cuda)
    print(f"{sum(p.numel() for p in model.parameters())} parameters; ready after {time.perf_counter() - began:.1f} s")

    data = {name: torch.from_numpy(value) for name, value in np.load(work / "eval.npz").items()}
    log, started, step = [], time.perf_counter(), 0
    for step in range(recipe.steps):
        if step == 20:  # compilation done
            started = _now(device)
        value = step_loss(model, *rows.batch(), cos, sin, dtype)
        value.backward()
        scale = schedule(step, recipe)
        adam.param_groups[0]["lr"] = scale * recipe.adam_lr
        muon.step(scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        if step % 250 == 0 or step == recipe.steps - 1:
            speed = max(0, step - 20) * recipe.rows * recipe.window / max(1e-9, _now(device) - started)
            seen = quick(model, data, inv_freq)
            log.append({"step": step, "loss": value.item(), "tokens_per_s": round(speed), **seen})
            print(json.dumps(log[-1]), flush=True)
        if step % 50 == 0 and _now(device) - began > limit_s:
            print(f"stopped after {limit_s} s at step {step} of {recipe.steps}")
            break
    trained_s = _now(device) - started

    out.mkdir(parents=True, exist_ok=True)
    (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    save_file(model.hugging_face(), out / "model.safetensors", metadata={"format": "pt"})
    result = {
        "recipe": asdict(recipe), "steps_done": step + 1, "tokens": (step + 1) * recipe.rows * recipe.window,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__,
        "trained_s": round(trained_s, 1), "tokens_per_s": round((step - 19) * recipe.rows * recipe.window / trained_s),
        "measured": measure(model, data, inv_freq, recipe),
    }  # fmt: skip
    result["wall_s"] = round(_now(device) - began, 1)
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(result["measured"]), f"\n{result['wall_s']} s in all, {result['tokens_per_s']} tokens/s")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# Measuring: a first look, by the formulas of docs/methods.md; ropewalk itself has the last word


def rotations(inv_freq: Tensor, window: int) -> Iterator[tuple[str, Tensor, float]]:
    """Label, inv_freq float64 `[head_dim/2]`, attention factor."""
    half = len(inv_freq)
    index = torch.arange(half, dtype=torch.float64)
    theta = float(1 / inv_freq[1]) ** half
    turns = window * inv_freq / (2 * math.pi)
    low, high = (half * math.log(window / (2 * math.pi * n)) / math.log(theta) for n in (32, 1))
    low, high = max(math.floor(low), 0), min(math.ceil(high), 2 * half - 1)
    keep = {
        "yarn": 1 - ((index - low) / (high - low)).clamp(0, 1),
        "llama3": (turns - 1).div(3).clamp(0, 1),
        "ntk_by_parts": (turns - 1).div(31).clamp(0, 1),
        "linear": torch.zeros_like(index),
    }
    yield "none", inv_freq, 1.0
    for factor in (2, 4, 8):
        for name, kept in keep.items():
            attention = 0.1 * math.log(factor) + 1 if name == "yarn" else 1.0
            yield f"{name} {factor}", inv_freq * (kept + (1 - kept) / factor), attention
        yield f"ntk_aware {factor}", inv_freq / factor ** (index / (half - 1)), 1.0


@torch.no_grad()
def measure(model: Strand, data: dict[str, Tensor], inv_freq: Tensor, recipe: Recipe) -> list[dict[str, Any]]:
    """Float32 perplexity by length (all, and of each kind of document), and passkey accuracy, of every rotation."""
    with torch.no_grad():
        for parameter in model.parameters():  # what is shipped is measured
            parameter.copy_(parameter.bfloat16())
    documents = {name.partition("/")[2]: ids for name, ids in data.items() if name.startswith("document/")}
    lengths = sorted(int(name.partition("/")[2]) for name in data if name.startswith("passkey/"))
    covered = {name: data[f"bytes/{name}"] for name in documents}
    rows = []
    for label, freq, factor in rotations(inv_freq, recipe.window):
        nll = {name: token_nll(model, ids, freq, factor) for name, ids in documents.items()}
        for at, length in enumerate(lengths):
            each = {name: float(values[: length - 1].mean()) for name, values in nll.items()}
            bits = sum(float(v[: length - 1].sum()) for v in nll.values()) / math.log(2)
            right = answered(model, data[f"passkey/{length}"], freq, factor)
            rows.append(
                {"rotation": label, "length": length, "perplexity": math.exp(sum(each.values()) / len(each)),
                 "bits_per_byte": bits / sum(int(size[at]) for size in covered.values()), "passkey": right,
                 "perplexity_of": {name: math.exp(value) for name, value in each.items()}}
            )  # fmt: skip
    return rows


def quick(model: Strand, data: dict[str, Tensor], inv_freq: Tensor) -> dict[str, float]:
    """Perplexity of Emma and passkey accuracy, unscaled at the window and by yarn 8 at eight times that."""
    device, window = model.embed.device, model.recipe.window
    scaled = {label: (freq, factor) for label, freq, factor in rotations(inv_freq, window)}
    if device.type == "cpu":
        return {}
    with torch.no_grad():
        none, yarn = scaled["none"], scaled["yarn 8"]
        found = {
            "emma_256": math.exp(float(token_nll(model, data["document/emma"][:window], *none).mean())),
            "emma_2048_yarn": math.exp(float(token_nll(model, data["document/emma"], *yarn).mean())),
            "passkey_256": answered(model, data["passkey/256"], *none),
            "passkey_1024_yarn": answered(model, data["passkey/1024"], *yarn),
        }
    return {name: round(value, 3) for name, value in found.items()}


def token_nll(model: Strand, ids: Tensor, freq: Tensor, factor: float) -> Tensor:
    """float32 `[T - 1]`, nats."""
    ids = ids.to(model.embed.device).long()[None]
    logits = model(ids, *rope(freq.to(ids.device), ids.shape[1], factor), torch.float32)[0]
    return F.cross_entropy(logits[:-1], ids[0, 1:], reduction="none").cpu()


def answered(model: Strand, prompts: Tensor, freq: Tensor, factor: float, answer: int = 6) -> float:
    """Share of prompts whose last `answer` tokens (a space, five digits) are all predicted, and no digit after them."""
    ids = prompts.to(model.embed.device).long()
    predicted = model(ids, *rope(freq.to(ids.device), ids.shape[1], factor), torch.float32)[:, -answer - 1 :].argmax(-1)
    same = (predicted[:, :-1] == ids[:, -answer:]).all(1)
    digits = ids[:, -answer + 1 :].unique()
    return float((same & ~torch.isin(predicted[:, -1], digits)).float().mean())


def table(measured: list[dict[str, Any]]) -> str:
    """Perplexity and passkey accuracy by rotation (rows) and length (columns)."""
    lengths = sorted({row["length"] for row in measured})
    lines = ["rotation".ljust(16) + "".join(f"{length:>15}" for length in lengths)]
    for label in dict.fromkeys(row["rotation"] for row in measured):
        cells = {row["length"]: row for row in measured if row["rotation"] == label}
        row = (f"{cells[n]['perplexity']:>9.1f} {cells[n]['passkey']:>5.2f}" for n in lengths)
        lines.append(label.ljust(16) + "".join(row))
    return "\n".join(lines)


# The package


def package(work: Path, out: Path) -> None:
    """Everything in data/strand/, and the record beside the model card."""
    from transformers import PreTrainedTokenizerFast

    result = json.loads((out / "result.json").read_text())
    recipe = result["recipe"]
    PACKAGE.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / "model.safetensors", PACKAGE / "model.safetensors")
    shutil.copyfile(work / "shingles.npy", PACKAGE / "shingles.npy")
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(
        tokenizer_file=str(work / "tokenizer.json"), eos_token=end, pad_token=end, clean_up_tokenization_spaces=False
    ).save_pretrained(PACKAGE)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
        "vocab_size": recipe["vocabulary"], "hidden_size": recipe["hidden"], "num_hidden_layers": recipe["layers"],
        "intermediate_size": recipe["intermediate"], "num_attention_heads": recipe["heads"],
        "num_key_value_heads": recipe["heads"], "head_dim": recipe["hidden"] // recipe["heads"],
        "max_position_embeddings": recipe["window"], "rms_norm_eps": recipe["norm_eps"], "hidden_act": "silu",
        "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": recipe["rope_theta"]},
        "rope_theta": recipe["rope_theta"], "initializer_range": 0.03, "pretraining_tp": 1, "use_cache": True,
        "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    (PACKAGE / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    training = {"text": json.loads((work / "text.json").read_text()), **result}
    (RECORD / "training.json").write_text(json.dumps(training, indent=1) + "\n")
    write_sums()


def write_sums() -> None:
    files = sorted(path for path in PACKAGE.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (PACKAGE / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["train", "package"])
    parser.add_argument("work", type=Path, help="what strand_text.py wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="fields of Recipe, for trials")
    parser.add_argument("--limit-s", type=float, default=540.0)
    arguments = parser.parse_args()
    if arguments.verb == "package":
        package(arguments.work, arguments.out)
        return
    changes = {key: json.loads(value) for key, value in (pair.split("=") for pair in arguments.set)}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(arguments.work, arguments.out, Recipe(**changes), device, arguments.limit_s)


if __name__ == "__main__":
    main()
