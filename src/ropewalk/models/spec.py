"""Which model, as the user says it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ropewalk.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What `model:` in an experiment file says; everything but `id` is passed on to transformers or PEFT.

    Attributes:
        id: built-in name, directory, `.gguf` file, or Hugging Face id.
        revision: branch, tag or commit on the Hub.
        adapter: PEFT adapter, a directory or Hugging Face id.
        quantization: `quantization_config` of transformers, e.g. `{quant_method: bitsandbytes, load_in_4bit: true}`.
        device_map: as in transformers, e.g. "auto" to spread a model over all accelerators.
        trust_remote_code: run Python code that the checkpoint brings along.
    """

    id: str
    revision: str | None = None
    adapter: str | None = None
    quantization: Mapping[str, Any] | None = dataclasses.field(default=None, hash=False)
    device_map: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.id or not self.id.strip():
            raise ModelError(
                "model: id is empty; give a Hugging Face id, a directory, a .gguf file or a built-in name."
            )

    @classmethod
    def parse(cls, raw: object) -> Self:
        """From a string (the id) or a mapping of this class's fields.

        Raises:
            ModelError: an unknown key, a missing id, or a value of the wrong type.
        """
        if isinstance(raw, str):
            return cls(id=raw)
        if not isinstance(raw, Mapping):
            raise ModelError(f"model: {raw!r} must be a name or a mapping with the key id.")
        for key, value in raw.items():
            _check(str(key), value)
        if "id" not in raw:
            raise ModelError("model: the key id is missing; it names the model (Hugging Face id, directory, ...).")
        return cls(**{str(key): value for key, value in raw.items()})


_TYPES: Mapping[str, tuple[type, str]] = {
    "id": (str, "a string"),
    "revision": (str, "a string"),
    "adapter": (str, "a string"),
    "quantization": (Mapping, "a mapping"),
    "device_map": (str, "a string"),
    "trust_remote_code": (bool, "true or false"),
}


def _check(key: str, value: object) -> None:
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(_TYPES)}."
        raise ModelError(f"model: unknown key {key!r}; {hint}")
    expected, words = _TYPES[key]
    if not isinstance(value, expected) and not (value is None and key != "id"):
        raise ModelError(f"model: {key}={value!r} must be {words}.")
