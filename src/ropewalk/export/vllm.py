"""vLLM: a `vllm serve` line. Written from a reading of vLLM 0.33; not run live."""

from __future__ import annotations

import json

from ropewalk.export.forms import Rope, refuse_two_windows, stands_still, usual_temperature
from ropewalk.export.hf import layered
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.export.served import as_shipped, overrides, served_form


def export(asked: Request) -> Export:
    """`--hf-overrides` and `--max-model-len`; the overriding dictionary replaces the old one, so it is whole.

    Raises:
        ExportError: vLLM cannot run this rotation on this model.
    """
    serve = ("vllm", "serve", asked.checkpoint.name)
    limit = ("--max-model-len", str(asked.length))
    if as_shipped(asked):
        return Export(engine="vllm", fidelity="exact", config={}, command=(*serve, *limit))
    refuse_two_windows(asked, "vllm", "with a longer --max-model-len it uses the long list for every prompt")
    rope = served_form(asked, "vllm", by_name=asked.method != "yarn" or usual_temperature(asked))
    config = overrides(asked, rope, layered(asked, _as_read(rope)))
    if asked.checkpoint.nested:
        config = {"text_config": config}
    return Export(
        engine="vllm",
        fidelity="approximated" if stands_still(asked) else "exact",
        config=config,
        command=(*serve, "--hf-overrides", json.dumps(config), *limit),
        notes=(*common_notes(asked), *_notes(asked, rope)),
    )


def _as_read(rope: Rope) -> Rope:
    """vLLM's yarn has the usual temperature and no other."""
    return {
        key: value for key, value in rope.items() if not (rope["rope_type"] == "yarn" and key == "attention_factor")
    }


def _notes(asked: Request, rope: Rope) -> list[str]:
    notes = []
    if rope["rope_type"] == "longrope":
        notes.append(
            "Written as longrope with one list for all lengths; vLLM reads A from short_mscale and long_mscale."
        )
    if rope["rope_type"] == "linear" and asked.geometry.layer_type is None:
        notes.append("max_position_embeddings stays at the window: vLLM multiplies it by factor.")
    if asked.method == "dynamic_ntk":
        notes.append("Written as rope_theta: vLLM ignores rope_type dynamic with a factor in silence.")
    if stands_still(asked):
        notes.append("Pairs that do not turn get lambda 1e15, 1e-8 rad over 10 million tokens.")
    return notes
