"""vLLM: a `vllm serve` line, as vLLM 0.32 runs and vLLM 0.33 reads it: docs/engines.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from ropewalk.export.asking import Server
from ropewalk.export.beside import ORIGINAL, query_window
from ropewalk.export.endpoint import as_documented, model_of, observed, word
from ropewalk.export.engine import Engine, Kind, Live, Text
from ropewalk.export.forms import Rope, refuse_two_windows, stands_still
from ropewalk.export.hf import layered
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.export.served import artefacts, as_shipped, overrides, served_form

if TYPE_CHECKING:
    from ropewalk.export.check import Observed


def configure(asked: Request) -> Export:
    """`--hf-overrides` and `--max-model-len`; the overriding dictionary replaces the old one, so it is whole.

    Raises:
        ExportError: vLLM cannot run this rotation on this model.
    """
    tempered = _temperature(asked)
    if as_shipped(asked):
        return _line(asked, tempered, "exact", [])
    refuse_two_windows(asked, "vllm", "with a longer --max-model-len it uses the long list for every prompt")
    rope = served_form(asked, "vllm")
    config = overrides(asked, layered(asked, rope), _largest_position(asked, rope)) | tempered
    return _line(asked, config, "approximated" if stands_still(asked) else "exact", _notes(asked, rope))


def _line(
    asked: Request, config: dict[str, Any], fidelity: Literal["exact", "approximated"], notes: list[str]
) -> Export:
    if "llama_4_scaling" in config:
        notes.append("The model's query temperature stands as llama_4_scaling: vLLM 0.32 reads it there alone.")
    if config and asked.checkpoint.nested:
        config = {"text_config": config}
    told = ("--hf-overrides", json.dumps(config)) if config else ()
    return Export(
        engine="vllm",
        fidelity=fidelity,
        config=config,
        command=("vllm", "serve", asked.checkpoint.name, *told, "--max-model-len", str(asked.length)),
        notes=(*common_notes(asked), *notes),
    )


def _temperature(asked: Request) -> dict[str, Any]:
    """The query temperature that ships, where vLLM 0.32 reads it: not in rope_parameters, as transformers does."""
    window = query_window(asked)
    beta = asked.geometry.rope_parameters.get("llama_4_scaling_beta")
    return {} if window is None else {"llama_4_scaling": {"beta": beta, ORIGINAL: window}}


def _largest_position(asked: Request, rope: Rope) -> int:
    """Of linear the window, which vLLM multiplies by factor (not that of Gemma 3); else the served length."""
    if rope["rope_type"] == "linear" and asked.geometry.layer_type is None:
        return asked.window
    return max(asked.length, asked.window)


def _notes(asked: Request, rope: Rope) -> list[str]:
    notes = []
    if rope["rope_type"] == "longrope":
        notes.append(
            "Written as longrope with one list for all lengths; vLLM reads A from short_mscale and long_mscale."
        )
    if rope["rope_type"] == "yarn":
        notes.append("A stands as attention_factor, and as attn_factor for versions of vLLM that ignore that.")
    if rope["rope_type"] == "linear" and asked.geometry.layer_type is None:
        notes.append("max_position_embeddings stays at the window: vLLM multiplies it by factor.")
    if asked.method == "dynamic_ntk":
        notes.append(
            "Written as rope_theta: vLLM takes rope_type dynamic with a factor to begin at max_position_embeddings."
        )
    if stands_still(asked):
        notes.append("Pairs that do not turn get lambda 1e15, 1e-8 rad over 10 million tokens.")
    return notes


def _known(server: Server) -> bool:
    return isinstance(server.has("/version"), dict)


def _losses(server: Server, ids: list[int], text: Text) -> Observed:
    """`prompt_logprobs: 0` gives, of every prompt token, its own log-probability, keyed by its id."""
    with as_documented(server, "/version says no version"):
        version = word(server.ask("/version")["version"])
    body = {"model": model_of(server), "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    with as_documented(server, f"vLLM {version} gave no prompt_logprobs of these {len(ids)} tokens"):
        entries = server.ask("/v1/completions", body)["choices"][0]["prompt_logprobs"]
        found = [entry[str(token)]["logprob"] for token, entry in zip(ids[1:], entries[1:], strict=True)]
    return observed(server, f"vLLM {version}", found)


ENGINE = Engine(
    name="vllm",
    configure=configure,
    server=Live(kinds=(Kind(name="vllm", known=_known, losses=_losses),)),
    artefacts=artefacts,
)
