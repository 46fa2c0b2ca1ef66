"""Which model, as the user says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError

from ropewalk.errors import ModelError
from ropewalk.validation import sentence

SENTENCES = {
    "unknown": "unknown key {where!r}; {hint}",
    "known": "leave it out; known keys are {known}.",
    "near": "did you mean {near!r}?",
    "missing": "the key {where} is missing; give the model's Hugging Face id, directory, .gguf file or built-in name.",
}


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

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    revision: str | None = None
    adapter: str | None = None
    quantization: Mapping[Any, Any] | None = dataclasses.field(default=None, hash=False)
    device_map: str | None = None
    trust_remote_code: Annotated[bool, Strict()] = False

    def __post_init__(self) -> None:
        if not self.id or not self.id.strip():
            raise ModelError(
                "model: id is empty; give a Hugging Face id, a directory, a .gguf file or a built-in name."
            )
        for key, name in (("id", self.id), ("adapter", self.adapter)):
            if name is not None and "\0" in name:
                raise ModelError(f"model: {key}={name!r} holds a NUL, which no path does; mend the name.")

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
        try:
            return TypeAdapter(cls).validate_python({str(key): value for key, value in raw.items()})
        except ValidationError as error:
            defaults = {f.name: ... if f.default is dataclasses.MISSING else f.default for f in dataclasses.fields(cls)}
            raise ModelError(f"model: {sentence(error, lambda _: defaults, SENTENCES)}") from None
