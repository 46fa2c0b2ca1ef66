"""Tune or resume a tuning in its directory, then judge what it found and write it down.

DIR/identity.json       what is tuned; another tuning is refused
DIR/named.json          the named methods on the tuning set, and what each descent ended at
DIR/seed-S.safetensors  where each descent stands (near-W-seed-S where near tokens are as trained)
DIR/judged/             every judged scheme on the judge's documents and prompts
DIR/winner.safetensors  the scheme, for the method `tuned`
DIR/tune.json           the result; tune.md says it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.execution.executor import Fleet, require_spread
from ropewalk.execution.identity import first_difference
from ropewalk.execution.lock import locked
from ropewalk.experiment.guards import require_empty, writing
from ropewalk.experiment.prepare import Progress
from ropewalk.experiment.schema import Experiment
from ropewalk.files import read_inside, remove_asides, write_whole
from ropewalk.models import LoadedModel
from ropewalk.tuning import asked
from ropewalk.tuning.asked import Request
from ropewalk.tuning.course import Found, begun, json_bytes
from ropewalk.tuning.kept import FOLDER
from ropewalk.tuning.side_by_side import alone, crew, resolved

IDENTITY = "identity.json"
MOST = 10_000_000
ALONE = Fleet(workers=1)


def tune(
    experiment: Experiment,
    request: Request,
    out: Path,
    *,
    loaded: LoadedModel | None = None,
    progress: Progress | None = None,
    fleet: Fleet = ALONE,
) -> Found:
    """Tune, or resume, and judge.

    Args:
        experiment: model, documents, methods to beat beside the usual ones, metrics, and its section `tune`.
        request: length, how long to tune, seeds and nears.
        out: directory; new, empty, or of the same tuning.
        loaded: a model in memory.
        progress: told of every step.
        fleet: processes that share the work; one is this process, None as many as there are descents and GPUs for them.

    Raises:
        RopewalkError: the experiment cannot be tuned on, or `out` holds something else.
    """
    report = progress or (lambda what, done, total: None)
    known = asked.checked(experiment, request, loaded)
    require_spread(fleet, known.spec)
    if not (out / IDENTITY).is_file():
        require_empty(out)
    else:
        with locked(out):  # rather now than after the model is loaded
            pass
    fleet = resolved(fleet, request)
    report("loading the model", 0, 0)
    if alone(fleet):
        course = begun(known, request, out, report)
        with locked(out):
            _begin(out, course.identity)
            remove_asides(out, (FOLDER,))
            return course.finished()
    with crew(known, request, out, fleet) as several, locked(out):
        _begin(out, several.first())
        found = several.finished(report)
        remove_asides(out, (FOLDER,))  # of workers that died, and of earlier kills
        return found


def _begin(out: Path, identity: Mapping[str, Any]) -> None:
    """Record what is tuned, or check that a resumed tuning is the same."""
    with writing(out):
        if not (out / IDENTITY).is_file():
            write_whole(out, IDENTITY, json_bytes(identity))
            return
        try:
            known = json.loads(read_inside(out, IDENTITY, MOST))
        except (ValueError, RecursionError):
            raise StoreError(f"{out / IDENTITY}: is no JSON; choose another --out.") from None
    if known != identity:
        raise StoreError(
            f"{out}: holds another tuning ({first_difference(known, identity)}); choose another --out, it is never "
            "overwritten."
        )
