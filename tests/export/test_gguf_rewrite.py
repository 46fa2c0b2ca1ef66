"""A rewritten GGUF holds the asked rotation, all else byte for byte, and never half; the source stays as it was."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf_models
import numpy as np
import pytest
import tiny_models
from export_requests import EXAMPLES

from ropewalk.errors import ExportError
from ropewalk.export import request
from ropewalk.export.checkpoint import describe
from ropewalk.export.command import Options, run
from ropewalk.export.gguf_file import open_gguf
from ropewalk.models import ModelSpec, read_geometry

LAMBDAS = np.linspace(1.0, 8.0, 8)
LENGTH = 1024


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """One small file per architecture; `llama3` carries rope_freqs as Llama 3's do."""
    folder = tmp_path_factory.mktemp("gguf")

    def file(architecture: str) -> Path:
        path = folder / f"{architecture}.gguf"
        if not path.exists():
            shipped = LAMBDAS if architecture == "llama3" else None
            gguf_models.write(
                path,
                tiny_models.model_of(architecture.removesuffix("3") if shipped is not None else architecture),
                lambdas=shipped,
            )
        return path

    return file


def rewritten(source: Path, out: Path, method: str, **params: Any) -> tuple[str, tuple[str, ...]]:
    options = Options(gguf=source, out=out)
    return run(method, "llama.cpp", model=str(source), params=params, length=LENGTH, options=options)


