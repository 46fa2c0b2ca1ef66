"""A fixture that installs a package for the time of a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import plugin_package
import pytest

Install = Callable[[str, Mapping[str, Mapping[str, str]], str], None]


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(name, {group: {entry point: object}}, source)`: a package of one module."""

    def write(name: str, entries: Mapping[str, Mapping[str, str]], source: str) -> None:
        folder: Path = tmp_path_factory.mktemp(name)
        plugin_package.write(folder, name, entries, source)
        plugin_package.offer(folder, monkeypatch)

    return write
