"""`rw.tune` asks what the command asks: passkeys are tuned on and judged where nothing else is said, and it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ropewalk as rw


def test_what_it_is_not_told_is_what_the_recipe_says(asked: Any, tmp_path: Path) -> None:
    told: list[str] = []
    found = rw.tune(
        asked.model,
        length=256,
        lengths=[176],
        documents={"files": [str(Path(asked.model).parent / "*.txt")], "count": 6},
        dtype="float32",
        steps=1,
        out=tmp_path,
        progress=lambda what, done, total: told.append(what),
    )
    assert found.result["goal"]["retrieval"] == found.result["weights"]["retrieval"] > 0
    assert {"linear", "yarn", "llama3", "longrope"} <= set(found.result["named"])
    assert set(found.result["judge"]["retrieval"]) == {"filler", "essay"}
    assert any(what.startswith("seed 0: loss") for what in told)
    assert found.file.is_file()


def test_steps_and_a_budget_contradict_each_other(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(rw.RopewalkError, match=r"tune: steps=4 and budget_s=30: give one of them"):
        rw.tune(asked.model, length=256, steps=4, budget_s=30, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
