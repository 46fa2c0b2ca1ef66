"""Questions about people, places and dates that exist nowhere, so that nothing can be known by heart: one fact, or
two."""

from __future__ import annotations

import random

from ropewalk.tasks.draft import Draft, Filler, Needle, Task, around, found
from ropewalk.tasks.words import MONTHS, PEOPLE, PLACES, coined

RIVALS = 4
"""People of whom the same is told."""


def _places(seed: int, sample: int) -> list[str]:
    return coined(f"places {seed}", RIVALS * sample, RIVALS, PLACES)


def _days(seed: int, sample: int) -> list[str]:
    """`17 Thorbtide`: days of months that are in no calendar."""
    draw = random.Random(f"days {seed} {sample}")
    return [f"{draw.randint(1, 28)} {month}" for month in coined(f"months {seed}", RIVALS * sample, RIVALS, MONTHS)]


FACTS = (
    ("{who} was born in {what}", "Where was {who} born?", _places),
    ("{who} kept the mill at {what}", "Where did {who} keep the mill?", _places),
    ("{who} was married on {what}", "On which day was {who} married?", _days),
    ("{who} was buried in {what}", "Where was {who} buried?", _places),
    ("{who} built the first bridge of {what}", "Of which town did {who} build the first bridge?", _places),
    ("{who} sailed away on {what}", "On which day did {who} sail away?", _days),
)


def one(seed: int, sample: int, depth: float, _: int) -> Draft:
    """A fact about one person of four."""
    people = coined(f"people {seed}", RIVALS * sample, RIVALS, PEOPLE)
    told, question, invented = FACTS[sample % len(FACTS)]
    answers = invented(seed, sample)
    return Draft(
        filler=Filler(kind="book"),
        needles=tuple(
            Needle(text=f" {told.format(who=who, what=what)}.", depth=at)
            for who, what, at in zip(people, answers, around(depth, RIVALS), strict=True)
        ),
        question=question.format(who=people[0]),
        prefix=told.format(who=people[0], what="").rstrip(),
        references=(answers[0],),
        depth=depth,
    )


def two(seed: int, sample: int, depth: float, _: int) -> Draft:
    """Where the teacher of one of two pupils lived: who taught whom is told half a text away from who lived where."""
    pupil, teacher, other, rival = coined(f"pupils {seed}", 4 * sample, 4, PEOPLE)
    places = coined(f"homes {seed}", 2 * sample, 2, PLACES)
    texts = (
        f" {pupil} was a pupil of {teacher}.",
        f" {other} was a pupil of {rival}.",
        f" {teacher} lived in {places[0]}.",
        f" {rival} lived in {places[1]}.",
    )
    return Draft(
        filler=Filler(kind="book"),
        needles=tuple(Needle(text=text, depth=at) for text, at in zip(texts, around(depth, len(texts)), strict=True)),
        question=f"Where did the teacher of {pupil} live?",
        prefix=f"The teacher of {pupil} lived in",
        references=(places[0],),
        depth=depth,
    )


QUESTION = Task(name="question", title="an invented fact in a book", draft=one, judge=found)
QUESTION_TWO_HOPS = Task(name="question_two_hops", title="two invented facts in a book", draft=two, judge=found)
