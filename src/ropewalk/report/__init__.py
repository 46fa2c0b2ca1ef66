"""See the modules of this package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """This package, which `ropewalk.report(run)` also calls."""

    def __call__(self, run: Any, *, partial: bool = False) -> list[Path]:
        """The report's files, the page first, written into a run or its directory. Raises StoreError."""
        from ropewalk.report.write import report

        return report(Path(getattr(run, "directory", run)), partial=partial)


sys.modules[__name__].__class__ = _Verb
