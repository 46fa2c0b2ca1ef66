"""What stands around a prompt: nothing, or a chat template with the answer's beginning in the assistant's mouth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ropewalk.errors import ExperimentError

MARK = "\u2402"
THINKS, THOUGHT = "<think>", "</think>"
"""Around what a model says to itself, as templates and models of most families have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Texts around a prompt.

    Attributes:
        before: comes before the instruction; a chat template brings its own BOS.
        after: comes between the question and the beginning of the answer.
        prefixed: whether the answer's beginning is given; not to models that think first.
        thinks: whether a thought is begun.
    """

    before: str = ""
    after: str = "\n"
    prefixed: bool = True
    thinks: bool = False


def chat_frame(render: Callable[[str], str], place: str, *, prefixed: bool = True) -> Frame:
    """The frame of a chat template; a thought that it begins is ended before the answer's beginning, if that is given.

    Args:
        render: the template's text for one user message, up to where the assistant begins to speak.
        place: the option that asked for it.
        prefixed: whether the assistant's turn is begun.

    Raises:
        ExperimentError: the template does not show the message once, as it is, or says nothing after it.
    """
    before, *more = render(MARK).split(MARK)
    if len(more) != 1:
        raise ExperimentError(
            f"{place}: this tokenizer's chat template shows the user's message {len(more)} times, and once is needed; "
            "use template: none."
        )
    if not more[0].strip():
        raise ExperimentError(
            f"{place}: this tokenizer's chat template has no generation prompt, so the assistant would never begin to "
            "speak; use template: none, or a tokenizer whose template has one."
        )
    begun = more[0].rpartition(THINKS)
    thinks = bool(begun[1]) and THOUGHT not in begun[2]
    if thinks and prefixed:
        return Frame(before=before, after=f"{more[0].rstrip()}\n{THOUGHT}\n\n")
    return Frame(before=before, after=more[0], prefixed=prefixed, thinks=thinks)
