"""Near and far attention for transformers: a model directory that brings the code of its attention along.

No configuration of transformers says it, so `modeling_ropewalk.py` goes beside the weights, and config.json names it as
`auto_map`. The model_type is one that transformers does not know: without trust_remote_code the directory is refused,
and never runs as the plain model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ropewalk.errors import ExportError
from ropewalk.export.check import Observed
from ropewalk.export.checkpoint import read_raw
from ropewalk.export.reference import Reference
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.models.foreign import quiet
from ropewalk.scheme import Branch

MODELS = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""Models whose heads turn in halves, between a projection and a call of attention, and their name in transformers."""
FILE = "modeling_ropewalk"
KEY = "ropewalk"


def configure(asked: Request) -> Export:
    """The keys of config.json that name the code and say what it is to do.

    Raises:
        ExportError: the code does not know the model, or scales its softmax otherwise.
    """
    stem = MODELS.get(asked.checkpoint.model_type)
    if stem is None or asked.checkpoint.nested or asked.geometry.layer_type is not None:
        raise ExportError(
            f"--with-code: the code knows {', '.join(sorted(MODELS))} and not {asked.checkpoint.model_type}; what "
            "comes nearest is a rotation for all distances, such as yarn, or `ropewalk.patched(model, scheme)`."
        )
    config = {
        "model_type": KEY,
        "architectures": ["RopewalkForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{FILE}.RopewalkConfig",
            "AutoModelForCausalLM": f"{FILE}.RopewalkForCausalLM",
        },
        "max_position_embeddings": max(asked.length, asked.geometry.max_position_embeddings),
        KEY: spec(asked),
    }
    return Export(
        engine="hf",
        fidelity="exact",
        config=config,
        notes=(
            *common_notes(asked),
            f"Warning: the directory holds {FILE}.py, code that runs on the machine of whoever loads it with "
            "trust_remote_code=True, and without that it does not load: whoever gets it must read and trust that file.",
            "Its attention is plain torch: exact, and slower than attention without branches; other engines, and "
            "caches of fixed size, do not run it.",
        ),
    )


def spec(asked: Request) -> dict[str, Any]:
    """What the code is to do, as JSON values."""
    branches = asked.branches or (Branch(rotation=asked.rotation),)
    return {
        "branches": [
            {
                **each.plain(),
                "rotation": each.rotation.fingerprint,
                "inv_freq": each.rotation.inv_freq.tolist(),
                "attention_factor": each.rotation.attention_factor,
            }
            for each in branches
        ],
        "temperature": None if asked.temperature is None else asked.temperature.plain(),
    }


def refuse_other_code(source: Path) -> None:
    """Raises ExportError where a model brings code of its own, which whoever trusts ours would run as well."""
    if other := sorted(file.name for file in source.glob("*.py")):
        raise ExportError(
            f"--with-code: {source} brings code of its own ({other[0]}), which would run where ours is trusted; give "
            "a model without."
        )


def code(asked: Request) -> str:
    """The file that goes beside the weights, over the model's own class."""
    text = (Path(__file__).parent / f"{FILE}.py").read_text(encoding="utf-8")
    stem = MODELS[asked.checkpoint.model_type]
    return text.replace("import LlamaConfig", f"import {stem}Config").replace("import LlamaF", f"import {stem}F")


def read_back(directory: Path, asked: Request) -> None:
    """Raises ExportError where the written config.json says something else than was asked for."""
    if read_raw(directory).get(KEY) != spec(asked):
        raise ExportError(f"{asked.method}: the written config.json reads back differently; nothing was written.")


@torch.inference_mode()
def run(directory: Path, reference: Reference) -> Observed:
    """The directory as transformers runs it with its code, in float32."""
    with quiet():
        model = _loaded(directory)
    ids_T = torch.from_numpy(reference.ids.astype(np.int64))
    logits_TV = model(input_ids=ids_T[None], use_cache=False).logits[0, :-1].float()
    nll = torch.nn.functional.cross_entropy(logits_TV, ids_T[1:], reduction="none")
    return Observed(name=f"transformers {transformers.__version__}", nll=nll.numpy(), relative=False)


def _loaded(directory: Path) -> Any:
    """The model under its own code, read where it lies: trust_remote_code would leave a copy of it in a cache."""
    known = importlib.util.spec_from_file_location(f"{FILE}_of_{directory.name.strip('.')}", directory / f"{FILE}.py")
    assert known is not None
    assert known.loader is not None
    module = importlib.util.module_from_spec(known)
    known.loader.exec_module(module)
    return module.RopewalkForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()


__all__ = ["code", "configure", "read_back", "run", "spec"]
