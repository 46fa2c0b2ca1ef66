"""A tuning as asked for, checked, and everything that it knows before its first step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ropewalk.corpus import tokenize_all
from ropewalk.errors import ExperimentError, ModelError, one_of
from ropewalk.experiment.prepare import Asked, Prepared, encoder
from ropewalk.experiment.schema import Experiment
from ropewalk.models import LoadedModel
from ropewalk.models.query import by_head, query_places
from ropewalk.scoring.attention import NAME as WHOLE
from ropewalk.scoring.attention import name_for
from ropewalk.tuning import scene as scenes
from ropewalk.tuning.draws import VERSION, Material
from ropewalk.tuning.loss import PIECES, Weights
from ropewalk.tuning.pairs import Turning, turning
from ropewalk.tuning.parameters import ENOUGH, TURNS, WHATS, rates
from ropewalk.tuning.scene import Scene

BUDGET_S = 120.0
MOST_REPEATS = 1000
PIECES_FROM, PIECES_OF = 4, 1024
"""Windows, and tokens of a window. Up to so many windows a step of all of a text is affordable; pieces of a smaller
window hold too little to find a needle by (docs/results/tune.md)."""

REACH = 16
"""Of a tuning document, this many times the length is read: steps see stretches of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way down: tokens nearer than which attention is as trained (None for none), and a seed."""

    near: int | None
    seed: int

    @property
    def label(self) -> str:
        return f"seed {self.seed}" if self.near is None else f"near {self.near} seed {self.seed}"

    @property
    def file(self) -> str:
        """The name of that in which it is kept."""
        return f"{self.label.replace(' ', '-')}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A tuning as asked for.

    Attributes:
        length: N, tokens.
        steps: per seed; None leaves it to the budget.
        budget_s: seconds of each seed's descent; None for BUDGET_S, unless there are `steps`.
        seed: of the first repeat; the others count on.
        what: is tuned, one of WHATS; None takes the most that the model's weights can hold, and with `near`, which no
            weights hold, the rotation.
        near: tokens nearer than which attention is as trained: only what lies beyond is tuned. Each is tuned with every
            seed, and the tuning set chooses; empty tunes for all distances.
        max_short_cost: per cent; None takes the file's.
        weights: of the parts of a step's loss; None for those of what it is fed.
    """

    length: int
    steps: int | None = None
    budget_s: float | None = None
    seed: int = 0
    repeats: int = 1
    what: str | None = None
    near: tuple[int, ...] = ()
    max_short_cost: float | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        given = [(name, getattr(self, name)) for name in ("steps", "repeats", "budget_s")]
        for name, value in (*given, *(("near", each) for each in self.near)):
            if value is not None and not 0 < value < math.inf:
                raise ExperimentError(f"tune: {name}={value} must be a number above 0; leave it out for the default.")
        if self.repeats > MOST_REPEATS:
            raise ExperimentError(f"tune: repeats={self.repeats} must be at most {MOST_REPEATS}; give fewer seeds.")
        if self.steps is not None and self.budget_s is not None:
            raise ExperimentError(f"tune: steps={self.steps} and budget_s={self.budget_s:g}: give one of them.")
        if self.max_short_cost is not None and not -100 < self.max_short_cost < math.inf:
            raise ExperimentError(
                f"tune: max_short_cost={self.max_short_cost:g} must be per cent above -100; leave it out for no bound."
            )
        if self.seed < 0:
            raise ExperimentError(f"tune: seed={self.seed} must be 0 or more; leave it out for 0.")
        if self.what is not None and self.what not in WHATS:
            raise ExperimentError(f"tune: what={self.what!r} {one_of(self.what, WHATS)}")
        if len(set(self.near)) < len(self.near):
            raise ExperimentError(f"tune: near={list(self.near)} names a number of tokens twice; give each once.")

    @property
    def ways(self) -> tuple[Way, ...]:
        """One for every seed, under every `near`."""
        seeds = range(self.seed, self.seed + self.repeats)
        return tuple(Way(near=near, seed=seed) for near in self.near or (None,) for seed in seeds)

    @property
    def seconds(self) -> float:
        return BUDGET_S if self.budget_s is None else self.budget_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuning:
    """Everything that a tuning knows before its first step.

    Attributes:
        scene: the split, the goal, the lengths.
        what: is tuned.
        material: what steps are drawn from.
        weights: of the parts of their loss.
    """

    scene: Scene
    request: Request
    turns: Turning
    what: str
    material: Material
    weights: Weights

    @property
    def documents(self) -> tuple[int, int]:
        """Tuned on, and judged on."""
        parts, windows = self.scene.parts, self.scene.windows
        return len(parts.search) // windows, len(parts.judge) // windows


