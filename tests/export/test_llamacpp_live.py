"""llama.cpp itself, through llama-cpp-python (extra `llamacpp`): flags and rewritten files, on the same tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_models
import numpy as np
import pytest
import tiny_models
from export_requests import EXAMPLES

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, request, run_llamacpp
from ropewalk.export.checkpoint import checkpoint_of
from ropewalk.export.command import Options, run
from ropewalk.export.gguf_file import open_gguf, rewrite
from ropewalk.export.native import change
from ropewalk.export.reference import losses
from ropewalk.models import builtin, geometry_of
from ropewalk.scheme import Scheme

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra llamacpp)")

CHANGES = {"gemma3": {"query_pre_attn_scalar": 32}}
"""llama.cpp takes head_dim for it, as all released models of that size have."""

LENGTH = 512
"""Tokens of the tiny models, whose window is 256."""

TINY_TOLERANCE = 5e-3
"""Relative, of the mean NLL: the promise of --check. Random weights have flat losses, so twins below show that
another rotation is off by more."""
NEEDS_DIVISORS = ("llama3", "longrope", "mrrope", "ntk_by_parts", "proportional")


def model_of(architecture: str) -> Any:
    return tiny_models.model_of(architecture, **CHANGES.get(architecture, {}))


METHODS = sorted(EXAMPLES.keys() - {"searched", "none"})


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("live")

    def file(architecture: str) -> Path:
        path = folder / f"{architecture}.gguf"
        return path if path.exists() else gguf_models.write(path, model_of(architecture))

    return file


def asked_of(model: Any, method: str, architecture: str, **params: Any) -> Any:
    checkpoint = dataclasses.replace(checkpoint_of(model.config, name="m.gguf"), architecture=architecture)
    return request(geometry_of(model.config), method, params, LENGTH, checkpoint)


def worst_token(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


@pytest.mark.parametrize("form", ["flags", "file"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "phi3", "gemma3", "gpt_neox"])
def test_every_token_as_measured(
    name: str, method: str, form: str, files: Callable[[str], Path], tmp_path: Path
) -> None:
    """llama.cpp keeps keys and values in float16 and multiplies angles up in float32: 0.02 nats on any one token."""
    model, source = model_of(name), files(name)
    reader = open_gguf(source)
    asked = asked_of(model, method, reader.fields["general.architecture"].contents(), **EXAMPLES[method])
    file, command = source, ()
    try:
        if form == "flags":
            command = ENGINES["llama.cpp"].configure(asked).command
        else:
            file = tmp_path / "out.gguf"
            changed = change(asked, str(asked.checkpoint.architecture))
            rewrite(reader, source, changed, asked, file, force=False, proof=lambda _: None)
    except ExportError:
        assert method in NEEDS_DIVISORS
        assert form == "flags" or name not in ("llama", "phi3")
        return
    ids = tiny_models.tokens(length=LENGTH)[0].numpy().astype(np.int32)
    shipped = request(asked.geometry, "none", {}, LENGTH, asked.checkpoint).rotation
    expected, without = losses(model, ids, (asked.scheme, Scheme(rotation=shipped)))
    found = run_llamacpp.run(llama_cpp, file, command, ids).nll
    assert worst_token(found, expected) < 0.02
    assert abs(found.mean() / expected.mean() - 1) < TINY_TOLERANCE
    assert worst_token(found, without) > 0.05  # another rotation would be noticed


STRAND = Path(str(builtin.locate("strand", weights=False)[0]))


@pytest.fixture(scope="session")
def strand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """strand as a float32 GGUF with its own vocabulary."""
    from ropewalk.models import ModelSpec, load

    model = load(ModelSpec(id="strand"), dtype="float32").model
    return gguf_models.write(
        tmp_path_factory.mktemp("strand") / "strand.gguf", model, tokenizer_json=STRAND / "tokenizer.json"
    )


CHECKED = {
    "linear": {"factor": 4},
    "yarn": {"factor": 4},
    "dynamic_ntk": {"factor": 2},
    "llama3": {"factor": 4},
    "mrrope": {"factor": 4},
    "longrope": {"factor": 4},
}
FLAGGED = ("linear", "yarn", "dynamic_ntk")


def smollm2() -> Path:
    return builtin._smollm2_gguf()


@pytest.mark.parametrize("method", CHECKED)
def test_check_of_strand(method: str, strand: Path, tmp_path: Path) -> None:
    ways = [Options(gguf=strand, out=tmp_path / "out.gguf", check=True)]
    ways += [Options(gguf=strand, check=True)] if method in FLAGGED else []
    for options in ways:
        _, notes = run(method, "llama.cpp", model="strand", params=CHECKED[method], length=1024, options=options)
        print(method, "flags" if options.out is None else "file", *notes, sep="\n")
        assert any(f"llama-cpp-python {llama_cpp.__version__}: mean NLL" in note for note in notes)


@pytest.mark.parametrize(("method", "flags"), [("yarn", True), ("yarn", False), ("longrope", False)])
def test_check_of_smollm2(method: str, flags: bool, tmp_path: Path) -> None:
    """Beyond its window of 8192 a pass takes minutes; a window of 512 is declared, so that 1024 tokens are extended."""
    params = {"factor": 2, "original_max_position_embeddings": 512}
    options = Options(gguf=smollm2(), check=True, out=None if flags else tmp_path / "out.gguf")
    _, notes = run(method, "llama.cpp", model="smollm2", params=params, length=1024, options=options)
    print(*notes, sep="\n")
    assert any(f"llama-cpp-python {llama_cpp.__version__}: mean NLL" in note for note in notes)


@pytest.mark.parametrize("name", ["strand", "smollm2"])
def test_check_of_gains(name: str, strand: Path, tmp_path: Path) -> None:
    """Gains of 0.2 and a stretched rotation, in float32 rows and in Q4_1's scales."""
    from ropewalk.models import ModelSpec, load
    from ropewalk.scheme import Gains
    from ropewalk.tuning import winner
    from ropewalk.tuning.pairs import turning

    model = load(ModelSpec(id=name), dtype="float32").model
    geometry, turns = geometry_of(model.config), turning(model)
    asked = request(
        geometry, "longrope", {"factor": 2, "original_max_position_embeddings": 512}, 1024, checkpoint_of(model.config)
    )
    gains = np.random.default_rng(0).normal(0, 0.2, (turns.depth, turns.heads, geometry.rotary_dim // 2))
    scheme = Scheme(rotation=asked.rotation, gains=Gains(log=gains.astype(np.float32)))
    file = tmp_path / winner.FILE
    file.write_bytes(winner.content(scheme, geometry, turns, {"length": 1024}))
    options = Options(gguf=strand if name == "strand" else smollm2(), out=tmp_path / "out.gguf", check=True)
    _, notes = run("tuned", "llama.cpp", model=name, params={"file": str(file)}, options=options)
    print(*notes, sep="\n")
    assert any(f"llama-cpp-python {llama_cpp.__version__}: mean NLL" in note for note in notes)


def test_flags_cannot_hold_longrope_of_smollm2() -> None:
    """One sentence that says what can, before any weights are read."""
    with pytest.raises(ExportError) as refusal:
        run("longrope", "llama.cpp", model="smollm2", params={"factor": 2}, length=4096, options=Options(check=True))
    assert str(refusal.value) == (
        "llama.cpp: has no flags for longrope (its own are linear, yarn and another base); "
        "use --gguf IN --out OUT, which writes it into the file."
    )


def test_twin_a_file_that_drops_the_rotation_fails_the_check(strand: Path) -> None:
    """The shipped file in place of the rewritten one."""
    from ropewalk.export.check import compared
    from ropewalk.export.checkpoint import describe
    from ropewalk.export.reference import of_model
    from ropewalk.models import ModelSpec

    found = describe(ModelSpec(id="strand"))
    asked = request(found.geometry, "yarn", {"factor": 4}, 1024, found.checkpoint)
    reference = of_model(found.spec, asked)
    engine = run_llamacpp.run(llama_cpp, strand, (), reference.ids)
    with pytest.raises(ExportError, match="the engine does not run what was measured"):
        compared(asked, reference, engine)
    assert reference.shipped is not None
    assert engine.nll.mean() == pytest.approx(reference.shipped.mean(), rel=5e-3)
