"""What can go wrong, as types. Every message is one sentence: the value, its place, and the remedy."""

from typing_extensions import override


def visible(text: str, kept: str = "") -> str:
    """Text with everything that a terminal would act on (its codes, line breaks, marks of direction) and lone
    surrogates written as escapes, but for the characters `kept`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


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
