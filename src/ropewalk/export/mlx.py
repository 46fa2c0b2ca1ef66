"""mlx-lm: a model directory with keys that mlx-lm 0.32.2 was seen to read: docs/results/engines.md.

It reads `rope_scaling` and a top-level `rope_theta`, no rope_parameters; of yarn no attention_factor and no truncate,
of longrope neither A nor the short list. transformers reads the same rotation from the same directory.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export import hf
from ropewalk.export.beside import ORIGINAL
from ropewalk.export.engine import Engine, Here, Made, Order
from ropewalk.export.forms import Rope, named, refuse_two_windows, stands_still, universal
from ropewalk.export.request import Export, Request, common_notes

SEEN = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3_text", "gpt_neox"})
"""Models whose mlx-lm class was run, or whose refusal is known."""

LISTS_WINDOW = 2**16
"""original_max_position_embeddings beside a list with A > 1, and nothing else: large, so that A is exact to 1e-7."""

NEAREST = "the nearest that can is --target hf, or another base (ntk_aware, abf)"


def configure(asked: Request) -> Export:
    """The keys to change in config.json; `none` too, as mlx-lm does not read what transformers 5 saves.

    Raises:
        ExportError: mlx-lm cannot run this rotation, or this model was not seen in it.
    """
    refuse_two_windows(asked, "mlx", "mlx-lm takes the long list for every prompt")
    rope = _form(asked)
    if asked.checkpoint.model_type == "gpt_neox" and rope["rope_type"] != "default":
        raise ExportError(
            f"mlx: mlx-lm's gpt_neox reads a base alone (rotary_emb_base), and no {asked.method}; {NEAREST}."
        )
    scaling = None if rope["rope_type"] == "default" else {key: rope[key] for key in rope if key != "rope_theta"}
    if asked.checkpoint.model_type == "phi3" and scaling is not None:
        scaling = scaling | {"type": scaling["rope_type"]}
    config = hf.text_config(asked, rope) | {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
    if asked.checkpoint.model_type == "gpt_neox" and "partial_rotary_factor" in rope:
        config["rotary_pct"] = rope["partial_rotary_factor"]  # which mlx-lm has no default for
    if scaling is not None and rope["rope_type"] == "longrope":
        config |= _context(asked, rope)
    return Export(
        engine="mlx",
        fidelity="approximated" if stands_still(asked) else "exact",
        config=config,
        notes=(*common_notes(asked), *_notes(asked, rope)),
    )


def _form(asked: Request) -> Rope:
    """By name where mlx-lm reads all of it, else a list.

    Raises:
        ExportError: a model that was not seen, or an attention factor below 1 over a list.
    """
    model_type, factor = asked.checkpoint.model_type, asked.rotation.attention_factor
    if asked.checkpoint.nested or model_type not in SEEN:
        raise ExportError(
            f"mlx: what mlx-lm reads of a {model_type}{' in a text_config' if asked.checkpoint.nested else ''} was not "
            f"run (known are {', '.join(sorted(SEEN))}); the nearest that can is --target hf."
        )
    rope = named(asked)
    if rope is not None and rope["rope_type"] == "yarn" and rope.get("truncate", True) and rope["factor"] > 1.0:
        return rope | {"mscale": (factor - 1.0) / (0.1 * math.log(rope["factor"])), "mscale_all_dim": 0}
    if rope is not None and rope["rope_type"] in ("default", "linear", "llama3"):
        return rope
    if factor < 1.0:
        raise ExportError(
            f"mlx: mlx-lm has no attention factor below 1 over a list, and this is {factor:g}; {NEAREST}."
        )
    return universal(asked) | {ORIGINAL: LISTS_WINDOW}


def _context(asked: Request, rope: Rope) -> dict[str, Any]:
    """mlx-lm's A is sqrt(1 + ln(max_position_embeddings / window) / ln window), of any window that is named."""
    largest = round(LISTS_WINDOW ** (rope["attention_factor"] ** 2))
    if rope["attention_factor"] == 1.0:
        largest = min(max(asked.length, asked.window), LISTS_WINDOW)
    return {"max_position_embeddings": largest} | ({ORIGINAL: LISTS_WINDOW} if asked.checkpoint.original_beside else {})


def _notes(asked: Request, rope: Rope) -> list[str]:
    notes = []
    if rope["rope_type"] == "yarn":
        notes.append("A stands as mscale with mscale_all_dim 0 for mlx-lm, and as attention_factor for transformers.")
    if rope["rope_type"] == "longrope":
        notes.append(
            f"Written as longrope with one list; mlx-lm makes A of max_position_embeddings and {ORIGINAL}, so these "
            f"two say nothing of the context here: serve {asked.length} tokens."
        )
    if stands_still(asked):
        notes.append("Pairs that do not turn get lambda 1e15, 1e-8 rad over 10 million tokens.")
    return notes


def _artefacts(order: Order) -> Made:
    if order.asked.folding is not None:
        raise ExportError(
            f"mlx: {order.asked.method} has gains of the query in a shard of their own, which mlx-lm does not load (it "
            "reads model*.safetensors); export with --target hf --out DIR, save that once more with save_pretrained, "
            "and export none of it with --target mlx."
        )
    return hf.artefacts(order, configure)


def _prove(order: Order, export: Export, directory: Path | None) -> tuple[str, ...]:
    from ropewalk.export import run_mlx
    from ropewalk.export.check import compared
    from ropewalk.export.proof import reference_of

    assert directory is not None
    library = run_mlx.library()
    reference = reference_of(order)
    return (compared(order.asked, reference, run_mlx.run(library, directory, reference.ids)),)


ENGINE = Engine(
    name="mlx",
    configure=configure,
    here=Here(name="mlx-lm", prove=_prove),
    artefacts=_artefacts,
    refuses=hf.refuses,
)
