"""llama.cpp: flags of `llama-server`."""

from __future__ import annotations

from pathlib import Path

from ropewalk.errors import ExportError
from ropewalk.export.engine import Engine, Here, Live, Made, Order
from ropewalk.export.llamacpp_servers import KINDS
from ropewalk.export.native import DIVISORS, OLLAMA, Flags, Native, native, served, spares_layers
from ropewalk.export.request import Export, Request, common_notes

ARCHITECTURES = {"mistral": "llama", "gpt_neox": "gptneox", "gemma3_text": "gemma3"}
"""model_type -> general.architecture of the GGUF, where they differ."""

REWRITE = "--gguf IN --out OUT, which writes it into the file"


def configure(asked: Request) -> Export:
    """The flags of linear, yarn and everything that is another base.

    Raises:
        ExportError: there are no flags for this rotation on this model.
    """
    name = asked.checkpoint.name
    file = name if name.lower().endswith(".gguf") else "MODEL.gguf"
    flags = () if asked.method == "none" else _flags(asked)
    command = (*served(file, asked.length), *flags, *_raised(asked))
    return Export(
        engine="llama.cpp",
        fidelity="exact",
        config={},
        command=command,
        notes=(*common_notes(asked), *_notes(asked, file, command)),
    )


def _flags(asked: Request) -> Flags:
    _check_file(asked)
    own = native(asked)
    if own is None:
        raise ExportError(_no_flags(asked))
    if own.scaling == "none":
        return "--rope-scaling", "none", "--rope-freq-base", repr(own.rope_theta)
    flags = ("--rope-scaling", own.scaling, "--rope-scale", repr(own.factor))
    return flags if own.betas is None else (*flags, *_yarn(asked, own, own.betas))


def _yarn(asked: Request, own: Native, betas: tuple[float, float]) -> Flags:
    fast, slow = map(repr, betas)
    flags = ("--yarn-orig-ctx", str(asked.window), "--yarn-beta-fast", fast, "--yarn-beta-slow", slow)
    if own.attn_factor == 1.0:
        return flags
    return *flags, "--override-kv", f"{_architecture(asked)}.rope.scaling.attn_factor=float:{own.attn_factor!r}"


def _raised(asked: Request) -> Flags:
    """The file's context_length caps the context; raising it changes no rotation, as yarn's window is spelled out."""
    if asked.length <= asked.geometry.max_position_embeddings:
        return ()
    if asked.method == "none" and asked.shipped_type not in ("default", "llama3"):
        raise ExportError(
            f"llama.cpp: cannot run the shipped {asked.shipped_type} at {asked.length} tokens, beyond the "
            f"{asked.geometry.max_position_embeddings} of the file; the nearest that can is --target hf."
        )
    return "--override-kv", f"{_architecture(asked)}.context_length=int:{asked.length}"


def _architecture(asked: Request) -> str:
    model_type = asked.checkpoint.model_type
    return asked.checkpoint.architecture or ARCHITECTURES.get(model_type, model_type)


def _check_file(asked: Request) -> None:
    """Flags replace the base and a linear scaling, and stack on the divisors that a Llama-3.x file carries."""
    method, shipped = asked.method, asked.shipped_type
    if asked.geometry.layer_type is not None and not spares_layers(asked):
        raise ExportError(
            f"llama.cpp: flags scale every layer of {asked.checkpoint.model_type}, {method} only "
            f"{asked.geometry.layer_type}; the nearest that can is --target hf."
        )
    if shipped == "default" or (shipped == "linear" and not asked.stacked) or (shipped == "llama3" and asked.stacked):
        return
    remedy = f"use {REWRITE}" + (", or -p compose=stack, after measuring that" if shipped == "llama3" else "")
    raise ExportError(
        f"llama.cpp: the file ships {shipped}, and flags cannot {'stack on' if asked.stacked else 'replace'} it with "
        f"{method}; {remedy}."
    )


def _no_flags(asked: Request) -> str:
    kind = f"{asked.method} with ramp turns or truncate false" if asked.method == "yarn" else asked.method
    remedy = "the nearest that has is yarn with its defaults, or --target hf"
    if _architecture(asked) in DIVISORS:
        remedy = f"use {REWRITE}"
    return f"llama.cpp: has no flags for {kind} (its own are linear, yarn and another base); {remedy}."


def _notes(asked: Request, file: str, command: Flags) -> list[str]:
    notes = []
    if file == "MODEL.gguf":
        notes.append("MODEL.gguf stands for this model converted with llama.cpp's convert_hf_to_gguf.py.")
    if "--override-kv" in command:
        notes.append(f"--override-kv names the architecture {_architecture(asked)}; it must be the file's own.")
    if any("context_length=" in word for word in command):
        notes.append(
            "llama.cpp caps the context at the file's context_length (n_ctx_train), so that is raised too; under "
            "yarn's flags it raises the cap itself, and the key does no harm."
        )
    if asked.stacked:
        notes.append("The file carries rope_freqs.weight, and the flags stack on it, as compose=stack was measured.")
    if "--yarn-orig-ctx" in command:
        notes.append(
            "llama.cpp multiplies A = 0.1 ln factor + 1 itself and ramps in dimension index, as yarn does here."
        )
    if any("attn_factor" in word for word in command):
        notes.append("A is set in the metadata, as --yarn-attn-factor is overwritten.")
    notes.append(OLLAMA.format(file="OUT.gguf", length=asked.length))
    return notes


def _artefacts(order: Order) -> Made:
    from ropewalk.export.served_gguf import artefacts

    return artefacts(order)


def _prove(order: Order, export: Export, file: Path | None) -> tuple[str, ...]:
    from ropewalk.export.served_gguf import prove

    return prove(order, export, file)


ENGINE = Engine(
    name="llama.cpp",
    configure=configure,
    here=Here(name="llama-cpp-python", prove=_prove),
    server=Live(kinds=KINDS, bos=True),
    artefacts=_artefacts,
    reads_gguf=True,
)