def wanted(source: Path, method: str, **params: Any) -> Any:
    found = describe(ModelSpec(id=str(source)))
    return request(found.geometry, method, params, LENGTH, found.checkpoint)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Everything that is no rotation: metadata with its types, and tensors with theirs."""
    reader = open_gguf(path)
    name = reader.fields["general.architecture"].contents()
    made_by_the_reader = {f"GGUF.{name}" for name in ("version", "tensor_count", "kv_count")}
    assert reader.fields["GGUF.kv_count"].contents() == len(reader.fields.keys() - made_by_the_reader)
    ours = ("GGUF.", "ropewalk.", f"{name}.rope.freq_base", f"{name}.rope.scaling", f"{name}.context_length")
    fields = {k: (f.types, f.contents()) for k, f in reader.fields.items() if not k.startswith(ours)}
    tensors = {
        t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes())
        for t in reader.tensors
        if not t.name.startswith("rope_f")
    }
    return fields, tensors


@pytest.mark.parametrize("architecture", ["llama", "llama3", "phi3"])
@pytest.mark.parametrize("method", sorted(EXAMPLES.keys() - {"searched"}))  # whose example is for another model
def test_any_rotation_comes_back(architecture: str, method: str, files: Callable[..., Path], tmp_path: Path) -> None:
    source, out = files(architecture), tmp_path / "out.gguf"
    before = digest(source)
    text, notes = rewritten(source, out, method, **EXAMPLES[method])
    assert text == f"llama-server -m {out} --ctx-size {LENGTH}"
    asked = wanted(source, method, **EXAMPLES[method])
    found = request(read_geometry(ModelSpec(id=str(out))), "none", {}, LENGTH, asked.checkpoint)
    if (asked.rotation.inv_freq > 0).all():
        assert found.rotation.fingerprint == asked.rotation.fingerprint
        assert "llama.cpp: exact, for 1024 tokens." in notes
    else:
        np.testing.assert_allclose(found.rotation.inv_freq, asked.rotation.inv_freq, atol=2e-15)
        assert "llama.cpp: approximated, for 1024 tokens." in notes
    assert contents(out) == contents(source)
    assert digest(source) == before
    assert list(tmp_path.iterdir()) == [out]


def test_twin_a_file_changed_since_reads_as_it_runs(files: Callable[..., Path], tmp_path: Path) -> None:
    """The float64 record does not speak for a file that something else has changed."""
    out = tmp_path / "out.gguf"
    rewritten(files("llama"), out, "ntk_aware", factor=4)
    asked = wanted(files("llama"), "ntk_aware", factor=4).rotation
    reader = gguf.GGUFReader(str(out), "r+")
    reader.fields["llama.rope.freq_base"].parts[-1][0] *= 1.001
    reader.data.flush()
    found = request(read_geometry(ModelSpec(id=str(out))), "none", {}, LENGTH, wanted(out, "none").checkpoint).rotation
    assert found.fingerprint != asked.fingerprint
    assert found.inv_freq[-1] == pytest.approx(asked.inv_freq[-1] * 1.001 ** (-14 / 16), rel=1e-6)


def test_llama_3_files_are_replaced_or_stacked_on(files: Callable[..., Path], tmp_path: Path) -> None:
    source = files("llama3")
    for compose in ("replace", "stack"):
        asked = wanted(source, "linear", factor=2, compose=compose).rotation
        rewritten(source, tmp_path / f"{compose}.gguf", "linear", factor=2, compose=compose)
        assert read_geometry(ModelSpec(id=str(tmp_path / f"{compose}.gguf"))) is not None
        tensors = {t.name: t.data for t in open_gguf(tmp_path / f"{compose}.gguf").tensors}
        if compose == "replace":
            assert "rope_freqs.weight" not in tensors
        else:
            np.testing.assert_allclose(tensors["rope_freqs.weight"], 2 * LAMBDAS, rtol=1e-6)
            np.testing.assert_allclose(asked.inv_freq * 2 * LAMBDAS, 50000.0 ** (-np.arange(8) / 8), rtol=1e-6)


def test_a_scaling_of_the_source_is_not_left_behind(files: Callable[..., Path], tmp_path: Path) -> None:
    def scaling(path: Path) -> set[str]:
        return {name for name in open_gguf(path).fields if name.startswith("llama.rope.scaling")}

    scaled, out = tmp_path / "scaled.gguf", tmp_path / "out.gguf"
    rewritten(files("llama"), scaled, "yarn", factor=4)
    assert "llama.rope.scaling.factor" in scaling(scaled)
    rewritten(scaled, out, "ntk_aware", factor=4, compose="replace")
    assert scaling(out) == {f"llama.rope.scaling.{name}" for name in ("type", "original_context_length")}


def test_a_place_below_a_file(files: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out.gguf"
    with pytest.raises(ExportError, match=r"out\.gguf cannot be written \(File exists\); choose another --out"):
        rewritten(files("llama"), out, "linear", factor=2)


def test_yarn_with_other_betas_needs_divisors(files: Callable[..., Path], tmp_path: Path) -> None:
    """llama.cpp reads betas out of the metadata of two architectures alone."""
    rewritten(files("llama"), tmp_path / "usual.gguf", "yarn", factor=4)
    rewritten(files("llama"), tmp_path / "own.gguf", "yarn", factor=4, beta_fast=16)
    usual, own = (len(open_gguf(tmp_path / f"{name}.gguf").tensors) for name in ("usual", "own"))
    assert own == usual + 1
    with pytest.raises(
        ExportError, match=r"^llama\.cpp: reads no divisors of frequencies for qwen2, and yarn needs them"
    ):
        rewritten(files("qwen2"), tmp_path / "q.gguf", "yarn", factor=4, beta_fast=16)


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
@pytest.mark.parametrize(("method", "fits"), [("yarn", True), ("linear", True), ("abf", True), ("mrrope", False)])
def test_architectures_without_divisors(
    architecture: str, method: str, fits: bool, files: Callable[..., Path], tmp_path: Path
) -> None:
    source, out = files(architecture), tmp_path / "out.gguf"
    if not fits:
        with pytest.raises(
            ExportError, match="the nearest that fits is yarn with its defaults, linear, or another base"
        ):
            rewritten(source, out, method, **EXAMPLES[method])
        assert list(tmp_path.iterdir()) == []
        return
    rewritten(source, out, method, **EXAMPLES[method])
    asked = wanted(source, method, **EXAMPLES[method])
    found = request(read_geometry(ModelSpec(id=str(out))), "none", {}, LENGTH, asked.checkpoint)
    assert found.rotation.fingerprint == asked.rotation.fingerprint
    assert contents(out) == contents(source)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.4, 0.9, 0.9999])
def test_truncated_files_are_refused(share: float, files: Callable[..., Path], tmp_path: Path) -> None:
    whole = files("llama").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        ExportError, match=r"cut\.gguf: is no whole GGUF file \(.*\); download or copy it again\.$"
    ) as refusal:
        open_gguf(cut)
    assert "\n" not in str(refusal.value)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(ExportError, match="is no whole GGUF file"):
        open_gguf(tmp_path / "x.gguf")
    with pytest.raises(ExportError, match="there is no such file"):
        open_gguf(tmp_path / "none.gguf")
    writer = gguf.GGUFWriter(str(tmp_path / "clip.gguf"), "clip")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ExportError, match="has no context_length, so it holds no language model"):
        open_gguf(tmp_path / "clip.gguf")


def test_another_model_is_refused(files: Callable[..., Path], tmp_path: Path) -> None:
    options = Options(gguf=files("phi3"), out=tmp_path / "out.gguf")
    with pytest.raises(
        ExportError, match=r"its rope_theta is 10000, and the model's is 50000, so it is not this model"
    ):
        run("yarn", "llama.cpp", model=str(files("llama")), params={"factor": 2}, options=options)


def test_existing_output_and_the_source_are_never_touched(files: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"out\.gguf exists; choose another --out, or --force to replace it\.$"):
        rewritten(files("llama"), out, "linear", factor=2)
    assert out.read_bytes() == b"mine"
    run(
        "linear",
        "llama.cpp",
        model=str(files("llama")),
        params={"factor": 2},
        options=Options(gguf=files("llama"), out=out, force=True),
    )
    assert out.read_bytes()[:4] == b"GGUF"
    before = digest(out)
    with pytest.raises(ExportError, match="is the source itself, which stays as it is"):
        run("linear", "llama.cpp", model=str(out), params={"factor": 2}, options=Options(gguf=out, out=out, force=True))
    assert digest(out) == before
    with pytest.raises(ExportError, match=r"a rewritten file must be named \.gguf"):
        rewritten(files("llama"), tmp_path / "out.bin", "linear", factor=2)


def test_full_disk_leaves_nothing(files: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(
        ExportError, match=r"cannot be written \(No space left on device\); choose another --out, or make"
    ):
        rewritten(files("llama"), tmp_path / "out.gguf", "linear", factor=2)
    assert list(tmp_path.iterdir()) == []


def test_interrupt_leaves_nothing(files: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf.GGUFWriter, "write_kv_data_to_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rewritten(files("llama"), tmp_path / "out.gguf", "linear", factor=2)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_no_folder(files: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        rewritten(files("llama"), tmp_path / "file" / "out.gguf", "linear", factor=2)


def test_ollama_sentence(files: Callable[..., Path], tmp_path: Path) -> None:
    _, notes = rewritten(files("llama"), tmp_path / "long.gguf", "yarn", factor=4)
    assert any("`FROM ./long.gguf` and `PARAMETER num_ctx 1024`" in note for note in notes)
    assert any("n_ctx_train" in note for note in notes)


@pytest.mark.parametrize("method", ["ntk_aware", "mrrope"])
def test_a_file_that_holds_the_rotation_is_served_without_flags(
    method: str, files: Callable[..., Path], tmp_path: Path
) -> None:
    """As `--check` of a file that was rewritten before, here or on a server, names it."""
    source, out = files("llama"), tmp_path / "out.gguf"
    rewritten(source, out, method, factor=4)
    options = Options(gguf=out)
    text, notes = run(method, "llama.cpp", model=str(source), params={"factor": 4}, length=LENGTH, options=options)
    assert text == f"llama-server -m {out} --ctx-size {LENGTH}"
    assert notes[-1] == f"{out} holds this rotation itself, and flags would stack on it."
    with pytest.raises(ExportError):
        run(method, "llama.cpp", model=str(source), params={"factor": 8}, length=LENGTH, options=options)
