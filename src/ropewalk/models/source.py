"""Where a model's files are, and what they hash to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from ropewalk.errors import ModelError
from ropewalk.files import file_sha256, sha256
from ropewalk.model_spec import ModelSpec
from ropewalk.models import builtin, gguf

INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as transformers wants it named.

    Attributes:
        location: a directory, or a Hugging Face id.
        revision: what was asked of the Hub; of a built-in model, the release that its weights come from.
        gguf: header of the file inside `location`, for GGUF.
    """

    location: str
    revision: str | None = None
    gguf: gguf.Header | None = None

    @property
    def is_local(self) -> bool:
        return Path(self.location).is_dir()

    @property
    def keywords(self) -> dict[str, str]:
        """What `from_pretrained` needs beside the location."""
        if self.gguf is not None:
            return {"gguf_file": self.gguf.path.name}
        return {"revision": self.revision} if self.revision is not None and not self.is_local else {}


def find(spec: ModelSpec, *, weights: bool = True) -> Source:
    """Resolve a spec; unless `weights` are asked for, a configuration is enough.

    Raises:
        ModelError: a path that does not exist, a directory with pickled weights only, a damaged built-in.
    """
    path = Path(spec.id).expanduser()
    if spec.revision is not None and (spec.id in builtin.NAMES or path.exists()):
        raise ModelError(f"model {spec.id!r} is on this machine and has no revision {spec.revision!r}; leave it out.")
    if spec.id in builtin.NAMES:
        directory, release = builtin.locate(spec.id, weights=weights)
        return Source(location=str(directory), revision=release)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"model {spec.id!r} does not exist; download the .gguf file and give its path.")
        if spec.quantization is not None:
            raise ModelError(f"model {spec.id!r} is quantised by its GGUF blocks; leave quantization out.")
        return Source(location=str(path.parent), gguf=gguf.read_header(path))
    if path.is_dir():
        if weights:
            _require_safetensors(path)
        return Source(location=str(path))
    if path.exists() or spec.id.startswith(("/", ".", "~")) or spec.id.count("/") > 1:
        raise ModelError(
            f"model {spec.id!r} is no directory and no .gguf file; give the directory that holds config.json."
        )
    return Source(location=spec.id, revision=spec.revision)


def pinned(source: Source) -> Source:
    """The commit that the configuration was read from, for weights and tokenizer too, whatever is pushed meanwhile.

    Asking for a commit also keeps transformers from opening a conversion pull request on a repository without
    safetensors and reading the weights out of that.
    """
    path = None if source.is_local else _file(source, "config.json")
    return source if path is None else dataclasses.replace(source, revision=path.parent.name)


def is_here(source: Source) -> bool:
    """Whether the weights are on this machine already, so that loading them downloads nothing."""
    return source.is_local or any(_file(source, name) is not None for name in (INDEX, WEIGHTS))


def _require_safetensors(directory: Path) -> None:
    if any(directory.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in _PICKLED for path in directory.glob(pattern))
    if pickled:
        raise ModelError(
            f"{directory} holds its weights only as {pickled[0]}, a pickle, which can run any code when read; "
            "where you trust it, load it and call model.save_pretrained(directory), which writes safetensors."
        )
    raise ModelError(
        f"{directory} holds no weights (*.safetensors); give the directory that model.save_pretrained wrote."
    )


def weight_files(source: Source) -> tuple[Path, ...]:
    """The files that the weights were read from, after they were read (so the Hub's are in the cache)."""
    if source.gguf is not None:
        return (source.gguf.path,)
    index = _file(source, INDEX)
    names = [WEIGHTS]
    if index is not None:
        names = _indexed(index)
    files = [_file(source, name) for name in names]
    if None in files:
        missing = names[files.index(None)]
        raise ModelError(
            f"{source.location} has no {missing}, so its weights cannot be identified; give the whole model."
        )
    return tuple(path for path in files if path is not None)


def _indexed(index: Path) -> list[str]:
    """The names of the weight files in an index."""
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"{index} is no index of weights ({type(error).__name__}: {error}); give the whole model."
        ) from error


def _file(source: Source, name: str) -> Path | None:
    if source.is_local:
        path = Path(source.location) / name
        return path if path.is_file() else None
    cached = huggingface_hub.try_to_load_from_cache(source.location, name, revision=source.revision)
    return Path(cached) if isinstance(cached, str) else None


def sha256_of(files: Sequence[Path]) -> str:
    """SHA-256 of one file's contents; of several, that of their sorted hex digests, so no name or order matters."""
    digests = [file_sha256(path) for path in files]
    return digests[0] if len(digests) == 1 else sha256("".join(sorted(digests)).encode())
