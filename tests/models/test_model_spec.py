"""What `model:` may say."""

from __future__ import annotations

import pytest

from ropewalk.errors import ModelError
from ropewalk.models import ModelSpec


def test_a_string_is_the_id() -> None:
    assert ModelSpec.parse("smollm2") == ModelSpec(id="smollm2")


def test_a_mapping_has_every_key() -> None:
    raw = {
        "id": "org/name",
        "revision": "v1",
        "adapter": "org/lora",
        "quantization": {"quant_method": "bitsandbytes", "load_in_4bit": True},
        "device_map": "auto",
        "trust_remote_code": True,
    }
    assert ModelSpec.parse(raw) == ModelSpec(**raw)
    assert ModelSpec.parse({"id": "a", "adapter": None}).adapter is None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"id": "a", "revison": "x"}, r"^model: unknown key 'revison'; did you mean 'revision'\?$"),
        (
            {"id": "a", "zzz": 1},
            r"^model: unknown key 'zzz'; leave it out; known keys are id, revision, adapter, quantization, device",
        ),
        ({"revision": "x"}, r"^model: the key id is missing; give the model's Hugging Face id"),
        ({"id": 3}, r"^model: id=3: must be text; put it in quotes\.$"),
        (
            {"id": "a", "quantization": "4bit"},
            r"^model: quantization='4bit': must be a mapping; write \{key: value\}, or leave quantization out\.$",
        ),
        (
            {"id": "a", "trust_remote_code": "yes"},
            r"^model: trust_remote_code='yes': must be true or false; write one of these, or leave trust_remote_code "
            r"out for False\.$",
        ),
        (7, r"^model: 7 must be a name or a mapping with the key id\.$"),
        ("  ", r"^model: id is empty; give a Hugging Face id, a directory, a \.gguf file or a built-in name\.$"),
        ("~\0/x", r"^model: id='~\\x00/x' holds a NUL, which no path does; mend the name\.$"),
        ({"id": "a", "adapter": "b\0"}, r"^model: adapter='b\\x00' holds a NUL"),
    ],
)
def test_everything_else_is_refused(raw: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelSpec.parse(raw)
