"""A run's recommendation as something to export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ropewalk.errors import ExportError
from ropewalk.experiment.guards import sound
from ropewalk.export.checkpoint import Described, describe
from ropewalk.export.request import Request, request
from ropewalk.model_spec import ModelSpec
from ropewalk.report.recommend import Recommendation, recommend
from ropewalk.report.study import read_to_choose
from ropewalk.stats.measured import Measured


def recommended(
    directory: Path, length: int, *, partial: bool = False, branches: bool = False, code: bool = False
) -> tuple[Described, Request, str]:
    """What the run recommends at a length, resolved to the length that was measured; and what is to be said of it.

    Raises:
        ExportError: the model is no longer the one that was measured, or is more than a checkpoint.
        ExperimentError: nothing was measured at or beyond the length, or cells are missing and not `partial`.
        StoreError: there is no run, or it is damaged.
    """
    with sound(directory):
        run, missing = read_to_choose(directory, partial=partial)
        answer = recommend(run, length)
    spec = ModelSpec.parse(run.experiment["model"])
    if spec.trust_remote_code:  # a run directory may come from anybody, and is no consent
        raise ExportError(
            f"{directory}: was made with trust_remote_code, and a run directory cannot consent to code of others "
            "that runs here; export METHOD with --model DIRECTORY."
        )
    if spec.adapter is not None or spec.quantization is not None:
        part = "adapter" if spec.adapter is not None else "quantization"
        raise ExportError(
            f"{directory}: its model has {part}={getattr(spec, part)!r}, which no configuration holds; merge or save "
            "that model into a directory, and export METHOD with --model DIRECTORY."
        )
    found = describe(spec)
    window = run.experiment.get("window")
    geometry = found.geometry if window is None else replace(found.geometry, window_override=int(window))
    choice = answer.choice
    asked = request(
        geometry, choice.method, choice.asked, answer.judged_at, found.checkpoint, branches=branches, code=code
    )
    _check_measured(run, answer, asked, directory)
    said = f"{choice.label}, recommended by {directory} for {length} tokens (measured at {answer.judged_at})."
    return found, asked, f"From part of a run: {missing} {said}" if missing.cells else said


def _check_measured(run: Measured, answer: Recommendation, asked: Request, directory: Path) -> None:
    label, length = answer.choice.label, answer.judged_at
    measured = {row.fingerprint for row in run.rows if row.label == label and row.length == length and row.fingerprint}
    if measured and asked.scheme.fingerprint not in measured:
        raise ExportError(
            f"{directory}: measured {label} with rotation {sorted(measured)[0]}, and the model gives "
            f"{asked.scheme.fingerprint} today; its configuration has changed since, so run the experiment again."
        )
