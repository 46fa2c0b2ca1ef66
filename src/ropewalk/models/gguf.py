"""GGUF files: what llama.cpp reads from them and transformers does not (shipped rotation, splitting of digits)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGUFReader
from tokenizers import pre_tokenizers, processors

from ropewalk.errors import ModelError, is_own, short
from ropewalk.methods.none import shipped
from ropewalk.models.geometry import geometry_of
from ropewalk.models.gguf_header import slim
from ropewalk.models.gguf_limits import NoHeader, require_bounded
from ropewalk.models.layers import scaled_layer_type
from ropewalk.rope import Rotation

RECORD_INV_FREQ, RECORD_A = "ropewalk.inv_freq", "ropewalk.attention_factor"
OWN_BETAS = frozenset({"grok", "mistral3"})

SINGLE_PRECISION = 2**-22
"""Largest relative error of what a file holds in float32: lambda, base and A are each rounded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What transformers does not read from a GGUF file.

    Attributes:
        path: the file.
        rope: metadata below `<architecture>.rope.`, e.g. `scaling.type`.
        factors: tensors `rope_freqs`, `rope_factors_long`, `rope_factors_short`: lambda `[rotary_dim/2]`, by which
            llama.cpp divides each frequency.
        pre_tokenizer: metadata `tokenizer.ggml.pre`.
        adds_bos: metadata `tokenizer.ggml.add_bos_token`; None where the file does not say.
        record: the rotation in float64 that `ropewalk export` wrote beside its float32 form.
        architecture: metadata `general.architecture`.
        small: the file without vocabulary and weights (`gguf_header`).
    """

    path: Path
    rope: Mapping[str, Any]
    factors: Mapping[str, list[float]]
    pre_tokenizer: str | None
    adds_bos: bool | None = None
    record: Rotation | None = None
    architecture: str = "llama"
    small: bytes = dataclasses.field(default=b"", repr=False)


def read_header(path: Path) -> Header:
    """Read metadata and rope tensors; neither the vocabulary, which is metadata too, nor other tensors.

    Raises:
        ModelError: this is no GGUF file.
    """
    try:
        require_bounded(path)
        small = slim(path, lambda name: name.startswith("rope_f"))
        with _written(small) as file:
            reader = GGUFReader(str(file))
            fields = {key: field.contents() for key, field in reader.fields.items() if len(field.data) <= 1}
            return _header(path, small, reader, fields)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        if is_own(error) and not isinstance(error, NoHeader):
            raise
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"{path} is no GGUF file ({type(error).__name__}: {reason}); download it again.") from error


@contextlib.contextmanager
def _written(small: bytes) -> Iterator[Path]:
    """The small file on disk, where the libraries want it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "header.gguf"
        path.write_bytes(small)
        yield path


def _header(path: Path, small: bytes, reader: GGUFReader, fields: Mapping[str, Any]) -> Header:
    architecture = fields.get("general.architecture")
    if not isinstance(architecture, str):
        raise NoHeader(f"its general.architecture is {short(architecture)}")
    prefix = f"{architecture}.rope."
    return Header(
        path=path,
        rope={key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)},
        factors={
            t.name.removesuffix(".weight"): t.data.tolist() for t in reader.tensors if t.name.startswith("rope_f")
        },
        pre_tokenizer=fields.get("tokenizer.ggml.pre"),
        adds_bos=fields.get("tokenizer.ggml.add_bos_token"),
        record=_record(reader),
        architecture=architecture,
        small=small,
    )


def _record(reader: GGUFReader) -> Rotation | None:
    inv_freq, factor = reader.get_field(RECORD_INV_FREQ), reader.get_field(RECORD_A)
    if inv_freq is None or factor is None:
        return None
    try:
        return Rotation(inv_freq=np.array(inv_freq.contents()), attention_factor=factor.contents())
    except (TypeError, ValueError) as error:  # what is no rotation
        raise NoHeader(f"{RECORD_INV_FREQ}: {error}") from None


def read_config(header: Header) -> Any:
    """The configuration of a GGUF file, its `rope_parameters` as the file's metadata and tensors say."""
    with quiet_bars(), _written(header.small) as file:
        config: Any = transformers.AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
    config.name_or_path = str(header.path.parent)
    rope = getattr(config, "rope_parameters", None)
    if rope:
        named = rope_parameters(header, config)
        config.rope_parameters = _with(rope, named)
        exact = recorded(header, config)
        if exact:
            layout = {key: value for key, value in named.items() if key == "partial_rotary_factor"}
            config.rope_parameters = _with(rope, layout | exact)
        original = named.get("original_max_position_embeddings")
        if original is not None and hasattr(config, "original_max_position_embeddings"):  # Phi-3's default would win
            config.original_max_position_embeddings = original
    return config


