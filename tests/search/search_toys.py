"""A model that is a formula: losses of a rotation without any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ropewalk.experiment.plan import Configuration, configurations
from ropewalk.methods import resolve
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.searching.families import Monotone, log_divisors
from ropewalk.searching.objective import Goal, Outcome, score
from ropewalk.searching.race import Rival
from ropewalk.searching.study import Hunt

GEOMETRY = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=64)
LENGTH = 256
FAMILY = Monotone(geometry=GEOMETRY, knots=4, length=LENGTH)
GOAL = Goal(long=1.0, retrieval=0.0, keys=0.0)
WANTED = np.linspace(0, 1.2, 8) ** 2
"""ln lambda that the toy likes best."""
DOCUMENTS = 4
SEED, GENERATION = 3, 7
"""Of the search with two seeds: 4 + floor(3 ln 3) candidates a generation, for two knots and A."""


def outcome(rotation: Rotation) -> Outcome:
    """Squared distance from WANTED beyond the window; inside it stretching costs."""
    log_lambda = log_divisors(GEOMETRY, rotation, 10.0)
    far = float(((log_lambda - WANTED) ** 2).mean() + (rotation.attention_factor - 1.1) ** 2)
    near = float(0.05 * log_lambda.mean())
    return Outcome(
        long_D=tuple(3.0 + 0.1 * d + far * (1 + 0.05 * d) for d in range(DOCUMENTS)),
        short_DL=tuple((2.5 + near,) for _ in range(DOCUMENTS)),
    )


def whole(rotations: Sequence[Rotation], leaves: Callable[[Outcome], bool] | None) -> list[Outcome | str]:
    """The measure that races nobody."""
    return [outcome(rotation) for rotation in rotations]


def raced(rotations: Sequence[Rotation], leaves: Callable[[Outcome], bool] | None) -> list[Outcome | str]:
    """The measure that asks after every document."""
    found: list[Outcome | str] = []
    for rotation in rotations:
        full = outcome(rotation)
        for seen in range(1, DOCUMENTS + 1):
            part = Outcome(long_D=full.long_D[:seen], short_DL=full.short_DL[:seen])
            if seen < DOCUMENTS and leaves is not None and leaves(part):
                break
        found.append(part)
    return found


def configuration(name: str, factor: float) -> Configuration:
    return configurations({name: {"factor": factor}})[1]


UNSCALED = outcome(Rotation(inv_freq=GEOMETRY.unscaled_inv_freq))


def hunt(*, sampler: str = "cmaes", seed: int = 0, goal: Goal = GOAL) -> Hunt:
    """A search that starts from yarn."""
    start = configuration("yarn", 4.0)
    rotation = resolve(GEOMETRY, "yarn", start.params, LENGTH).rotation
    return Hunt(
        family=FAMILY,
        start=FAMILY.start(start, rotation),
        goal=goal,
        unscaled=UNSCALED,
        first=Rival(outcome=outcome(rotation), score=score(outcome(rotation), UNSCALED, goal)),
        documents=DOCUMENTS,
        sampler=sampler,
        seed=seed,
    )
