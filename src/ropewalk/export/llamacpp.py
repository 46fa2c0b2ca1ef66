"""llama.cpp: flags of `llama-server`. Written from a reading of llama.cpp of October 2026; not run live."""

from __future__ import annotations

from ropewalk.errors import ExportError
from ropewalk.export.forms import larger_base, usual_temperature
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.methods.abf import Abf
from ropewalk.methods.blend import temperature
from ropewalk.methods.dynamic_ntk import DynamicNtk
from ropewalk.methods.linear import Linear
from ropewalk.methods.ntk_aware import NtkAware
from ropewalk.methods.yarn import Yarn

Flags = tuple[str, ...]

ARCHITECTURES = {"mistral": "llama", "gpt_neox": "gptneox", "gemma3_text": "gemma3"}
"""model_type -> general.architecture of the GGUF, where they differ."""


def export(asked: Request) -> Export:
    """The flags of linear, yarn and everything that is another base.

    Raises:
        ExportError: there are no flags for this rotation on this model.
    """
    name = asked.checkpoint.name
    file = name if name.lower().endswith(".gguf") else "MODEL.gguf"
    flags = () if asked.method == "none" else _flags(asked)
    context = ("--ctx-size", str(asked.length))
    command = ("llama-server", "-m", file, *context, *flags, *_raised(asked))
    return Export(
        engine="llama.cpp",
        fidelity="exact",
        config={},
        command=command,
        notes=(*common_notes(asked), *_notes(asked, file, command)),
    )


def _flags(asked: Request) -> Flags:
    _check_file(asked)
    params = asked.params
    base = asked.geometry.rope_theta
    if isinstance(params, Linear):
        return "--rope-scaling", "linear", "--rope-scale", repr(params.s)
    if isinstance(params, NtkAware):
        base = larger_base(asked, params.s)["rope_theta"]
    elif isinstance(params, DynamicNtk):
        base = larger_base(asked, 1.0 + params.s * (max(asked.length, asked.window) / asked.window - 1.0))["rope_theta"]
    elif isinstance(params, Abf):
        base = params.rope_theta
    elif isinstance(params, Yarn) and params.ramp == "index" and params.truncate:
        return _yarn(asked, params)
    elif not asked.unscaled:
        raise ExportError(_no_flags(asked))
    return "--rope-scaling", "none", "--rope-freq-base", repr(base)


def _yarn(asked: Request, params: Yarn) -> Flags:
    flags = (
        *("--rope-scaling", "yarn", "--rope-scale", repr(params.s), "--yarn-orig-ctx", str(asked.window)),
        *("--yarn-beta-fast", repr(params.beta_fast), "--yarn-beta-slow", repr(params.beta_slow)),
    )
    if usual_temperature(asked):
        return flags
    factor = asked.rotation.attention_factor / temperature(params.s)
    return *flags, "--override-kv", f"{_architecture(asked)}.rope.scaling.attn_factor=float:{factor!r}"


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
    return ARCHITECTURES.get(asked.checkpoint.model_type, asked.checkpoint.model_type)


def _check_file(asked: Request) -> None:
    """Flags replace the base and a linear scaling, and stack on the divisors that a Llama-3.x file carries."""
    method, shipped = asked.method, asked.shipped_type
    if asked.geometry.layer_type is not None:
        raise ExportError(
            f"llama.cpp: flags scale every layer of {asked.checkpoint.model_type}, {method} only "
            f"{asked.geometry.layer_type}; the nearest that can is --target hf."
        )
    if shipped == "default" or (shipped == "linear" and not asked.stacked) or (shipped == "llama3" and asked.stacked):
        return
    remedy = "export with -p compose=stack, after measuring that" if shipped == "llama3" else "use --target hf"
    raise ExportError(
        f"llama.cpp: the file ships {shipped}, and flags cannot {'stack on' if asked.stacked else 'replace'} it with "
        f"{method}; {remedy}."
    )


def _no_flags(asked: Request) -> str:
    remedy = "the nearest that has is yarn with its defaults, or --target hf"
    if asked.method in ("llama3", "ntk_by_parts") and not asked.stacked:
        remedy = (
            "write --target hf --out DIR and convert DIR with llama.cpp's convert_hf_to_gguf.py, which stores llama3's "
            "divisors in the file"
        )
    kind = f"{asked.method} with ramp turns or truncate false" if asked.method == "yarn" else asked.method
    return f"llama.cpp: has no flags for {kind} (its own are linear, yarn and another base); {remedy}."


def _notes(asked: Request, file: str, command: Flags) -> list[str]:
    notes = []
    if file == "MODEL.gguf":
        notes.append("MODEL.gguf stands for this model converted with llama.cpp's convert_hf_to_gguf.py.")
    if "--override-kv" in command:
        notes.append(f"--override-kv names the architecture {_architecture(asked)}; it must be the file's own.")
    if asked.stacked:
        notes.append("The file carries rope_freqs.weight, and the flags stack on it, as compose=stack was measured.")
    if any("attn_factor" in word for word in command):
        notes.append("A is set in the metadata, as --yarn-attn-factor is overwritten.")
    notes.append("Ollama takes no rope parameters in a Modelfile, only num_ctx.")
    return notes