def _with(rope: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    kind = scaled_layer_type("The configuration of the GGUF file", rope)
    return {**rope, **(keys if kind is None else {kind: {**rope[kind], **keys}})}


def recorded(header: Header, config: Any) -> dict[str, Any]:
    """The record in the universal form, where it is what the file runs but for rounding to float32.

    A record that something else has changed the file under is not looked at: what llama.cpp runs counts.
    """
    if header.record is None:
        return {}
    geometry = geometry_of(config)
    window = config.max_position_embeddings
    runs, wanted = shipped(geometry, window), header.record
    same = runs.inv_freq.size == wanted.inv_freq.size and np.allclose(
        [*runs.inv_freq, runs.attention_factor],
        [*wanted.inv_freq, wanted.attention_factor],
        rtol=SINGLE_PRECISION,
        atol=2e-15,
    )
    if runs == wanted or not same:
        return {}
    divisors = wanted.divisors(geometry)
    original = header.rope.get("scaling.original_context_length") or window
    return _longrope(divisors, divisors, 1.0, original, wanted.attention_factor)


def rope_parameters(header: Header, config: Any) -> dict[str, Any]:
    """The shipped rotation in Hugging Face keys.

    A file with `rope_freqs` (Llama 3.x) gets the universal form, longrope with both lists equal to lambda. Its window
    is `context_length`, as the file does not say what came before the scaling.

    Raises:
        ModelError: the file scales in a way that is not known here.
    """
    rope, factors, window = header.rope, header.factors, config.max_position_embeddings
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotary_dim = rope.get("dimension_count") or head_dim
    if not isinstance(rotary_dim, int) or not 1 <= rotary_dim <= head_dim:
        raise ModelError(
            f"{header.path.name}: rope.dimension_count={short(rotary_dim)} of heads of {head_dim} dimensions cannot "
            "be; download the file again."
        )
    partial: dict[str, Any] = {} if rotary_dim == head_dim else {"partial_rotary_factor": rotary_dim / head_dim}
    kind = rope.get("scaling.type", "linear")  # as llama.cpp reads it: linear by a factor of 1
    factor = None if kind == "none" else rope.get("scaling.factor") or rope.get("scale_linear")
    original = rope.get("scaling.original_context_length") or window
    attention = rope.get("scaling.attn_factor") or 1.0
    if kind in ("none", "linear", "longrope") and not factor and factors:
        if "rope_freqs" in factors:
            return partial | _longrope(factors["rope_freqs"], factors["rope_freqs"], 1.0, original, attention)
        if {"rope_factors_short", "rope_factors_long"} <= factors.keys():
            lists = factors["rope_factors_short"], factors["rope_factors_long"]
            return partial | _longrope(*lists, window / original, original, attention)
    if kind in ("none", "linear") and not factors and attention == 1.0:
        return partial | ({"rope_type": "linear", "factor": factor} if factor else {"rope_type": "default"})
    if kind == "yarn" and factor and factor > 0 and not factors and not rope.get("scaling.yarn_log_multiplier"):
        return partial | _yarn(header, factor, original)
    raise ModelError(
        f"{header.path.name}: rope.scaling.type={kind!r}, factor={factor} and tensors {sorted(factors)} are together a "
        "rotation that ropewalk cannot read; use the checkpoint that the file was converted from."
    )


def _longrope(short: list[float], long: list[float], factor: float, original: int, attention: float) -> dict[str, Any]:
    named = {"short_factor": short, "long_factor": long, "factor": factor, "attention_factor": attention}
    return {"rope_type": "longrope", "original_max_position_embeddings": original} | named


def _yarn(header: Header, factor: float, original: int) -> dict[str, Any]:
    """llama.cpp multiplies its own 0.1 ln s + 1 by attn_factor, overwrites yarn_attn_factor, and reads betas of two
    architectures alone."""
    rope = header.rope if header.architecture in OWN_BETAS else {}
    betas = {key: rope[f"scaling.yarn_{key}"] for key in ("beta_fast", "beta_slow") if f"scaling.yarn_{key}" in rope}
    attention = (header.rope.get("scaling.attn_factor") or 1.0) * (0.1 * math.log(factor) + 1.0)
    named = {"factor": factor, "original_max_position_embeddings": original, "attention_factor": attention}
    return {"rope_type": "yarn"} | named | betas


def read_tokenizer(header: Header) -> Any:
    """The tokenizer of a GGUF file; transformers forgets that `smollm` splits digits before anything else."""
    with quiet_bars():
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(header.path.parent), gguf_file=header.path.name)
    if header.pre_tokenizer == "smollm":
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    if header.adds_bos and tokenizer.bos_token is not None and not _begins_with_bos(tokenizer):
        bos = [(tokenizer.bos_token, tokenizer.bos_token_id)]  # transformers 5.17 forgets it for Gemma
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokenizer.bos_token} $A", pair=f"{tokenizer.bos_token} $A $B", special_tokens=bos
        )
    return tokenizer


def _begins_with_bos(tokenizer: Any) -> bool:
    return tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def convert(path: Path, directory: Path) -> None:
    """Write a GGUF file as an ordinary float32 safetensors checkpoint."""
    header = read_header(path)
    with quiet_bars():
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, config=read_config(header), dtype=torch.float32
        )
    as_dense(model)
    model.save_pretrained(directory)
    model.config.dtype = torch.bfloat16  # what dtype "auto" means on a GPU; the weights in the file stay float32
    model.config.save_pretrained(directory)
    read_tokenizer(header).save_pretrained(directory)


def dense() -> dict[str, Any]:
    """Keywords for `from_pretrained` that unpack the blocks: scoring needs plain weights."""
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def as_dense(model: Any) -> None:
    """Forget that the weights came in blocks: they are plain tensors now."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None


@contextlib.contextmanager
def quiet_bars(asked: bool = True) -> Iterator[None]:
    """transformers draws GGUF bars with bare tqdm, beyond its own switch."""
    with contextlib.redirect_stderr(io.StringIO()) if asked else contextlib.nullcontext():
        yield
