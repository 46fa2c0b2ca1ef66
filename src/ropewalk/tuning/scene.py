"""What a tuning knows of its file before its first step: two sides that share nothing, the goal, the lengths."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.experiment.prepare import Asked, Prepared, ask
from ropewalk.experiment.schema import Experiment, Tune
from ropewalk.metrics.probes import Probing, probing
from ropewalk.models import LoadedModel
from ropewalk.tuning.objective import Goal
from ropewalk.tuning.split import Parts, split


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Attributes:
    length: N, tokens.
    goal: what the tuning set prefers one scheme to another by.
    parts: who is tuned on, and who judges.
    window: trained, tokens.
    short: lengths inside the window that count as its cost.
    probing: the metric that gives prompts, and its options; None without any.
    probed: lengths of prompts on the tuning set.
    probes: how many a length.
    """

    prepared: Prepared
    length: int
    goal: Goal
    parts: Parts
    window: int
    short: tuple[int, ...]
    probing: Probing | None
    probed: tuple[int, ...]
    probes: int

    @property
    def windows(self) -> int:
        """Of each document."""
        return len(self.prepared.tokens) // len({tokens.document.id for tokens in self.prepared.tokens})

    @property
    def bos_id(self) -> int | None:
        """What stands before a text; None for nothing."""
        return self.prepared.model.tokenizer.bos_token_id if self.prepared.tokens[0].bos else None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Judged: those of the file, and N."""
        return tuple(self.prepared.asked.experiment.lengths)


def checked(experiment: Experiment, length: int, loaded: LoadedModel | None) -> Asked:
    """The experiment with N among its lengths, checked as far as that needs no weights.

    Raises:
        RopewalkError: as `ask`; a length inside the window, or a metric whose prompts cannot be tuned on.
    """
    lengths = sorted({*experiment.lengths, length})
    known = ask(experiment.model_copy(update={"lengths": lengths, "tune": experiment.tune or Tune()}), loaded)
    window = known.geometry.window().length
    if length <= window:
        raise ExperimentError(
            f"--length {length} lies inside the trained window of {window} tokens, where there is nothing to extend; "
            f"give a length above {window}."
        )
    asked = probing(experiment.asked())
    if asked is not None and (wrong := asked.probes.check(asked.options)):
        raise ExperimentError(f"metrics.{asked.metric.name}.{wrong}.")
    return known


def scene(prepared: Prepared, length: int, retrieval: float, max_short_cost: float | None) -> Scene:
    """Split and goal.

    Args:
        prepared: as of `checked`.
        length: N.
        retrieval: weight of the prompts' answers, where a metric gives some.
        max_short_cost: per cent; None takes the file's.

    Raises:
        ExperimentError: too few documents.
    """
    experiment, window = prepared.asked.experiment, prepared.asked.geometry.window().length
    section, asked = experiment.tune or Tune(), probing(experiment.asked())
    cost = section.max_short_cost if max_short_cost is None else max_short_cost
    probed = tuple(n for n in experiment.lengths if window <= n <= length) if asked else ()
    return Scene(
        prepared=prepared,
        length=length,
        goal=Goal(retrieval=retrieval if asked else 0.0, max_short_cost=None if cost is None else cost / 100),
        parts=split(
            [tokens.document for tokens in prepared.tokens],
            experiment.seed,
            experiment.lengths if asked else (),
            section.probes,
            asked.probes.count(asked.options) if asked else 0,
            experiment.lengths[-1],
            asked.probes.keys if asked else None,
        ),
        window=window,
        short=tuple(n for n in experiment.lengths if n <= window) or (window,),
        probing=asked,
        probed=probed,
        probes=section.probes,
    )


def identity(scene: Scene) -> dict[str, Any]:
    """What makes two scenes the same."""
    asked, model = scene.prepared.asked, asdict(scene.prepared.model.provenance)
    return {
        "experiment": asked.experiment.resolved(),
        "probes": scene.probes,
        "goal": asdict(scene.goal),
        "documents": [tokens.document.sha256 for tokens in scene.prepared.tokens],
        "model": {name: model[name] for name in ("weights_sha256", "dtype", "device")},
    }
