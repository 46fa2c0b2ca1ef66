"""Loading gives the whole model, identified by what was read, or one sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import tiny_models
import torch
import transformers
from huggingface_hub import constants
from huggingface_hub import errors as hub
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from tiny_models import logits, model_of, tokens
from transformers.utils import logging

from ropewalk.errors import ModelError
from ropewalk.models import ModelSpec, geometry_of, load, patched, placement, read_geometry, source
from ropewalk.models.foreign import quiet, sentences
from ropewalk.models.load import read_tokenizer
from ropewalk.models.placement import torch_device, torch_dtype
from ropewalk.models.size import read_size
from ropewalk.rope import Rotation


def spec_of(path: Path, **more: Any) -> ModelSpec:
    return ModelSpec(id=str(path), **more)


def copy_of(checkpoint: Path, target: Path) -> Path:
    return Path(shutil.copytree(checkpoint, target / "copy"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("no_network")
def test_directory_is_loaded_whole_and_identified(checkpoint: Path) -> None:
    loaded = load(spec_of(checkpoint), dtype="float32", device="cpu")
    assert torch.equal(logits(loaded.model, tokens()), logits(model_of("llama"), tokens()))
    assert loaded.geometry == geometry_of(loaded.model.config) == read_geometry(spec_of(checkpoint))
    found = loaded.provenance
    assert (found.id, found.revision, found.architecture) == (str(checkpoint), None, "LlamaForCausalLM")
    assert found.weights_sha256 == sha256(checkpoint / "model.safetensors")
    assert (found.dtype, found.device, found.chat_template) == ("float32", "cpu", False)
    assert found.parameters == sum(p.numel() for p in model_of("llama").parameters())
    assert loaded.tokenizer("Hi!")["input_ids"] == [ord(c) - 32 for c in "Hi!"]


def test_model_is_ready_to_be_measured(checkpoint: Path) -> None:
    model = load(spec_of(checkpoint), device="cpu").model
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.config.use_cache is False
    assert model.config._attn_implementation == "sdpa"
    assert not hasattr(model, "_hf_hook")
    assert model(input_ids=tokens()).past_key_values is None


def test_attention_is_a_parameter(checkpoint: Path) -> None:
    assert (
        load(spec_of(checkpoint), device="cpu", attn_implementation="eager").model.config._attn_implementation
        == "eager"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_frequencies_exact(checkpoint: Path, dtype: str) -> None:
    loaded = load(spec_of(checkpoint), dtype=dtype, device="cpu")
    assert loaded.provenance.dtype == dtype
    assert loaded.model.model.rotary_emb.inv_freq.dtype == torch.float32
    with patched(loaded.model, Rotation(inv_freq=loaded.geometry.unscaled_inv_freq)):
        assert logits(loaded.model, tokens()).isfinite().all()


@pytest.mark.parametrize("fast", [True, False])
def test_auto_dtype_on_a_cpu_depends_on_its_instructions(checkpoint: Path, fast: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(placement, "cpu_has_bfloat16", lambda: fast)
    assert load(spec_of(checkpoint), device="cpu").provenance.dtype == ("bfloat16" if fast else "float32")


def test_auto_dtype_on_a_gpu_is_the_checkpoints() -> None:
    assert torch_dtype("auto", torch.device("cuda"), is_gguf=False) == "auto"
    assert torch_dtype("auto", torch.device("cuda"), is_gguf=True) == torch.bfloat16
    assert torch_dtype("float16", torch.device("cuda"), is_gguf=True) == torch.float16


def test_unknown_dtype_is_refused(checkpoint: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^dtype='fp16' must be one of auto, float32, bfloat16, float16; write one of these\.$"
    ):
        load(spec_of(checkpoint), dtype="fp16", device="cpu")


def test_devices_that_are_not_there_are_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"^device='cuda:3' does not exist; this machine has 1 CUDA devices\.$"):
        torch_device("cuda:3", None)
    with pytest.raises(
        ModelError, match=r"^device='mps' does not exist; this machine has no Metal GPU, so give cpu\.$"
    ):
        torch_device("mps", None)
    with pytest.raises(ModelError, match=r"^device='gpu' is no device; give cpu, cuda, cuda:N or mps\.$"):
        torch_device("gpu", None)
    with pytest.raises(
        ModelError, match=r"^device='cpu' and device_map='auto' contradict each other; give one of them"
    ):
        torch_device("cpu", "auto")
    with pytest.raises(ModelError, match=r"^device_map='cuda:7' does not exist; this machine has 1 CUDA devices\.$"):
        torch_device(None, "cuda:7")
    with pytest.raises(ModelError, match=r"^device_map='all' is no device; give cpu, cuda, cuda:N or mps, or auto, b"):
        torch_device(None, "all")
    assert torch_device(None, "cpu") == torch.device("cpu")
    assert torch_device("cuda", None) == torch.device("cuda", 0)


def test_default_device_is_cuda_if_there_is_any(monkeypatch: Any) -> None:
    for there, expected in ((True, torch.device("cuda", 0)), (False, torch.device("cpu"))):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert torch_device(None, None) == expected


def test_shards_hash_to_one_number_and_give_the_same_model(checkpoint: Path, tmp_path: Path) -> None:
    model_of("llama").save_pretrained(tmp_path, max_shard_size="40KB")
    tiny_models.tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    loaded = load(spec_of(tmp_path), device="cpu", dtype="float32")
    expected = hashlib.sha256("".join(sorted(map(sha256, shards))).encode()).hexdigest()
    assert loaded.provenance.weights_sha256 == expected
    assert torch.equal(logits(loaded.model, tokens()), logits(model_of("llama"), tokens()))


def test_geometry_needs_no_weights(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    assert read_geometry(spec_of(tmp_path)).rope_theta == 50000.0


def test_pickled_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    torch.save(model_of("llama").state_dict(), tmp_path / "pytorch_model.bin")
    message = (
        r"holds its weights only as pytorch_model\.bin, a pickle, which can run any code when read; where you trust it"
    )
    with pytest.raises(ModelError, match=message):
        load(spec_of(tmp_path))


def test_directory_without_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    with pytest.raises(
        ModelError, match=r"holds no weights \(\*\.safetensors\); give the directory that model\.save_pr"
    ):
        load(spec_of(tmp_path))


def test_missing_weights_are_not_filled_with_random_numbers(checkpoint: Path, tmp_path: Path) -> None:
    directory = copy_of(checkpoint, tmp_path)
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    message = (
        r"1 weights are missing or misshapen \(model\.layers\.1\.mlp\.up_proj\.weight, \.\.\.\), and transformers would"
    )
    with pytest.raises(ModelError, match=message):
        load(spec_of(directory), device="cpu")


def test_truncated_weights_are_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    directory = copy_of(checkpoint, tmp_path)
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelError, match=r"could not be loaded \(.*; check its files, and that the installed transf"):
        load(spec_of(directory), device="cpu")


def test_missing_tokenizer_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    directory = copy_of(checkpoint, tmp_path)
    for file in directory.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"^model '.*' could not be loaded \("):
        load(spec_of(directory), device="cpu")


def test_a_tokenizer_that_is_no_text_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    file = directory / "tokenizer.json"
    raw = file.read_bytes()
    file.write_bytes(raw[:40] + b"\x95" + raw[41:])
    with pytest.raises(ModelError, match=r"tokenizer\.json: byte 40 is no UTF-8; download the file again\.$"):
        read_tokenizer(ModelSpec(id=str(directory)))


def test_unknown_architecture_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonesuch"}), encoding="utf-8")
    with pytest.raises(
        ModelError, match=r"could not be loaded \(ValueError: .*nonesuch.*the installed transformers knows"
    ):
        read_geometry(spec_of(tmp_path))


def test_wrong_scaling_key_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    raw = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    raw["rope_parameters"] = {"rope_type": "linear", "rope_theta": 1e4, "scaling_factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ModelError, match=r"could not be loaded \(.*Missing required keys in `rope_parameters`.*factor"):
        read_geometry(spec_of(tmp_path))


@pytest.mark.parametrize("layers", [2**40, 10**30, 10001])
def test_counts_that_would_fill_all_memory_are_refused(checkpoint: Path, tmp_path: Path, layers: int) -> None:
    values = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(values | {"num_hidden_layers": layers}), encoding="utf-8")
    with pytest.raises(ModelError, match=f"num_hidden_layers={str(layers)[:20]} in its configuration cannot be"):
        read_geometry(ModelSpec(id=str(tmp_path)))


def test_model_without_rope_is_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=32)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"^GPT2Config \(gpt2\) has no rotary position embeddings"):
        load(spec_of(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/dir", "~/nowhere", "a/b/c"])
def test_paths_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(
        ModelError, match=rf"^model '{name}' is no directory and no \.gguf file; give the directory that"
    ):
        load(ModelSpec(id=name))


def test_revision_of_a_directory_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"is on this machine and has no revision 'main'; leave it out\.$"):
        load(spec_of(checkpoint, revision="main"))


def test_code_of_a_checkpoint_runs_only_if_trusted(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    raw = {"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ModelError, match=r"could not be loaded \(ValueError: .*trust_remote_code"):
        read_geometry(spec_of(tmp_path))


def test_everything_else_reaches_transformers(checkpoint: Path, monkeypatch: Any) -> None:
    seen: dict[str, Any] = {}
    real = transformers.AutoModelForCausalLM.from_pretrained

    def stub(location: str, **keywords: Any) -> Any:
        seen.update(keywords)
        del keywords["quantization_config"], keywords["device_map"]
        return real(location, **keywords)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", stub)
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    load(spec_of(checkpoint, quantization=quantization, device_map="auto", trust_remote_code=True))
    assert seen["quantization_config"] == quantization
    assert seen["device_map"] == "auto"
    assert seen["trust_remote_code"] is True
    assert seen["use_safetensors"] is True


def test_loading_is_silent_and_leaves_no_trace(checkpoint: Path, capfd: Any) -> None:
    logging.enable_progress_bar()
    logging.set_verbosity_warning()
    try:
        load(spec_of(checkpoint), device="cpu")
        assert logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.WARNING
    finally:
        tiny_models.silence()
    assert capfd.readouterr() == ("", "")


def test_download_bars_stay() -> None:
    before = are_progress_bars_disabled()
    with quiet():
        assert are_progress_bars_disabled() == before
        assert not logging.is_progress_bar_enabled()
    assert are_progress_bars_disabled() == before


def failure(kind: type[BaseException]) -> BaseException:
    error = kind.__new__(kind)
    Exception.__init__(error, "first line\nsecond line")
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            hub.GatedRepoError,
            r"^model 'a/b' is gated; accept its licence at https://huggingface\.co/a/b and run `hf auth",
        ),
        (
            hub.RevisionNotFoundError,
            r"^model 'a/b' has no revision 'v9' on the Hugging Face Hub; give a branch, tag or c",
        ),
        (
            hub.RepositoryNotFoundError,
            r"^model 'a/b' is no built-in name \(smollm2, strand\), no directory, and not on ",
        ),
        (
            hub.LocalEntryNotFoundError,
            r"^model 'a/b' is not in the local cache and the Hugging Face Hub cannot be reache",
        ),
        (hub.OfflineModeIsEnabled, r"run `hf download a/b` where there is a network, or give a directory\.$"),
        (ConnectionResetError, r"^model 'a/b' is not in the local cache and the Hugging Face Hub cannot be reached"),
        (
            torch.OutOfMemoryError,
            r"^model 'a/b' does not fit into memory; use dtype bfloat16, device_map auto, or quant",
        ),
        (ValueError, r"^model 'a/b' could not be loaded \(OSError: wrapped\); check its files, and that the installed"),
    ],
)
def test_what_the_hub_raises_becomes_one_sentence(error: type[BaseException], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught, sentences("a/b", "v9"):
        raise OSError("wrapped") from failure(error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "asked"), [("a/b", True), ("strand", False), (str(Path(__file__).parent), False)])
def test_a_hub_without_an_address_is_asked_for_nothing(name: str, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = list[str]()

    def unknown(host: str, port: object) -> None:
        hosts.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("ropewalk.models.foreign.getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with sentences(name):
        assert asked == constants.HF_HUB_OFFLINE
    assert hosts == ["huggingface.co"] * asked
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("name", ["smolm2", "Strand"])
@pytest.mark.parametrize("error", [hub.RepositoryNotFoundError, hub.OfflineModeIsEnabled])
def test_misspelt_built_in_names_are_recognised(name: str, error: type[BaseException]) -> None:
    meant = {"smolm2": "smollm2", "Strand": "strand"}[name]
    with pytest.raises(ModelError, match=rf"; write '{meant}' for the built-in model, or "), sentences(name):
        raise failure(error)


def test_hub_model_without_safetensors_is_one_sentence() -> None:
    with (
        pytest.raises(
            ModelError, match=r"^model 'a/b' has no safetensors weights, and pickles, which can run any code"
        ),
        sentences("a/b"),
    ):
        raise OSError("... Please do not set `use_safetensors=True`.")


def test_a_model_that_continues_no_text_is_one_short_line(tmp_path: Path) -> None:
    transformers.IdeficsConfig().save_pretrained(tmp_path)
    message = r"^model '.*' is a idefics, of which transformers .* has no language model that continues text alone; g"
    with pytest.raises(ModelError, match=message) as caught:
        read_size(spec_of(tmp_path), "float32")
    assert len(str(caught.value)) < 300


def test_our_own_errors_pass_through() -> None:
    with pytest.raises(ModelError, match=r"^mine$"), sentences("a/b"):
        raise ModelError("mine")


@pytest.mark.usefixtures("no_network")
def test_hub_cache_is_enough_without_a_network(checkpoint: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The two constants are what HF_HUB_CACHE and HF_HUB_OFFLINE set in the environment."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--tiny"
    shutil.copytree(checkpoint, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    found = load(ModelSpec(id="org/tiny"), device="cpu", dtype="float32").provenance
    assert (found.id, found.revision) == ("org/tiny", commit)
    assert found.weights_sha256 == sha256(checkpoint / "model.safetensors")
    assert load(ModelSpec(id="org/tiny", revision=commit), device="cpu", dtype="float32").provenance == found
    with pytest.raises(
        ModelError, match=r"^model 'org/other' is not in the local cache and the Hugging Face Hub cannot"
    ):
        read_geometry(ModelSpec(id="org/other"))


def test_weights_and_tokenizer_come_from_the_commit_of_the_configuration(checkpoint: Path, monkeypatch: Any) -> None:
    asked: list[tuple[str, str | None]] = []
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    cached = {"config.json": "/hub/models--org--tiny/snapshots/c0ffee/config.json"}
    monkeypatch.setattr(source.huggingface_hub, "try_to_load_from_cache", lambda _, name, revision: cached.get(name))

    def record(name: str, result: Any) -> Any:
        def stub(location: str, revision: str | None = None, **_: Any) -> Any:
            asked.append((name, revision))
            return result

        return SimpleNamespace(from_pretrained=stub)

    whole = (model_of("llama"), {"missing_keys": set(), "mismatched_keys": set()})
    monkeypatch.setattr(transformers.PreTrainedConfig, "get_config_dict", lambda *_, **__: (config.to_dict(), {}))
    monkeypatch.setattr(transformers, "AutoConfig", record("config", config))
    monkeypatch.setattr(transformers, "AutoModelForCausalLM", record("weights", whole))
    monkeypatch.setattr(transformers, "AutoTokenizer", record("tokenizer", tiny_models.tokenizer()))
    with pytest.raises(ModelError, match=r"^org/tiny has no model\.safetensors, so its weights cannot be identified"):
        load(ModelSpec(id="org/tiny", revision="main"), device="cpu")
    assert asked[:2] == [("config", "main"), ("weights", "c0ffee")]
