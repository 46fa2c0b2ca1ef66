"""SGLang: a `launch_server` line. Written from a reading of SGLang 0.5.23; not run live."""

from __future__ import annotations

import json

from ropewalk.errors import ExportError
from ropewalk.export.forms import Rope, refuse_two_windows, stands_still
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.export.served import as_shipped, overrides, served_form
from ropewalk.methods.blend import temperature

KNOWN_FLAT = "the nearest that can is --target hf --out DIR with transformers, or --target vllm"


def export(asked: Request) -> Export:
    """`--json-model-override-args` and `--context-length`; the dictionary is merged with the old one.

    Raises:
        ExportError: SGLang cannot run this rotation on this model.
    """
    launch = ("python", "-m", "sglang.launch_server", "--model-path", asked.checkpoint.name)
    limit = ("--context-length", str(asked.length))
    if as_shipped(asked):
        return Export(engine="sglang", fidelity="exact", config={}, command=(*launch, *limit))
    _check(asked)
    rope = _as_read(served_form(asked, "sglang"))
    config = overrides(asked, rope, rope)
    return Export(
        engine="sglang",
        fidelity="approximated" if stands_still(asked) else "exact",
        config=config,
        command=(*launch, "--json-model-override-args", json.dumps(config), *limit),
        notes=(*common_notes(asked), *_notes(asked, rope)),
    )


def _check(asked: Request) -> None:
    refuse_two_windows(asked, "sglang", "it chooses the list for each batch of tokens, so one cache would hold both")
    model_type = asked.checkpoint.model_type
    if model_type.startswith("gemma3"):
        raise ExportError(f"sglang: ignores every scaling of {model_type}, {asked.method} too; {KNOWN_FLAT}.")
    if asked.geometry.layer_type is not None or asked.checkpoint.nested:
        where = "text_config" if asked.checkpoint.nested else f"layer type {asked.geometry.layer_type}"
        raise ExportError(
            f"sglang: {model_type} keeps its rotation under {where}, where its override is not known to reach; "
            f"{KNOWN_FLAT}."
        )


def _as_read(rope: Rope) -> Rope:
    """yarn: attention_factor is ignored, and attn_factor multiplies 0.1 ln s + 1."""
    if rope["rope_type"] != "yarn":
        return rope
    rest = {key: value for key, value in rope.items() if key != "attention_factor"}
    return rest | {"attn_factor": rope["attention_factor"] / temperature(rope["factor"])}


def _notes(asked: Request, rope: Rope) -> list[str]:
    notes = []
    if asked.shipped_type != "default":
        notes.append("SGLang merges with the rope_parameters that the checkpoint ships; rope_type decides which count.")
    if rope["rope_type"] == "longrope":
        notes.append(
            "Written as longrope with one list for all lengths; SGLang reads A from short_mscale, long_mscale."
        )
    if rope["rope_type"] == "yarn":
        notes.append("attn_factor is A / (0.1 ln factor + 1): SGLang ignores attention_factor.")
    if stands_still(asked):
        notes.append("Pairs that do not turn get lambda 1e15, 1e-8 rad over 10 million tokens.")
    return notes
