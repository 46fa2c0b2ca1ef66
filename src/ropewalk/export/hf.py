"""transformers: the keys to change in config.json, in the words of version 5 and of version 4.

Version 5 reads `rope_parameters`, version 4 `rope_scaling` and a top-level `rope_theta`; without the latter, readers
fall back to 10000 in silence. Where both stand, version 5 takes `rope_scaling`, so both say the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.beside import ORIGINAL, original, with_softmax_mscale
from ropewalk.export.engine import Engine, Here, Made, Options, Order
from ropewalk.export.forms import LONGROPE_ONLY, Rope, named, stands_still, two_windows, universal
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.methods import METHODS

GEMMA_3 = frozenset({"gemma3", "gemma3_text"})
LAYERED_V4 = GEMMA_3 | {"olmo3"}
"""Models with several kinds of layers that transformers 4 knew, in its own words."""


def configure(asked: Request) -> Export:
    """The keys to change; none for `none`.

    Raises:
        ExportError: the model's configuration takes no longrope, and the rotation has no other name.
    """
    if asked.method == "none":
        return Export(
            engine="hf", fidelity="exact", config={}, notes=("Nothing to change: none is the model as it ships.",)
        )
    if asked.needs_code:
        from ropewalk.export.with_code import configure as with_code  # it loads torch

        return with_code(asked)
    two = two_windows(asked)
    rope = None if two else named(asked)
    approximated = rope is None and stands_still(asked)
    if rope is None and asked.checkpoint.uneven:
        have = ", ".join(name for name, method in METHODS.items() if method.hf is not None)
        raise ExportError(
            f"hf: transformers reads no longrope for {asked.checkpoint.model_type}, whose layers differ in head_dim, "
            f"and {asked.method} has no other name here; the nearest that has are {have}."
        )
    rope = with_softmax_mscale(asked, universal(asked) if rope is None else rope)
    config = text_config(asked, rope)
    return Export(
        engine="hf",
        fidelity="approximated" if approximated else "exact",
        config={"text_config": config} if asked.checkpoint.nested else config,
        notes=(*common_notes(replace(asked, auto=asked.auto and not two)), *_notes(asked, rope)),
    )


def text_config(asked: Request, rope: Rope) -> dict[str, Any]:
    """The keys of the text model's configuration."""
    config: dict[str, Any] = {
        "max_position_embeddings": max(asked.length, asked.window),
        "rope_parameters": layered(asked, rope),
    }
    if asked.checkpoint.original_beside:
        config[ORIGINAL] = original(asked)
    return config | _version_4(asked, rope)


def layered(asked: Request, rope: Rope) -> Rope:
    """`rope_parameters` as a whole: with the other kinds of layers as they ship, where there are any."""
    layer_type = asked.geometry.layer_type
    if layer_type is None:
        return rope
    return {**{name: dict(other) for name, other in asked.checkpoint.layers.items()}, layer_type: rope}


def _version_4(asked: Request, rope: Rope) -> dict[str, Any]:
    model_type = asked.checkpoint.model_type
    scaling = None if rope["rope_type"] == "default" else {k: v for k, v in rope.items() if k != "rope_theta"}
    if asked.geometry.layer_type is not None and model_type not in LAYERED_V4:
        return {}
    if model_type == "olmo3":  # one base for all layers
        return {"rope_scaling": scaling}
    config: dict[str, Any] = {"rope_theta": rope["rope_theta"]}
    if model_type in GEMMA_3:
        config["rope_local_base_freq"] = asked.checkpoint.layers["sliding_attention"]["rope_theta"]
    if model_type == "gpt_neox":
        config["rotary_emb_base"] = rope["rope_theta"]
    if model_type in LONGROPE_ONLY:  # version 4 takes three keys there and no A, and version 5 would read them first
        return config | {"rope_scaling": None}
    return config | {"rope_scaling": scaling}


def _notes(asked: Request, rope: Rope) -> list[str]:
    notes = []
    kind, model_type = rope["rope_type"], asked.checkpoint.model_type
    if two_windows(asked):
        notes += _switch(asked)
    elif kind == "longrope":
        notes.append(
            "Written as longrope with the same list inside and beyond the window; transformers warns of short_mscale "
            "and long_mscale, which servers read."
        )
    if stands_still(asked) and kind == "longrope":
        notes.append("Pairs that do not turn get lambda 1e15, 1e-8 rad over 10 million tokens.")
    if model_type in LONGROPE_ONLY and kind != "default":
        notes.append(f"Needs transformers 5: version 4 takes no attention_factor for {model_type}.")
    if kind == "proportional":
        notes.append("Needs transformers 5: version 4 has no rope_type proportional.")
    if model_type == "olmo3" and rope["rope_theta"] != asked.geometry.rope_theta:
        notes.append("Needs transformers 5: version 4 has one rope_theta for all layers of OLMo 3.")
    return notes


def _switch(asked: Request) -> list[str]:
    window, factor = asked.window, asked.rotation.attention_factor
    notes = [
        f"Written as longrope with two lists: short_factor up to {window} tokens, long_factor beyond. transformers "
        f"chooses by the last position of a pass, so a generation that begins inside the window and crosses it keeps "
        "keys of the short list in its cache."
    ]
    if factor != 1.0:
        notes.append(
            f"transformers has one attention_factor for both lists: up to {window} tokens the model runs under A = "
            f"{factor:.6g} too, as measured, and not as it ships."
        )
    return notes


Configure = Callable[[Request], Export]


def directory(order: Order, out: Path, form: Configure = configure) -> Made:
    """The whole model with this rotation and its gains, in `out`. Raises ExportError."""
    from ropewalk.export.directory import write_directory
    from ropewalk.export.proof import prove

    export, said = form(order.asked), list[str]()

    def proof(finished: Path) -> None:
        said.extend(prove(order, export, finished))

    notes = write_directory(order.found, order.asked, export, out, force=order.options.force, proof=proof)
    return export, (*notes, *said, f"{out} is the whole model with this rotation.")


def artefacts(order: Order, form: Configure = configure) -> Made:
    """A directory in `--out`; for the sake of the proof alone, in a scratch directory."""
    from ropewalk.export.line import require_no_gains

    out = order.options.out
    if out is not None:
        return directory(order, out, form)
    require_no_gains(order)
    export, said = form(order.asked), tuple[str, ...]()
    if order.options.check:
        with tempfile.TemporaryDirectory() as scratch:
            said = directory(order, Path(scratch) / "exported", form)[1][:-1]
    return export, said


def refuses(options: Options) -> None:
    from ropewalk.export.directory import refuse_existing

    if options.out is not None:
        refuse_existing(options.out, force=options.force)


def _prove(order: Order, export: Export, directory: Path | None) -> tuple[str, ...]:
    from ropewalk.export.proof import of_directory

    assert directory is not None
    return of_directory(order, directory)


ENGINE = Engine(
    name="hf",
    configure=configure,
    here=Here(name="transformers", prove=_prove),
    artefacts=artefacts,
    refuses=refuses,
    code=True,
)
