"""A model directory with gains in it: the changed tensors in a shard of their own, the others where they are.

Readers go through shards in the order of their names and the last one counts (transformers 5, vLLM, SGLang), so that
the shard's name stands behind all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ropewalk.errors import ExportError
from ropewalk.export.folding import Folding
from ropewalk.models.auto import auto_classes
from ropewalk.models.foreign import quiet
from ropewalk.models.query import Place, folded, query_places
from ropewalk.models.source import INDEX, WEIGHTS

SHARD = "zz-ropewalk-gains.safetensors"
ONLY = "model-00001-of-00001.safetensors"
"""What a lone model.safetensors is called beside another shard: under its own name it is read without an index."""


def fold_into(directory: Path, folding: Folding) -> str:
    """Add a shard with the gains to a model directory of links, which this rewrites the index of; a note of what moved.

    Args:
        directory: as `export.directory` fills it; its weights are links, and none of them is written to.
        folding: the gains.

    Raises:
        ExportError: its weights are called otherwise than its architecture calls them.
        ModelError: the architecture has no weights that can hold these gains.
    """
    places = _places(directory)
    _require_shape(directory, places, folding)
    missing = [layer for layer in folding.layers if layer not in places]
    if missing:
        raise ExportError(f"layer {missing[0]} makes its query in a way that takes no gains; tune the rotation alone.")
    index = _index(directory)
    weights: dict[str, Tensor] = {}
    rounded = 0.0
    for layer in folding.layers:
        factors = torch.from_numpy(folding.factors(layer))
        for place in places[layer]:
            value = _read(directory, index, place.name)
            weights[place.name] = folded(value, place, factors)
            rounded = max(rounded, _rounded(value, weights[place.name], place, factors))
    (directory / SHARD).write_bytes(save(weights, {"format": "pt"}))
    index["weight_map"] |= dict.fromkeys(weights, SHARD)
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return (
        f"{len(weights)} tensors hold the gains, in {SHARD}; rounding them to {_dtype(weights)} moved no number by "
        f"more than {100 * rounded:.2g} % of itself."
    )


def dtype_of(directory: Path) -> str:
    """The narrowest dtype of the weights that hold gains, torch's word."""
    with safe_open(directory / SHARD, framework="pt") as file:
        names = list(file.keys())
        found = {file.get_tensor(name).dtype for name in names}
    return str(max(found, key=lambda dtype: torch.finfo(dtype).eps)).removeprefix("torch.")


def _dtype(weights: Mapping[str, Tensor]) -> str:
    """Dtypes of tensors of any shape, torch's words."""
    return ", ".join(sorted({str(each.dtype).removeprefix("torch.") for each in weights.values()}))


def _places(directory: Path) -> dict[int, tuple[Place, ...]]:
    with quiet(), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(directory)
        model = auto_classes(str(directory), config)[0].from_config(config)
    return query_places(model)


def _require_shape(directory: Path, places: Mapping[int, tuple[Place, ...]], folding: Folding) -> None:
    """Raises ExportError where the gains are of another model."""
    depth, heads, _ = folding.gains.shape
    wide = {place.rows.shape for each in places.values() for place in each}
    if max(places) >= depth or not wide <= {(heads, len(folding.pairs)), (1, len(folding.pairs))}:
        raise ExportError(
            f"the gains are for {depth} layers of {heads} heads of {len(folding.pairs)} dimensions, and the model has "
            f"{max(places) + 1} of {' and '.join(f'{h} x {d}' for h, d in sorted(wide))}; give the tuned model."
        )


def _index(directory: Path) -> dict[str, Any]:
    """Which file holds which tensor; a lone file gets a name under which it is one of several."""
    if (directory / INDEX).is_file():
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        (directory / INDEX).unlink()  # it may be a link
        return index
    alone = directory / WEIGHTS
    if not alone.is_file():
        raise ExportError(f"{directory}: has no {WEIGHTS} and no {INDEX}; give a whole model directory.")
    with safe_open(alone, framework="pt") as file:
        names = list(file.keys())
    alone.rename(directory / ONLY)
    return {"metadata": {}, "weight_map": dict.fromkeys(names, ONLY)}


def _read(directory: Path, index: Mapping[str, Any], name: str) -> Tensor:
    """A tensor of the checkpoint in its own shape."""
    file = index["weight_map"].get(name)
    if file is None:
        raise ExportError(
            f"the checkpoint has no tensor {name}, which its architecture makes queries by; save it again with "
            "save_pretrained, and export that."
        )
    with safe_open(directory / file, framework="pt") as opened:
        return opened.get_tensor(name)


def _rounded(value: Tensor, new: Tensor, place: Place, factors: Tensor) -> float:
    """The largest relative error of the new numbers of the same shape; factors are `[H, D]`."""
    exact = folded(value.double().float(), place, factors)
    change = (new.float() - exact).abs() / exact.abs().clamp_min(torch.finfo(torch.float32).tiny)
    return float(change.max())
