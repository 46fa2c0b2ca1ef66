"""An adapter is in the numbers, and the model is a plain transformers model afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import logits, model_of, tokens

from ropewalk.errors import ModelError
from ropewalk.models import ModelSpec, adapter, load

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft calls transformers


def wrapped(**changes: Any) -> Any:
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False, **changes)
    return peft.get_peft_model(model_of("llama"), config).eval()


def test_adapter_is_in_the_numbers(checkpoint: Path, tmp_path: Path) -> None:
    wrapped().save_pretrained(tmp_path)
    reference = peft.PeftModel.from_pretrained(model_of("llama"), tmp_path).eval()
    expected = logits(reference, tokens())
    with_it = load(ModelSpec(id=str(checkpoint), adapter=str(tmp_path)), device="cpu", dtype="float32")
    without = load(ModelSpec(id=str(checkpoint)), device="cpu", dtype="float32")
    assert type(with_it.model) is type(without.model)
    assert (logits(with_it.model, tokens()) - expected).abs().max() < 1e-4
    assert (logits(without.model, tokens()) - expected).abs().max() > 0.1
    assert with_it.provenance.weights_sha256 != without.provenance.weights_sha256
    assert with_it.provenance.parameters == without.provenance.parameters


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("targets", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"], ["q_proj"]])
def test_tied_embeddings_take_an_adapter_where_it_is_put(targets: list[str], tmp_path: Path) -> None:
    """Merged into the one weight that both share, it would change the other as well: by 380 in logits."""
    config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    tied = {"tie_word_embeddings": True}
    peft.get_peft_model(model_of("llama", **tied), config).save_pretrained(tmp_path)
    expected = logits(peft.PeftModel.from_pretrained(model_of("llama", **tied), tmp_path).eval(), tokens())
    model, _ = adapter.apply(model_of("llama", **tied), str(tmp_path), quantized=False)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert (logits(model, tokens()) - expected).abs().max() < 1e-3  # of some hundreds
    assert model.config.tie_word_embeddings == (targets == ["q_proj"])
    model.save_pretrained(tmp_path / "merged")
    again = type(model).from_pretrained(tmp_path / "merged").eval()
    assert (logits(again, tokens()) - expected).abs().max() < 1e-3


def test_an_adapter_that_merges_into_other_numbers_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    wrapped().save_pretrained(tmp_path)
    monkeypatch.setattr(peft.PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(ModelError, match=r"changes logits by .* of their size when it is merged into the weights"):
        adapter.apply(model_of("llama"), str(tmp_path), quantized=False)


def test_on_quantised_weights_it_stays_beside_them(tmp_path: Path) -> None:
    """The weights here are plain; what is tested is that nothing is merged, and nothing lost."""
    wrapped().save_pretrained(tmp_path)
    expected = logits(peft.PeftModel.from_pretrained(model_of("llama"), tmp_path).eval(), tokens())
    model, files = adapter.apply(model_of("llama"), str(tmp_path), quantized=True)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert files == (tmp_path / "adapter_model.safetensors",)
    assert (logits(model, tokens()) - expected).abs().max() < 1e-5


def test_output_embedding_of_a_quantised_model_is_refused(tmp_path: Path) -> None:
    wrapped(modules_to_save=["lm_head"]).save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"changes the output embedding of a quantised model, which chunked scoring would"
    ):
        adapter.apply(model_of("llama"), str(tmp_path), quantized=True)


def test_prompt_learning_is_refused(tmp_path: Path) -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(model_of("llama"), config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"\(PromptTuningConfig\) prepends learned positions, which shifts every"):
        adapter.apply(model_of("llama"), str(tmp_path), quantized=False)


def test_missing_adapter_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^adapter '/no/such' does not exist; give the directory that holds adapter_conf"
    ):
        load(ModelSpec(id=str(checkpoint), adapter="/no/such"), device="cpu")
    with pytest.raises(
        ModelError, match=r"has no adapter_model\.safetensors; save it again with safe_serialization=True"
    ):
        load(ModelSpec(id=str(checkpoint), adapter=str(tmp_path)), device="cpu")


def test_peft_that_is_not_installed_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"^adapter 'a/b' needs PEFT; run `pip install 'ropewalk\[adapters\]'`\.$"):
        adapter.apply(model_of("llama"), "a/b", quantized=False)
