"""The experiment file that `ropewalk init` writes for a model and a machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import torch
import yaml

from ropewalk.corpus import builtin_documents
from ropewalk.errors import ExperimentError
from ropewalk.experiment import presets
from ropewalk.experiment.memory import longest
from ropewalk.experiment.schema import load_yaml
from ropewalk.metrics import registered
from ropewalk.model_spec import ModelSpec
from ropewalk.models import read_geometry
from ropewalk.models.size import ModelSize, read_size
from ropewalk.rope import RopeGeometry

BYTES_PER_TOKEN = 3.5
"""Of English prose, at the least: what tells whether a built-in document fills a length before it is tokenised."""
LENGTHS = 5
"""At most so many, the longest ones: each beyond the window costs as much as all before it."""
COUNT = 8


def draft(model: str, length: int | None = None) -> str:
    """A commented experiment file: lengths that fit into memory, factors that reach the longest, texts that fill it.

    Args:
        model: as `model:` takes it.
        length: the longest, tokens; None takes four times the window, or what fits.

    Raises:
        ModelError: the model's configuration cannot be had.
        ExperimentError: the length lies inside the window, or does not fit into memory.
    """
    spec = ModelSpec.parse(model)
    geometry, size = read_geometry(spec), read_size(spec, "auto")
    window, fits = geometry.window("stack").length, longest(size, free_bytes(size), shared=True)
    if length is not None and length <= window:
        raise ExperimentError(f"--length {length}: lies inside the window of {window} tokens; name a longer one.")
    if length is not None and length > fits:
        raise ExperimentError(
            f"--length {length}: at most {fits} tokens of {model} fit into the memory that is free here; name fewer, "
            "or a smaller model."
        )
    target = 4 * window if length is None else length
    while length is None and target > max(fits, 1):
        target //= 2
    return _text(model, geometry, size, window, target)


def free_bytes(size: ModelSize) -> int:
    """Memory that nothing uses, of the device that the model would be loaded to."""
    if size.device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(model: str, geometry: RopeGeometry, size: ModelSize, window: int, target: int) -> str:
    lengths = ladder(window, target)
    factor = max(1, -(-target // window))
    filled = sum(len(d.text.encode()) >= BYTES_PER_TOKEN * target for d in builtin_documents(None))
    documents = (
        f"{{corpus: builtin, count: {min(COUNT, filled)}}}  # public-domain books; or {{files: ['books/*.txt']}}"
        if filled > 1
        else f'{{files: ["books/*.txt"]}}  # the built-in texts are too short: name yours, of {target:,} tokens each'
    )
    metrics = "\n".join(f"  {name}: {options}" for name, options in _metrics(builtin=filled > 1))
    shipped = geometry.rope_parameters.get("rope_type") or "default"
    beyond = "" if shipped == "default" else f", and ships rope_type {shipped}, which methods replace"
    return f"""# {model} from inside its window to {target:,} tokens; every key: `ropewalk schema`, docs/experiment.md.
# next: ropewalk plan FILE; ropewalk run FILE --out runs/one
model: {json.dumps(model, ensure_ascii=False)}
# Its window is {window:,} tokens ({geometry.window("stack").source}){beyond}.
# window: {window}   # set it where a model card names a smaller trained window
lengths: {lengths}   # {size.parameters / 1e6:,.0f} million parameters on {size.device}
documents: {documents}
methods:
  yarn: {{factor: {_grid(factor, 2 * factor)}}}
  ntk_aware: {{factor: {_grid(factor, 2 * factor)}}}
  llama3: {{factor: {factor}}}
  mrrope: {{factor: {factor}}}
  dynamic_ntk: {{factor: {factor}}}
metrics:
{metrics}
seed: 0
"""


def _metrics(*, builtin: bool) -> Iterator[tuple[str, str]]:
    """The metrics of the demo with what they report; without those that need the built-in texts where not `builtin`."""
    asked = load_yaml(presets.text("demo"), "preset:demo")["metrics"]
    for name, options in asked.items():
        if builtin or "builtin" not in options.values():
            said = ", ".join(column.phrase for column in registered()[name].columns)
            yield name, f"{yaml.safe_dump(options, default_flow_style=True).strip()}  # {said}"


def _grid(*factors: int) -> str:
    return str(list(dict.fromkeys(factors)))


def ladder(window: int, target: int) -> list[int]:
    """Half the window, then doubling, and the target; at most LENGTHS, of which the first stays inside the window."""
    found, length = [max(4, min(window // 2, target))], window
    while length < target:
        found.append(length)
        length *= 2
    found = sorted({*found, target})
    return found if len(found) <= LENGTHS else [found[0], *found[-(LENGTHS - 1) :]]
