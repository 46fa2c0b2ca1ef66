"""The file of a tuned scheme: a rotation and gains of the query, as safetensors, and the same content as JSON values.

The format is eight bytes of a header's length, the header, and raw numbers (safetensors' own README); it is read here
with numpy alone, so that methods stay without the package.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import InstanceOf
from typing_extensions import override

from ropewalk.errors import MethodError, short
from ropewalk.files import read_regular
from ropewalk.methods.file_content import FileContent
from ropewalk.rope import Rotation
from ropewalk.scheme import Gains

SCHEMA = 1
MAX_FILE_BYTES = 100_000_000
MAX_HEADER_BYTES = 1_000_000
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
KEYS = ("schema", "rope_theta", "length", "inv_freq", "attention_factor", "pairs", "gains")
NEAR, TUNED_ON, WEIGHTS = "near", "tuned_on", "weights_sha256"
BUILTIN = "builtin"
"""In place of a path: the scheme that was tuned on the built-in model strand (docs/strand/MODEL_CARD.md)."""
BUILTIN_FILE = Path(str(files("ropewalk") / "data" / "tuned" / "strand.safetensors"))
REMEDY = "name a winner.safetensors that `ropewalk tune` wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a file holds.

    Attributes:
        rope_theta: the base of the model that it was found on.
        length: that it was tuned for, tokens.
        rotation: inv_freq and attention_factor.
        gains: of the query; None where only the rotation was tuned.
        pairs: the pair of each dimension of a head, -1 where it has none: where weights hold the gains.
        near: tokens nearer than which attention is as trained; None where rotation and gains are for all.
        tuned_on: SHA-256 of the documents that it was found on, where the file says it.
        weights_sha256: of the weights that it was found for, where the file says it.
    """

    rope_theta: float
    length: int
    rotation: Rotation
    gains: Gains | None
    pairs: tuple[int, ...]
    near: int | None = None
    tuned_on: tuple[str, ...] = ()
    weights_sha256: str | None = None

    def plain(self) -> dict[str, Any]:
        """The content as JSON values, to the bit."""
        inv_freq = base64.b64encode(self.rotation.inv_freq.astype("<f8").tobytes()).decode()
        gains = None if self.gains is None else self.gains.plain()
        values = (
            SCHEMA,
            self.rope_theta,
            self.length,
            inv_freq,
            self.rotation.attention_factor,
            list(self.pairs),
            gains,
        )
        more: dict[str, Any] = {} if self.near is None else {NEAR: self.near}
        more |= {TUNED_ON: list(self.tuned_on)} if self.tuned_on else {}
        more |= {WEIGHTS: self.weights_sha256} if self.weights_sha256 else {}
        return dict(zip(KEYS, values, strict=True)) | more


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedFile(FileContent):
    """What a tuned file holds."""

    method = "tuned"
    made = Tuning
    range = "the path of a .safetensors file, builtin for that of strand, or its content as a mapping"
    annotation = InstanceOf[Tuning]

    @override
    def content(self, raw: Mapping[Any, Any], place: str) -> Tuning:
        return content(raw, place)

    @override
    def read(self, name: str) -> Tuning:
        return read(BUILTIN_FILE if name == BUILTIN else Path(name))


def read(path: Path) -> Tuning:
    """What `ropewalk tune` wrote.

    Raises:
        MethodError: it cannot be read, or is something else.
    """
    try:
        return _parsed(read_regular(path, MAX_FILE_BYTES))
    except OSError as error:
        raise MethodError(f"tuned: file={short(str(path))} cannot be read ({error.strerror}); {REMEDY}.") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise MethodError(f"tuned: {short(str(path))} is no such file ({str(error)[:100]}); {REMEDY}.") from None


