"""Load a model so that it can be measured: whole, in evaluation mode, and identified by a hash of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from typing_extensions import override

from ropewalk.corpus.tried import require_bounded
from ropewalk.errors import ModelError
from ropewalk.files import read_regular
from ropewalk.model_spec import ModelSpec
from ropewalk.models import adapter, gguf
from ropewalk.models.as_shipped import check_shipped
from ropewalk.models.auto import auto_classes
from ropewalk.models.foreign import quiet, sentences
from ropewalk.models.geometry import geometry_of
from ropewalk.models.patch import check_patchable
from ropewalk.models.placement import torch_device, torch_dtype
from ropewalk.models.source import Source, find, pinned, sha256_of, weight_files
from ropewalk.models.spread import lighten, require_placed
from ropewalk.rope import RopeGeometry

MAX_COUNT = 10_000
MAX_TOKENIZER = 2**28
"""Bytes of a tokenizer.json; the largest known have 35 MB."""
_COUNTS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProvenance:
    """What a run records about its model.

    Attributes:
        id: as asked.
        revision: commit on the Hub, or the release that a built-in model comes from; None for local files.
        architecture: class name.
        weights_sha256: of the weight files (`sha256_of`), adapter included.
        dtype: of the parameters, "float32", "bfloat16" or "float16".
        device: "cpu", "cuda:0 NVIDIA H100 80GB HBM3", ...
        parameters: how many.
        chat_template: whether the tokenizer has one.
        trust_remote_code: whether code that the checkpoint brings along was allowed to run.
    """

    id: str
    revision: str | None
    architecture: str
    weights_sha256: str
    dtype: str
    device: str
    parameters: int
    chat_template: bool
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoadedModel:
    """A causal language model ready to be scored; `geometry` decides its shipped rotation, `patched` applies one."""

    model: Any
    tokenizer: Any
    geometry: RopeGeometry
    provenance: ModelProvenance

    @override
    def __repr__(self) -> str:
        known, window = self.provenance, self.geometry.window("stack").length
        return f"LoadedModel({known.id!r}: {known.architecture}, {known.dtype} on {known.device}, window {window:,})"


def load(
    spec: ModelSpec,
    *,
    dtype: str = "auto",
    device: str | None = None,
    attn_implementation: str | None = None,
    tokenizer: Any = None,
) -> LoadedModel:
    """Load model and tokenizer: evaluation mode, no gradients, `use_cache=False`.

    Args:
        spec: which model.
        dtype: "auto" (the checkpoint's on accelerators; on a CPU bfloat16 if its instructions have it, else float32),
            "float32", "bfloat16" or "float16".
        device: None takes CUDA if there is any, else the CPU. Excludes `spec.device_map`.
        attn_implementation: as in transformers; None takes what the architecture has, sdpa or its own eager one.
        tokenizer: what `read_tokenizer` gave; None reads it.

    Raises:
        ModelError: the model cannot be found, read, placed or patched, or some of its weights are missing.
    """
    place = torch_device(device, spec.device_map)
    with quiet(), sentences(spec.id, spec.revision):
        source = find(spec)
        config = read_config(source, spec)
        source = pinned(source)
        geometry = geometry_of(config)
        kind = torch_dtype(dtype, place, is_gguf=source.gguf is not None)
        model = _read_model(source, spec, config, kind, place, attn_implementation)
        files = weight_files(source)
        if spec.adapter is not None:
            model, more = adapter.apply(model, spec.adapter, quantized=getattr(model, "hf_quantizer", None) is not None)
            files += more
        tokenizer = tokenizer or _read_tokenizer(source, spec)
    require_placed(model, spec.id)
    lighten(model)
    model.eval().requires_grad_(False)
    model.config.get_text_config(decoder=True).use_cache = False
    check_patchable(model)
    check_shipped(model, geometry)
    provenance = _provenance(spec, source, model, tokenizer, files)
    return LoadedModel(model=model, tokenizer=tokenizer, geometry=geometry, provenance=provenance)


def read_geometry(spec: ModelSpec) -> RopeGeometry:
    """The RoPE geometry out of the configuration alone; no weights are read or downloaded.

    Raises:
        ModelError: the configuration cannot be had, or has no rotary position embeddings.
    """
    with quiet(), sentences(spec.id, spec.revision):
        source = find(spec, weights=False)
        return geometry_of(read_config(source, spec))


def read_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer of a model that could be loaded; no weights are read or downloaded.

    Raises:
        ModelError: the model or its tokenizer cannot be had, or its weights are pickled or missing.
    """
    with quiet(), sentences(spec.id, spec.revision):
        return _read_tokenizer(pinned(find(spec)), spec)


def read_config(source: Source, spec: ModelSpec) -> Any:
    """The transformers configuration; of a GGUF file with the rotation that the file ships."""
    if source.gguf is not None:
        return gguf.read_config(source.gguf)
    values, _ = transformers.PreTrainedConfig.get_config_dict(source.location, **source.keywords)
    _require_sane(spec.id, values)
    return transformers.AutoConfig.from_pretrained(
        source.location, trust_remote_code=spec.trust_remote_code, **source.keywords
    )


def _require_sane(name: str, values: Mapping[str, Any]) -> None:
    """Refuse counts of which transformers would make lists that fill all memory."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            _require_sane(name, value)
        elif key in _COUNTS and isinstance(value, int | float) and not value <= MAX_COUNT:
            raise ModelError(
                f"model {name!r}: {key}={str(value)[:20]} in its configuration cannot be; mend its config.json."
            )


def _read_model(
    source: Source, spec: ModelSpec, config: Any, dtype: torch.dtype | str, device: torch.device, attention: str | None
) -> Any:
    keywords = source.keywords | (gguf.dense() if source.gguf is not None else _quantization(spec))
    with gguf.quiet_bars(source.gguf is not None):
        for auto in auto_classes(spec.id, config):
            model, info = auto.from_pretrained(
                source.location,
                config=config,
                dtype=dtype,
                device_map=spec.device_map or {"": device},
                attn_implementation=attention,
                trust_remote_code=spec.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **keywords,
            )
            lost = sorted(info["missing_keys"]) + [key for key, *_ in sorted(info["mismatched_keys"])]
            if not lost:
                break
    if lost:
        raise ModelError(
            f"model {spec.id!r}: {len(lost)} weights are missing or misshapen ({lost[0]}, ...), and transformers would "
            "fill them with random numbers; give the whole checkpoint."
        )
    if source.gguf is not None:
        gguf.as_dense(model)
    return model


def _quantization(spec: ModelSpec) -> dict[str, Any]:
    return {} if spec.quantization is None else {"quantization_config": dict(spec.quantization)}


def _read_tokenizer(source: Source, spec: ModelSpec) -> Any:
    if source.gguf is not None:
        return gguf.read_tokenizer(source.gguf)
    for file in _tokenizer_files(source):
        try:
            text = read_regular(file, MAX_TOKENIZER).decode()
        except UnicodeDecodeError as error:
            raise ModelError(f"{file}: byte {error.start} is no UTF-8; download the file again.") from None
        require_bounded(spec.id, text)
    return transformers.AutoTokenizer.from_pretrained(
        source.location, trust_remote_code=spec.trust_remote_code, **source.keywords
    )


def _tokenizer_files(source: Source) -> list[Path]:
    """Every one that transformers may take: to load one runs its normaliser."""
    if source.is_local:
        found = Path(source.location).glob("tokenizer*.json")
        return sorted(file for file in found if file.name != "tokenizer_config.json")
    name = transformers.utils.cached_file(
        source.location, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **source.keywords
    )
    return [] if name is None else [Path(name)]


def _provenance(
    spec: ModelSpec, source: Source, model: Any, tokenizer: Any, files: tuple[Path, ...]
) -> ModelProvenance:
    return ModelProvenance(
        id=spec.id,
        revision=source.revision,
        architecture=type(model).__name__,
        weights_sha256=sha256_of(files),
        dtype=str(model.dtype).removeprefix("torch."),
        device=device_names(model),
        parameters=model.num_parameters(),
        chat_template=bool(getattr(tokenizer, "chat_template", None)),
        trust_remote_code=spec.trust_remote_code,
    )


def device_names(model: Any) -> str:
    """The devices of a model's weights, such as `cuda:0 NVIDIA H100 80GB HBM3`."""
    return ", ".join(_name(device) for device in sorted({each.device for each in model.parameters()}, key=str))


def _name(device: torch.device) -> str:
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
