"""Methods from other packages: entry points of the group `ropewalk.methods`, each of which loads to a Method."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from ropewalk.errors import MethodError, short
from ropewalk.methods.method import Method

GROUP = "ropewalk.methods"


def plugged_in(built_in: Mapping[str, Method]) -> dict[str, Method]:
    """The methods of all installed packages, by name.

    Raises:
        MethodError: an entry that does not load, is no Method, or takes a name that is taken.
    """
    found: dict[str, Method] = {}
    for entry in entry_points(group=GROUP):
        method = _load(entry)
        if method.name in built_in or method.name in found:
            owner = "ropewalk itself" if method.name in built_in else "another package"
            raise MethodError(
                f"{_place(entry)}: the method name {method.name!r} is taken by {owner}; "
                "rename the method there, or uninstall that package."
            )
        found[method.name] = method
    return found


def _load(entry: EntryPoint) -> Method:
    try:
        loaded = entry.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise MethodError(
            f"{_place(entry)} cannot be loaded ({type(error).__name__}: {error}); mend or uninstall that package."
        ) from error
    if not isinstance(loaded, Method):
        raise MethodError(
            f"{_place(entry)} is {short(loaded)}, not a ropewalk.methods.Method; point it at one, or uninstall it."
        )
    if loaded.name != entry.name:
        raise MethodError(f"{_place(entry)} loads a method called {loaded.name!r}; give the entry point that name.")
    return loaded


def _place(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "an unknown package"
    return f"entry point {entry.name!r} of {package}"