def _parsed(data: bytes) -> Tuning:
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError("its header has no length that can be")
    header = json.loads(data[8 : 8 + size].decode())
    note = json.loads(header.pop("__metadata__")["ropewalk"])
    arrays = {name: _array(data[8 + size :], facts) for name, facts in header.items()}
    gains = arrays.get("gains")
    return _made(
        schema=note["schema"],
        rope_theta=note["rope_theta"],
        length=note["length"],
        inv_freq=arrays["inv_freq"],
        attention_factor=float(arrays["attention_factor"][0]),
        pairs=arrays["pairs"].tolist(),
        gains=None if gains is None else Gains(log=gains),
        near=note.get(NEAR),
        tuned_on=note.get(TUNED_ON, ()),
        weights_sha256=note.get(WEIGHTS),
    )


def _array(raw: bytes, facts: Mapping[str, Any]) -> NDArray[Any]:
    """One array of a file in its own shape."""
    start, stop = facts["data_offsets"]
    return np.frombuffer(raw[start:stop], dtype=DTYPES[facts["dtype"]]).reshape(facts["shape"])


def content(raw: Mapping[Any, Any], place: str) -> Tuning:
    """The content out of JSON values.

    Raises:
        MethodError: a key that is missing or unknown, another schema, or a value that cannot be.
    """
    if set(raw) - {NEAR, TUNED_ON, WEIGHTS} != set(KEYS):
        raise MethodError(
            f"tuned: {short(place)} has {short(sorted(map(str, raw)))} as keys, and {', '.join(KEYS)} are needed; "
            f"{REMEDY}."
        )
    try:
        given = raw["gains"]
        gains = None if given is None else Gains.of(given)
        inv_freq = np.frombuffer(base64.b64decode(raw["inv_freq"], validate=True), dtype="<f8")
        return _made(**(dict(raw) | {"inv_freq": inv_freq, "gains": gains}))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise MethodError(f"tuned: {short(place)} cannot be ({str(error)[:150]}); {REMEDY}.") from None


def _made(
    *,
    schema: object,
    rope_theta: object,
    length: object,
    inv_freq: NDArray[np.float64],
    attention_factor: float,
    pairs: list[int],
    gains: Gains | None,
    near: object = None,
    tuned_on: Sequence[object] = (),
    weights_sha256: object = None,
) -> Tuning:
    """The content once checked, with inv_freq `[rotary_dim/2]` in radians per token. Raises ValueError."""
    if schema != SCHEMA or isinstance(schema, bool):
        raise ValueError(f"schema {schema!r}, and this ropewalk reads {SCHEMA}")
    if not isinstance(rope_theta, float | int) or not (math.isfinite(rope_theta) and rope_theta > 1):
        raise ValueError(f"rope_theta {rope_theta!r} is no base")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise ValueError(f"length {length!r} is no number of tokens")
    if near is not None and (not isinstance(near, int) or isinstance(near, bool) or near < 1):
        raise ValueError(f"near {near!r} is no number of tokens")
    if weights_sha256 is not None and not _is_sha256(weights_sha256):
        raise ValueError(f"weights_sha256 {weights_sha256!r} is no SHA-256")
    documents = tuple(str(each) for each in tuned_on if _is_sha256(each))
    if len(documents) < len(tuned_on) or isinstance(tuned_on, str):
        raise ValueError("tuned_on names no SHA-256 of documents")
    rotation = Rotation(inv_freq=inv_freq, attention_factor=attention_factor)
    count = rotation.inv_freq.size
    if sorted(pairs)[-2 * count :] != sorted([*range(count), *range(count)]) or not all(p >= -1 for p in pairs):
        raise ValueError(f"pairs do not name each of {count} pairs twice")
    if gains is not None and gains.log.shape[2] != count:
        raise ValueError(f"gains of {gains.log.shape[2]} pairs beside {count} of the rotation")
    return Tuning(
        rope_theta=float(rope_theta),
        length=length,
        rotation=rotation,
        gains=gains,
        pairs=tuple(pairs),
        near=near,
        tuned_on=documents,
        weights_sha256=None if weights_sha256 is None else str(weights_sha256),
    )


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
