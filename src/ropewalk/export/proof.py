"""`--check`: which engine runs the exported form, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from ropewalk.errors import ExportError
from ropewalk.export import endpoint as server
from ropewalk.export import reference as measured
from ropewalk.export import run_llamacpp
from ropewalk.export.check import compared, run_transformers
from ropewalk.export.checkpoint import Described
from ropewalk.export.reference import Reference
from ropewalk.export.request import Request, request
from ropewalk.models import ModelSpec, read_geometry
from ropewalk.rope import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What there is to prove; with `check` false every proof is empty.

    Attributes:
        run: the run directory whose stored losses are the reference; None takes the patched model.
        endpoint: a running server.
    """

    found: Described
    asked: Request
    run: Path | None
    endpoint: str | None
    check: bool

    def of_directory(self, directory: Path) -> tuple[str, ...]:
        """An exported model directory under stock transformers in float32: against what was measured, and where that
        was rounded otherwise, once more without the rounding, which would hide a slightly wrong rotation."""
        if not self.check:
            return ()
        reference = self._reference()
        engine = run_transformers(directory, reference)
        references = [reference]
        if reference.dtype != "float32":
            references.append(measured.again(self.found.spec, self.asked, reference))
        return tuple(compared(self.asked, each, engine) for each in references)

    def of_file(self, file: Path | None, command: tuple[str, ...], vocabulary: int = 0) -> tuple[str, ...]:
        """A GGUF file of so many tokens with an exported command's flags, through llama-cpp-python; or its server."""
        if self.endpoint is not None or not self.check:
            return self.of_server("llama.cpp")
        if file is None:
            raise ExportError(
                "--check: llama.cpp runs a file, and none was named; give --gguf FILE, or --endpoint URL."
            )
        library = run_llamacpp.library()  # before minutes are spent on the reference
        reference = self._reference()
        reference = measured.shortened(reference, run_llamacpp.limit(vocabulary))
        return (compared(self.asked, reference, run_llamacpp.run(library, file, command, reference.ids)),)

    def of_server(self, target: str) -> tuple[str, ...]:
        """The user's own server, which already runs the exported form."""
        if self.endpoint is None or not self.check:
            return ()
        reference = self._reference(bos=target == "llama.cpp")
        room = server.ROOM.get(target, 1)
        reference = measured.shortened(reference, max(2, self.asked.length - room))
        engine = server.run(self.endpoint, target, reference.ids, reference.text)
        return (compared(self.asked, reference, engine),)

    def _reference(self, *, bos: bool = False) -> Reference:
        if self.run is not None:
            return measured.of_run(self.run, self.asked)
        return measured.of_model(self.found.spec, self.asked, bos=bos)


def read_back(file: Path, asked: Request) -> None:
    """A rewritten file's own rotation must be the one that was asked for.

    Only for architectures that transformers reads out of GGUF files; `ropewalk inspect` knows no others.

    Raises:
        ExportError: it is another.
    """
    again = held(file, asked, str(asked.checkpoint.architecture))
    if again is not None and again != asked.rotation and (asked.rotation.inv_freq > 0).all():
        raise ExportError(
            f"{asked.method}: the rewritten file reads back as rotation {again.fingerprint} and not "
            f"{asked.rotation.fingerprint}; nothing was written, so choose another method and report this."
        )


def held(file: Path, asked: Request, architecture: str) -> Rotation | None:
    """The rotation that a GGUF file ships; None where transformers does not read its architecture."""
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        return None
    return request(read_geometry(ModelSpec(id=str(file))), "none", {}, asked.length, asked.checkpoint).rotation
