"""Golden rotations: the committed index against the installed transformers, and what the files hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from ropewalk.diagnosis import golden
from ropewalk.errors import ExportError
from ropewalk.rope import Rotation

COMMITTED = json.loads((Path(__file__).parents[2] / "docs" / "results" / "golden.json").read_text(encoding="utf-8"))
SAMPLE = (
    "DeepseekV3ForCausalLM",
    "GPTNeoXForCausalLM",
    "Gemma3ForCausalLM",
    "Gemma4ForCausalLM",
    "GptOssForCausalLM",
    "Llama4ForCausalLM",
    "LlamaForCausalLM",
    "Ministral3ForCausalLM",
    "Olmo3ForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3ForCausalLM",
)
installed = pytest.mark.skipif(
    COMMITTED["transformers"] != transformers.__version__,
    reason=f"the committed copy is of transformers {COMMITTED['transformers']}",
)


@installed
@pytest.mark.parametrize("name", SAMPLE)
def test_the_committed_copy_is_what_transformers_computes(name: str) -> None:
    assert json.loads(json.dumps(golden.summary(golden.golden(name)))) == COMMITTED["classes"][name]


@installed
def test_every_class_is_there() -> None:
    assert list(COMMITTED["classes"]) == list(golden.architectures())


def test_a_model_that_also_sees_is_listed_as_transformers_5_17_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.Gemma3Config, "sub_configs_defaults", {})
    monkeypatch.setattr(transformers.Gemma3Config, "sub_configs", {"text_config": transformers.Gemma3TextConfig})
    assert "Gemma3ForConditionalGeneration" in golden.architectures()


def test_most_classes_have_all_cases() -> None:
    whole = [name for name, line in COMMITTED["classes"].items() if "left_out" not in line]
    assert len(whole) >= 0.8 * len(COMMITTED["classes"])


def test_a_file_holds_what_makes_its_fingerprints() -> None:
    found = golden.golden("Gemma3ForCausalLM")
    assert found["lengths"] == [found["window"] // 2, found["window"], 4 * found["window"]]
    for rows in found["cases"].values():
        assert {row["layer_type"] for row in rows} == {"full_attention", "sliding_attention"}
        for row in rows:
            again = Rotation(inv_freq=row["inv_freq"], attention_factor=row["attention_factor"])
            assert again.fingerprint == row["fingerprint"]
            assert row["softmax_scales"] == [256**-0.5]


def test_a_module_that_computes_something_else_is_no_golden_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    module = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
    stock = module.forward

    def rounded(self: object, x: object, position_ids: object) -> tuple[object, ...]:
        return tuple(1.001 * each for each in stock(self, x, position_ids))

    monkeypatch.setattr(module, "forward", rounded)
    assert "computes another rotation for none" in golden.golden("LlamaForCausalLM")["left_out"]["none"]


def test_a_directory_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ExportError, match="is not empty; give a new directory"):
        next(golden.write(tmp_path))


def test_differences_between_versions() -> None:
    old = {"A": {"window": 1, "none": ["x", 1.0]}, "B": {"window": 1}}
    new = {"A": {"window": 1, "none": ["y", 1.0]}, "C": {"window": 1}}
    assert golden.differences(old, new) == [
        ("A", "none", '["x", 1.0]', '["y", 1.0]'),
        ("B", "", "there", "-"),
        ("C", "", "-", "there"),
    ]
