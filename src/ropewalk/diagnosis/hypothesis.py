"""One thing that a server may run in place of what was asked for, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme

AS_ASKED = "as asked"
Kind = Literal["all", "bos added", "bos missing", "tail", "sliding", "shifted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Which of the tokens that a server is sent each token is predicted from.

    Attributes:
        kind: "all"; one BOS more, or the first token missing; only the "tail" of `tokens`; a "sliding" window of
            `tokens`; "shifted": whenever `tokens` are full, the older half is forgotten.
        tokens: for the last three.
    """

    kind: Kind = "all"
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What a server may run, and what to do where it does.

    Attributes:
        name: in a table.
        says: the end of "this server ...": what it does, and the remedy.
        scheme: of the layers that methods apply to.
        sliding: the rotation of the other layers, where it is not their own.
        tempered: the temperature that ships, if any, is on.
        feed: the tokens that predict.
        also: names of other faults that give the very same numbers here.
    """

    name: str
    says: str
    scheme: Scheme
    sliding: Rotation | None = None
    tempered: bool = True
    feed: Feed = Feed()
    also: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, bool, Feed]:
        """Two hypotheses with the same one cannot be told apart by any text."""
        sliding = "" if self.sliding is None else self.sliding.fingerprint
        return self.scheme.fingerprint, sliding, self.tempered, self.feed
