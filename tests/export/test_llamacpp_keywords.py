"""The flags of `llama-server` as llama-cpp-python takes them, without it."""

from __future__ import annotations

import shlex

import pytest

from ropewalk.export.run_llamacpp import FROM_FILE, keywords, limit


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", {}),
        ("--ctx-size 4096", {}),
        ("--rope-scaling none --rope-freq-base 500000", {"rope_scaling_type": 0, "rope_freq_base": 500000.0}),
        ("--rope-scaling linear --rope-scale 4", {"rope_scaling_type": 1, "rope_freq_scale": 0.25}),
        (
            "--rope-scaling yarn --rope-scale 8 --yarn-orig-ctx 2048 --yarn-beta-fast 16 --yarn-beta-slow 2",
            {"rope_scaling_type": 2, "rope_freq_scale": 0.125, "yarn_orig_ctx": 2048}
            | {"yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0},
        ),
        (
            "--override-kv a.b=int:8 --override-kv c=float:1.5",
            {"kv_overrides": {"a.b": 8, "c": 1.5}},
        ),
    ],
)
def test_flags(command: str, expected: dict[str, object]) -> None:
    found = keywords(["llama-server", "-m", "model.gguf", *shlex.split(command)])
    assert found == FROM_FILE | expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in (FROM_FILE | expected).items()
    }


def test_what_is_not_said_is_read_from_the_file() -> None:
    assert FROM_FILE == {"yarn_attn_factor": -1.0, "yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0}


def test_logits_fit_into_a_gibibyte() -> None:
    assert (limit(32000), limit(262144), limit(0), limit(2**30)) == (8388, 1024, 2**28, 2)
