"""What a run is the run of: what was asked, down to weights, dtype and kind of device; all else is another run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError, StoreError
from ropewalk.execution import local
from ropewalk.execution.pace import Stopping
from ropewalk.execution.shard import Shard
from ropewalk.experiment.devices import kind_of
from ropewalk.experiment.guards import require_empty
from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.selecting import waits
from ropewalk.experiment.store import Store


def identity_of(asked: Asked, exact: bool, shard: Shard | None, until: Stopping | None) -> Mapping[str, Any]:
    """What is asked of a run, as its directory keeps it.

    Raises:
        ExperimentError: a time for a part of a round, or a metric that waits for all others.
    """
    part: dict[str, Any] = {} if shard is None else {"shard": str(shard)}
    if until is not None and shard is not None and until.budget_s is not None:
        raise ExperimentError(
            f"--shard {shard} and --budget {until.budget_s:.0f}s: such a shard measures its part of one round, "
            "whatever that takes; leave --budget out, and go on for as many rounds as there is time."
        )
    if until is not None and (held := next((cell for cell in asked.plan.cells if waits(cell)), None)) is not None:
        raise ExperimentError(
            f"--until decided: {held.metric} is asked only of the best, which are not known before everything is "
            f"read; leave --until out, or ask metrics.{held.source.name} for it of all configurations, or of none."
        )
    part |= {} if until is None else {"until": {"decided": True, "precision": until.precision}}
    return part | {
        "experiment": asked.experiment.resolved(),
        "exact": exact,
        "documents": [document.sha256 for document in asked.documents],
    }


def require_ours(out: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a directory that holds something else."""
    if not Store.exists(out):
        require_empty(out)
        return
    store = Store.open_run(out)  # its writer may undo a commit that a kill cut short
    try:
        found = store.meta("identity")
    finally:
        store.close()
    if found is not None and found != identity:
        differs = first_difference(found, identity)
        raise StoreError(f"{out}: holds another experiment ({differs}); choose another --out, it is never overwritten.")


def first_difference(found: Any, asked: Any, path: str = "") -> str:
    """The first key in which two identities differ, with both values; of texts their hashes say nothing to anybody."""
    if path == "documents" and isinstance(found, list) and isinstance(asked, list):
        return "its documents were other texts"
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        for key in sorted([*asked, *found], key=lambda key: key == "documents" and not path):  # hashes last
            if found.get(key) != asked.get(key):
                return first_difference(found.get(key), asked.get(key), f"{path}.{key}" if path else str(key))
    there, here = (repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..." for value in (found, asked))
    return f"{path.removeprefix('experiment.')} is {there} there and {here} here"


def other(known: Mapping[str, Any], model: Mapping[str, Any]) -> str | None:
    """In what a model is another one than the known: weights, dtype or kind of device; None where it is the same."""
    for name in ("weights_sha256", "dtype", "device"):
        same = kind_of(known[name]) == kind_of(model[name]) if name == "device" else known[name] == model[name]
        if not same:
            return name
    return None


def require_same(store: Store, known: Mapping[str, Any] | None, model: Mapping[str, Any], who: str = "") -> None:
    """Refuse weights, a dtype or a kind of device other than the run's.

    Raises:
        StoreError: naming the first difference.
    """
    if known is not None and (name := other(known, model)) is not None:
        by = f" for {who}" if who and who != local.NAME else ""
        raise StoreError(
            f"{store.directory}: was made with {name} {known[name]}, now it is {model[name]}{by}; choose another --out."
        )
