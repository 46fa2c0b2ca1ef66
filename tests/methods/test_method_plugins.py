"""Methods of other packages, by entry point, from a distribution written to disk."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from method_table import LLAMA

from ropewalk import methods
from ropewalk.errors import MethodError

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar
from ropewalk.methods import Method, Scaled
from ropewalk.rope import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Half(Scaled):
    method: ClassVar[str] = "half"


def half(geometry, params, length):
    """Divide by half the factor, and, secretly, by more beyond a million."""
    return Rotation(inv_freq=geometry.unscaled_inv_freq / max(1.0, params.s / 2) / (2 if length > SECRET else 1))


SECRET = float("inf")
METHOD = Method(name="half", params=Half, function=half, paper="none", summary="A test.")
NOT_A_METHOD = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Scaled):
    method: ClassVar[str] = "linear"


TAKEN = Method(name="linear", params=Linear, function=half, paper="none", summary="A test.")
LIST = Method(name="half", params=Half, function=lambda *_: [1.0], paper="none", summary="A test.")
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write distributions that offer {entry point: object} and put them on sys.path."""

    def write(package: str, entries: dict[str, str]) -> None:
        module = f"{package}_rope"
        (tmp_path / f"{module}.py").write_text(MODULE)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {target if ':' in target else f'{module}:{target}'}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("[ropewalk.methods]\n" + "\n".join(lines) + "\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(tmp_path)
    return write


def test_without_packages_the_registered_methods_are_the_built_in_ones() -> None:
    assert dict(methods.registered()) == methods.METHODS


def test_a_method_by_entry_point_does_all_that_a_built_in_one_does(install) -> None:
    install("fake", {"half": "METHOD"})
    assert list(methods.registered()) == [*methods.METHODS, "half"]
    assert "half" not in methods.METHODS
    params = methods.make_params("half", {"factor": "auto", "compose": "stack"})
    resolved = methods.resolve(LLAMA, "half", params, 8 * 4096)
    assert resolved.params == {"factor": 8.0, "compose": "stack"}
    assert (
        resolved.rotation == methods.resolve(LLAMA, "linear", methods.make_params("linear", {"factor": 4}), 1).rotation
    )
    assert methods.depends_on_length(LLAMA, "half", params)
    assert len(methods.expand("half", {"factor": [2, 4]})) == 2
    assert methods.describe("half")["parameters"][0]["name"] == "factor"
    with pytest.raises(MethodError, match="half: factor=0 must be a number >= 1"):
        methods.make_params("half", {"factor": 0})
    with pytest.raises(MethodError, match="there is no method 'hall'; did you mean 'half'"):
        methods.make_params("hall", {})


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            {"linear": "TAKEN"},
            "entry point 'linear' of fake: the method name 'linear' is taken by ropewalk itself; "
            "rename the method there, or uninstall that package.",
        ),
        (
            {"seven": "NOT_A_METHOD"},
            "entry point 'seven' of fake is 7, not a ropewalk.methods.Method; point it at one, or uninstall it.",
        ),
        (
            {"third": "METHOD"},
            "entry point 'third' of fake loads a method called 'half'; give the entry point that name.",
        ),
        (
            {"gone": "fake_rope_gone:METHOD"},
            "entry point 'gone' of fake cannot be loaded (ModuleNotFoundError: No module named 'fake_rope_gone'); "
            "mend or uninstall that package.",
        ),
    ],
)
def test_a_package_that_offers_something_else_is_refused(install, entries: dict[str, str], sentence: str) -> None:
    install("fake", entries)
    with pytest.raises(MethodError) as caught:
        methods.registered()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise GeneratorExit('x')", "GeneratorExit: x"),
        ("class Stop(KeyboardInterrupt): pass\nraise Stop('s' * 10**6)", f"Stop: {'s' * 77}..."),
        ("class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd", "Odd: a Odd that cannot be shown"),
        ("def METHOD(: pass", "SyntaxError: "),
    ],
)
def test_a_module_that_raises_or_exits(install, tmp_path: Path, code: str, said: str) -> None:
    install("fake", {"half": "METHOD"})
    (tmp_path / "fake_rope.py").write_text(code)
    with pytest.raises(MethodError) as caught:
        methods.registered()
    assert str(caught.value).startswith(f"entry point 'half' of fake cannot be loaded ({said}")
    assert str(caught.value).endswith("); mend or uninstall that package.")


def test_ctrl_c_while_a_module_is_imported_is_one(install, tmp_path: Path) -> None:
    install("fake", {"half": "METHOD"})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    (tmp_path / "fake_rope.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass")
    try:
        with pytest.raises(KeyboardInterrupt):
            methods.registered()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_value_that_cannot_be_shown(install, tmp_path: Path) -> None:
    install("fake", {"half": "METHOD"})
    (tmp_path / "fake_rope.py").write_text("class Odd:\n    def __repr__(self): return 1 / 0\nMETHOD = Odd()")
    with pytest.raises(MethodError, match=r"is a Odd that cannot be shown, not a ropewalk\.methods\.Method"):
        methods.registered()


def test_two_packages_cannot_share_a_name(install) -> None:
    install("fake", {"half": "METHOD"})
    install("mock", {"half": "METHOD"})
    with pytest.raises(MethodError, match="the method name 'half' is taken by another package"):
        methods.registered()


def test_a_broken_package_does_not_stop_a_built_in_method(install) -> None:
    install("fake", {"seven": "NOT_A_METHOD"})
    assert methods.make_params("linear", {"factor": 2}).method == "linear"


def test_a_method_that_hides_its_dependence_on_length_is_caught(install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("fake", {"half": "METHOD"})
    params = methods.make_params("half", {"factor": 4})
    assert not methods.depends_on_length(LLAMA, "half", params)
    monkeypatch.setattr(sys.modules["fake_rope"], "SECRET", 5000)
    with pytest.raises(MethodError) as caught:
        methods.depends_on_length(LLAMA, "half", params)
    assert str(caught.value) == (
        "half: says that it does not depend on the length, but does; give its Method a function `varies`."
    )


def test_a_method_that_returns_no_rotation_is_caught(install) -> None:
    install("fake", {"half": "LIST"})
    with pytest.raises(MethodError) as caught:
        methods.resolve(LLAMA, "half", methods.make_params("half", {"factor": 4}), 4096)
    assert str(caught.value) == ("half: its function gave [1.0] and not a Rotation of 64 pairs; mend the method.")


def test_a_method_under_the_name_of_other_parameters_is_refused() -> None:
    linear = methods.METHODS["linear"]
    with pytest.raises(MethodError) as caught:
        methods.Method(name="mine", params=linear.params, function=linear.function, paper="", summary="")
    assert str(caught.value) == (
        "method 'mine' has parameters of 'linear'; write method: ClassVar[str] = 'mine' in Linear."
    )
