"""Questions about people and places that exist nowhere, so that nothing can be known by heart: one fact, or two."""

from __future__ import annotations

from ropewalk.tasks.draft import Draft, Filler, Needle, Task, around, found
from ropewalk.tasks.words import PEOPLE, PLACES, coined

RIVALS = 4
"""People of whom the same is told."""

FACTS = (
    ("{who} was born in {place}", "Where was {who} born?"),
    ("{who} kept the mill at {place}", "Where did {who} keep the mill?"),
    ("{who} was buried in {place}", "Where was {who} buried?"),
    ("{who} built the first bridge of {place}", "Of which town did {who} build the first bridge?"),
)


def one(seed: int, sample: int, depth: float, _: int) -> Draft:
    """A fact about one person of four."""
    people = coined(f"people {seed}", RIVALS * sample, RIVALS, PEOPLE)
    places = coined(f"places {seed}", RIVALS * sample, RIVALS, PLACES)
    told, question = FACTS[sample % len(FACTS)]
    return Draft(
        filler=Filler(kind="book"),
        needles=tuple(
            Needle(text=f" {told.format(who=who, place=place)}.", depth=at)
            for who, place, at in zip(people, places, around(depth, RIVALS), strict=True)
        ),
        question=question.format(who=people[0]),
        prefix=told.format(who=people[0], place="").rstrip(),
        references=(places[0],),
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