def checked(experiment: Experiment, request: Request, loaded: LoadedModel | None) -> Asked:
    """The experiment with the length among its own, checked as far as that needs no weights.

    Raises:
        RopewalkError: as `scene.checked`.
    """
    found = scenes.checked(experiment, request.length, loaded)
    if found.geometry.softmax_mscale:
        raise ModelError(
            f"model {found.spec.id!r}: its attention scales the softmax by mscale_all_dim, through which tuning does "
            "not go; measure the named methods instead (ropewalk run)."
        )
    return found


def tuning(prepared: Prepared, request: Request) -> Tuning:
    """Split, material, and what the model's weights can hold.

    Raises:
        RopewalkError: too few documents, weights that no gradient goes through, or that cannot hold what is asked.
    """
    given = request.weights or Weights()
    scene = scenes.scene(prepared, request.length, given.retrieval, request.max_short_cost)
    model = prepared.model.model
    _require_gradients(model)
    turns = turning(model)
    if (near := max(request.near, default=0)) > scene.window:
        raise ExperimentError(
            f"tune: near={near} must be at most the trained window of {scene.window} tokens, inside which all "
            f"distances are known; give {scene.window} or less."
        )
    what = (request.what or "rotation") if request.near else _what(model, request.what, turns)
    material = _material(scene, request)
    weights = PIECES if request.weights is None and material.pieces else given
    return Tuning(scene=scene, request=request, turns=turns, what=what, material=material, weights=weights)


def _require_gradients(model: Any) -> None:
    """Refuse weights that no gradient goes through, or in which it vanishes."""
    name = type(model).__name__
    if getattr(model, "hf_quantizer", None) is not None:
        raise ModelError(
            f"{name}: its weights are quantised, and gradients do not go through their kernels; tune the model "
            "unquantised (leave out quantization), and export what is found to a quantised GGUF file."
        )
    if model.dtype == torch.float16:
        raise ModelError(f"{name}: gradients vanish in float16; use dtype bfloat16 or float32.")


def _what(model: Any, asked: str | None, turns: Turning) -> str:
    """What is tuned: as much as weights can hold, so that what is found can be served."""
    if asked == "rotation":
        return asked
    places = query_places(model)
    missing = [layer for layer in turns.layers if layer not in places]
    if missing:
        raise ModelError(
            f"{type(model).__name__}: layer {missing[0]} makes its query in a way that takes no gains; tune the "
            "rotation alone (what: rotation)."
        )
    heads = by_head({layer: places[layer] for layer in turns.layers})
    most = "rotation+head+pair" if heads else "rotation+pair"
    if asked is not None and "head" in asked and not heads:
        raise ModelError(
            f"{type(model).__name__} normalises all heads of a query by one weight, which holds no gains per head as "
            f"what={asked} asks; it holds gains per layer and pair (what: {most}), or the rotation alone."
        )
    return asked or most


def _material(scene: Scene, request: Request) -> Material:
    prepared = scene.prepared
    asked, tokenizer = scene.probing, prepared.model.tokenizer
    chosen = {document.id: document for document in (prepared.tokens[i].document for i in scene.parts.search)}
    reach = REACH * request.length if scene.windows == 1 else None
    tokens = tokenize_all(tokenizer, list(chosen.values()), bos=False, upto=reach)
    banned: set[str] = set()
    if asked is not None:
        count, seed = asked.probes.count(asked.options), scene.parts.judge_seed
        banned = {key for n in scene.lengths for key in asked.probes.keys(count, n, seed)}
    return Material(
        documents=tuple(each.ids for each in tokens),
        bos_id=scene.bos_id,
        encode=encoder(tokenizer),
        wording=asked.probes.wording if asked else None,
        banned=frozenset(banned),
        window=scene.window,
        length=request.length,
        pieces=_in_pieces(scene, request),
    )


def _in_pieces(scene: Scene, request: Request) -> bool:
    """Whether a text is so long that steps are fed parts of it. A mask or a near distance, which go by how many tokens
    stand between two, would be another then."""
    far = request.length > PIECES_FROM * scene.window and scene.window >= PIECES_OF
    return far and not request.near and name_for(scene.prepared.model.model.config) == WHOLE


def judges(tuning: Tuning) -> dict[str, Scene]:
    """What is judged, by the kind of its prompts: as the file asks first, then the other surroundings of its probes."""
    scene, asked = tuning.scene, tuning.scene.probing
    if asked is None:
        return {"": scene}
    kinds = asked.probes.kinds(asked.options)
    return {name: replace(scene, probing=replace(asked, options=options)) for name, options in kinds.items()}


def identity(tuning: Tuning) -> dict[str, Any]:
    """What makes two tunings the same."""
    request, pieces = asdict(tuning.request), tuning.material.pieces
    recipe = {"draws": VERSION, "pieces": pieces, "rates": rates(tuning.what, ENOUGH, pieces=pieces), "turns": TURNS}
    settled = {"what": tuning.what, "weights": asdict(tuning.weights)}
    return scenes.identity(tuning.scene) | {"tune": request | settled, "recipe": recipe}
