"""A package of somebody else, written to disk with its entry points, as an installer would have left it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def write(folder: Path, name: str, entries: Mapping[str, Mapping[str, str]], source: str) -> None:
    """One module `name` of that source in `folder`, and a distribution that offers {group: {entry point: object}}."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    groups = (
        f"[{group}]\n" + "".join(f"{entry} = {name}:{target}\n" for entry, target in targets.items())
        for group, targets in entries.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts `folder` where this process, and those that it starts, look for packages; undone with the test."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    for module in folder.glob("*.py"):
        monkeypatch.delitem(sys.modules, module.stem, raising=False)
