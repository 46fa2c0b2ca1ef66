"""What other packages add: entry points of a group, each of which loads to one value with a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from ropewalk.errors import RopewalkError


class Named(Protocol):
    """A value of a table."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def plugged_in(group: str, kind: type[T], built_in: Mapping[str, T], error: type[RopewalkError]) -> dict[str, T]:
    """The values that installed packages add to a table, by name.

    Args:
        group: of entry points.
        kind: what each has to load to.
        built_in: names that are taken.
        error: raised for an entry that does not load, is of another kind, or takes a name that is taken.
    """
    found: dict[str, T] = {}
    for entry in entry_points(group=group):
        value = _load(group, entry, kind, error)
        if value.name in built_in or value.name in found:
            owner = "ropewalk itself" if value.name in built_in else "another package"
            what = kind.__name__.lower()
            raise error(
                f"{_place(entry)}: the {what} name {value.name!r} is taken by {owner}; "
                f"rename the {what} there, or uninstall that package."
            )
        found[value.name] = value
    return found


def _load(group: str, entry: EntryPoint, kind: type[T], error: type[RopewalkError]) -> T:
    try:
        loaded = entry.load()
    except BaseException as wrong:  # whatever a foreign module raises while it is imported, sys.exit() included
        if type(wrong) is KeyboardInterrupt:  # Ctrl-C
            raise
        raise error(
            f"{_place(entry)} cannot be loaded ({type(wrong).__name__}: {_shown(str, wrong)}); mend or uninstall that "
            "package."
        ) from wrong
    what = f"{'.'.join(kind.__module__.split('.')[:2])}.{kind.__name__}"
    if not isinstance(loaded, kind):
        raise error(f"{_place(entry)} is {_shown(repr, loaded)}, not a {what}; point it at one, or uninstall it.")
    if loaded.name != entry.name:
        raise error(
            f"{_place(entry)} loads a {kind.__name__.lower()} called {loaded.name!r}; give the entry point that name."
        )
    return loaded


def _shown(text: Callable[[object], str], value: object) -> str:
    """A foreign value as `str` or `repr` has it, if that can be called and is short."""
    try:
        said = text(value)
    except Exception:
        said = f"a {type(value).__name__} that cannot be shown"
    return said if len(said) <= 80 else said[:77] + "..."


def _place(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "an unknown package"
    return f"entry point {entry.name!r} of {package}"
