"""The only device loop: rows of (token ids, rotation) in, token NLL and answer predictions out."""

from ropewalk.scoring.head import Head, Split, split
from ropewalk.scoring.kernels import fast
from ropewalk.scoring.loop import AnswerRow, Answers, Failure, NllRow, Outcome, score
from ropewalk.scoring.shared import score_shared

__all__ = [
    "AnswerRow",
    "Answers",
    "Failure",
    "Head",
    "NllRow",
    "Outcome",
    "Split",
    "fast",
    "score",
    "score_shared",
    "split",
]
