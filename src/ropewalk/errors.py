"""What can go wrong, as types. Every message is one sentence: the value, its place, and the remedy."""

from __future__ import annotations

import difflib
import reprlib
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

from typing_extensions import override


def visible(text: str, kept: str = "") -> str:
    """Text with everything that a terminal would act on (its codes, line breaks, marks of direction) and lone
    surrogates written as escapes, but for the characters `kept`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def short(value: object) -> str:
    """A value as an error message shows it: `repr`, cut to a line."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a very large {type(value).__name__}"


def nearest(
    word: object, names: Iterable[str], other_names: Mapping[str, tuple[str, ...]] | None = None, cutoff: float = 0.75
) -> str | None:
    """The name that a misspelt or foreign word means, or None.

    Args:
        word: as the user wrote it.
        names: which exist.
        other_names: what other tools call them, where spelling would not find them; the first that exists counts.
        cutoff: least likeness of the spelling, 0 to 1; below three quarters it names what nobody meant.
    """
    known = list(names)
    meant = [name for name in (other_names or {}).get(str(word), ()) if name in known]
    return next(iter(meant or difflib.get_close_matches(str(word), known, n=1, cutoff=cutoff)), None)


def one_of(word: object, names: Iterable[str]) -> str:
    """What a choice may be and how to mend it, as the rest of a sentence that has named the word and its place."""
    known = list(names)
    near = nearest(word, known)
    return f"must be one of {', '.join(known)}; " + (f"did you mean {near}?" if near else "write one of these.")


def is_own(error: BaseException) -> bool:
    """Whether ropewalk's own code raised an exception, and no library that it called.

    Python's own library stands for whoever called it: what it refuses is a mistake of that code.
    """
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)]
    told = [file for file in files if not _is_pythons(file)]
    return bool(told) and told[-1].is_relative_to(Path(__file__).parent)


def _is_pythons(file: Path) -> bool:
    library = file.is_relative_to(sysconfig.get_paths()["stdlib"]) and "site-packages" not in file.parts
    return library or file.name.startswith("<")


class RopewalkError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback and exits with 2.

    One line whatever names it quotes: line breaks, terminal codes and lone surrogates in them are written as escapes.
    """

    @override
    def __str__(self) -> str:
        return visible(super().__str__())


class MethodError(RopewalkError):
    """A method that does not exist, or parameters that it cannot take."""


class ModelError(RopewalkError):
    """A model that is missing, unreadable, unsafe to read, or has no rotary position embeddings."""


class CorpusError(RopewalkError):
    """Documents or key spans that are missing, unreadable, or too short."""


class ExperimentError(RopewalkError):
    """An experiment file with a key or a value that cannot be."""


class StoreError(RopewalkError):
    """A run directory that belongs to something else, is damaged, or cannot be written."""


class ExportError(RopewalkError):
    """A rotation that the asked engine cannot express."""


class UnfinishedRun(UserWarning):
    """A run that is read lacks cells that were asked for; the text says how many, and how to go on."""
