"""What a benchmark has measured so far, in build/: it goes on where it was ended. Delete the file to begin anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parents[1] / "build"


def kept(name: str) -> dict[str, Any]:
    """What is there under a name; nothing at first."""
    path = BUILD / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if found:
        print(f"{path} holds {len(found)} results, which are not measured again", file=sys.stderr)
    return found


def keep(name: str, found: dict[str, Any]) -> None:
    """Keep them, whole or not at all."""
    BUILD.mkdir(exist_ok=True)
    part = BUILD / f"{name}.part"
    part.write_text(json.dumps(found, indent=1), encoding="utf-8")
    part.replace(BUILD / f"{name}.json")
