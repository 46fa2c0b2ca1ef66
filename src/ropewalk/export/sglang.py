"""SGLang: a `launch_server` line, as SGLang 0.5.23 ran it on a CPU: docs/engines.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ropewalk.errors import ExportError
from ropewalk.export.asking import Server
from ropewalk.export.beside import query_window
from ropewalk.export.dual_chunk import dual_chunk
from ropewalk.export.endpoint import UNKNOWN, as_documented, observed, word
from ropewalk.export.engine import Engine, Kind, Live, Text
from ropewalk.export.forms import Rope, refuse_two_windows, stands_still
from ropewalk.export.hf import layered
from ropewalk.export.request import Export, Request, common_notes
from ropewalk.export.served import artefacts, as_shipped, overrides, served_form

if TYPE_CHECKING:
    from ropewalk.export.check import Observed

KNOWN_FLAT = "the nearest that can is --target hf --out DIR with transformers, or --target vllm"
LAYERED = frozenset({"gemma3_text"})
"""Models with several kinds of layers that SGLang was seen to scale by layer type."""

UNSCALED = {"truncate": True, "mscale": None, "mscale_all_dim": None, "extrapolation_factor": 1.0}
"""What yarn is without these keys: a checkpoint's own would survive the merge."""


def configure(asked: Request) -> Export:
    """`--json-model-override-args` and `--context-length`; the dictionary is merged with the old one.

    Raises:
        ExportError: SGLang cannot run this rotation on this model.
    """
    if asked.branches:
        return dual_chunk(asked)
    launch = ("python", "-m", "sglang.launch_server", "--model-path", asked.checkpoint.name)
    limit = ("--context-length", str(asked.length))
    if as_shipped(asked):
        return Export(
            engine="sglang", fidelity="exact", config={}, command=(*launch, *limit), notes=common_notes(asked)
        )
    _check(asked)
    rope = served_form(asked, "sglang")
    if rope["rope_type"] == "yarn":
        rope = UNSCALED | rope
    config = overrides(asked, layered(asked, rope), max(asked.length, asked.window))
    return Export(
        engine="sglang",
        fidelity="approximated" if stands_still(asked) else "exact",
        config=config,
        command=(*launch, "--json-model-override-args", json.dumps(config), *limit),
        notes=(*common_notes(asked), *_notes(asked, rope)),
    )


def _check(asked: Request) -> None:
    refuse_two_windows(asked, "sglang", "it chooses the list for each batch of tokens, so one cache would hold both")
    checkpoint, layer_type = asked.checkpoint, asked.geometry.layer_type
    if checkpoint.nested or (layer_type is not None and checkpoint.model_type not in LAYERED):
        where = "text_config" if checkpoint.nested else f"layer type {layer_type}"
        raise ExportError(
            f"sglang: {checkpoint.model_type} keeps its rotation under {where}, where its override is not known to "
            f"reach; {KNOWN_FLAT}."
        )


def _notes(asked: Request, rope: Rope) -> list[str]:
    notes = []
    if query_window(asked) is not None:
        notes.append(
            "The model's query temperature (llama_4_scaling_beta) goes along in rope_parameters; whether SGLang reads "
            "it there was not run, so --check beyond its original_max_position_embeddings."
        )
    if asked.shipped_type != "default":
        notes.append("SGLang merges with the rope_parameters that the checkpoint ships; rope_type decides which count.")
    if rope["rope_type"] == "longrope":
        notes.append(
            "Written as longrope with one list for all lengths; SGLang reads A from short_mscale, long_mscale."
        )
    if rope["rope_type"] == "yarn":
        notes.append(
            "attn_factor is A / (0.1 ln factor + 1), as SGLang ignores attention_factor; its transformers back end "
            "reads that one, so both stand there."
        )
    if asked.checkpoint.model_type in LAYERED:
        notes.append("On CPUs with AMX, SGLang ignores every scaling of Gemma 3; elsewhere it was seen to run it.")
    if stands_still(asked):
        notes.append("Pairs that do not turn get lambda 1e15, 1e-8 rad over 10 million tokens.")
    return notes


def _known(server: Server) -> bool:
    return server.has("/get_server_info") is not None or server.has("/server_info") is not None


def _losses(server: Server, ids: list[int], text: Text) -> Observed:
    """`return_logprob` from the first token on gives [log-probability, id, text] of every one."""
    facts = server.has("/get_server_info") or server.ask("/server_info")
    with as_documented(server, "its server_info says no version"):
        version = word(facts.get("version", UNKNOWN))
    sampling = {"max_new_tokens": 1, "temperature": 0}
    body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True, "logprob_start_len": 0}
    with as_documented(server, f"SGLang {version} gave no input_token_logprobs"):
        entries = server.ask("/generate", body)["meta_info"]["input_token_logprobs"]
        same = [entry[1] for entry in entries] == ids
        found = [entry[0] for entry in entries[1:]]
    if not same:
        raise server.broken(f"SGLang {version} scored other tokens than the {len(ids)} that were sent")
    return observed(server, f"SGLang {version}", found)


ENGINE = Engine(
    name="sglang",
    branches=True,
    configure=configure,
    server=Live(kinds=(Kind(name="sglang", known=_known, losses=_losses),), room=7),
    artefacts=artefacts,
)
