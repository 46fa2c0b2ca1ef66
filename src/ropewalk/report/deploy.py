"""The command that turns a recommendation into an engine's configuration; pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ropewalk.errors import RopewalkError
from ropewalk.experiment.raw import geometry
from ropewalk.methods import make_params, resolve
from ropewalk.report.parameters import defaults
from ropewalk.report.recommend import Candidate
from ropewalk.stats.measured import NONE, Measured

CHECKPOINT = "hf"
"""The engine whose artefact is a checkpoint, and the one to deploy to where none is named."""
LONG = 2000
"""Characters of a parameter, such as gains, from which on the run itself is exported, which holds it."""


def deploy_command(
    run: Measured, method: str, params: Mapping[str, Any], length: int, directory: str | Path, target: str = CHECKPOINT
) -> str | None:
    """The shell command for an engine; None for `none`, which needs nothing, and for what changes attention itself,
    which no configuration says.

    The factor is spelled out, even at its default.

    Args:
        run: what was measured.
        method: that is recommended.
        params: with these parameters.
        length: tokens.
        directory: of the run.
        target: the engine's name.
    """
    if method == NONE:
        return None
    window, factor = run.experiment.get("window"), defaults(method).get("factor")
    known: dict[str, Any] = {} if factor is None else {"factor": factor}
    known |= {} if window is None else {"original_max_position_embeddings": window}
    if any(len(_yaml(value)) > LONG for value in params.values()):
        whole = ["ropewalk", "export", str(directory), "--target", target, "--length", str(length)]
        whole += ["--out", "MODEL"] if target == CHECKPOINT else []
        return shlex.join(whole)
    if not _can_be_served(run, method, params, length):
        return None
    words = ["ropewalk", "export", method, "--model", model_argument(run)]
    words += [word for key, value in (known | dict(params)).items() for word in ("-p", f"{key}={_yaml(value)}")]
    return shlex.join([*words, "--target", target, "--length", str(length)])


def _can_be_served(run: Measured, method: str, params: Mapping[str, Any], length: int) -> bool:
    """Whether configurations and weights can hold it; also where that cannot be told here: `export` says why."""
    try:
        asked = make_params(method, dict(params))
        scheme = resolve(geometry(run.meta["geometry"]), method, asked, length).scheme
    except (RopewalkError, LookupError):
        return True
    return not scheme.branches and scheme.temperature is None


def deploy_commands(
    run: Measured, choice: Candidate, length: int, directory: str | Path, targets: Sequence[str]
) -> dict[str, str]:
    """The shell command of every engine; none for `none`."""
    found = {name: deploy_command(run, choice.method, choice.asked, length, directory, name) for name in targets}
    return {name: command for name, command in found.items() if command is not None}


def model_argument(run: Measured) -> str:
    """The model as `--model` takes it: a hub id, a path or a built-in name."""
    model = run.experiment.get("model") or run.meta.get("model", {}).get("id", "MODEL")
    return str(model.get("id", "MODEL") if isinstance(model, Mapping) else model)


def _yaml(value: Any) -> str:
    """A parameter as `-p` reads it: plain for words and whole numbers, JSON otherwise."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
