"""What is fuzzed: for each kind of input a strategy, and what must hold of every value that is taken.

A check may raise RopewalkError with one line, which is a refusal; anything else that it raises is a traceback that a
user would see. `tests/trust/test_fuzz.py` runs a few inputs of each kind, `benchmarks/faults.py fuzz` very many.
"""

# ruff: noqa: PT017, PT018  (checks may be read as one condition, and refusals are caught here on purpose)
from __future__ import annotations

import json
import math
import re
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from gguf import GGUFWriter
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from ropewalk.cli import parse_lengths, parse_parameters
from ropewalk.corpus import key_token_mask, tokenize
from ropewalk.corpus.documents import local_document
from ropewalk.corpus.span_files import read_span_file, read_spans
from ropewalk.corpus.spans import KeySpans
from ropewalk.errors import RopewalkError
from ropewalk.experiment import plan, schema
from ropewalk.experiment.prepare import material
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.methods import describe, make_params, registered, resolve
from ropewalk.metrics import passkey
from ropewalk.models import ModelSpec, read_geometry
from ropewalk.models.gguf import read_header
from ropewalk.rope import RopeGeometry, Rotation

logging.set_verbosity_error()

Check = Callable[[Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A kind of input; `check` raises RopewalkError for a refusal, AssertionError where a bad value was taken."""

    strategy: st.SearchStrategy[Any]
    check: Check
    long: int
    """Inputs in the long campaign: many where one costs little."""


@dataclass(slots=True)
class Tally:
    """How many inputs were taken and how many refused."""

    taken: int = 0
    refused: int = 0
    places: dict[str, int] = field(default_factory=dict)

    def check(self, target: Target, value: Any) -> None:
        try:
            target.check(value)
            self.taken += 1
        except RopewalkError as error:
            assert "\n" not in str(error) and len(str(error)) > 20, repr(str(error))
            self.refused += 1


number = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.floats(),
    st.floats(0.5, 64, width=16),
    st.sampled_from([1e15, 1e16, 1e308, 2**63, -0.0, 10**400]),
)
scalar = st.one_of(st.none(), st.booleans(), number, st.text(max_size=12), st.sampled_from(["auto", "1e5", "nan", "~"]))
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)

# --- experiment files -------------------------------------------------------------------------------------------------
VALID: dict[str, Any] = {
    "model": "strand",
    "dtype": "auto",
    "lengths": [128, 256],
    "documents": {"corpus": "builtin", "count": 2},
    "methods": {"yarn": {"factor": [2, 4], "beta_fast": [24, 32]}, "linear": {"factor": 2}},
    "metrics": {
        "perplexity": {"stride": 64},
        "longppl": {"spans": "builtin"},
        "passkey": {"trials": 20},
        "tasks": {"tasks": ["words"], "samples": 3, "template": "auto"},
    },
    "window": 256,
    "seed": 0,
}
VALID_TEXT = yaml.safe_dump(VALID, sort_keys=False)
GEOMETRY = RopeGeometry(rotary_dim=16, rope_theta=10000.0, max_position_embeddings=256)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [inner for key, part in items for inner in _paths(part, (*path, key))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with one place altered."""
    if not path:
        return new
    if isinstance(value, list):
        return [replaced(part, path[1:], new) if i == path[0] else part for i, part in enumerate(value)]
    return value | {path[0]: replaced(value.get(path[0], {}), path[1:], new)}


@st.composite
def experiments(draw: st.DrawFn) -> dict[str, Any]:
    found: Any = VALID
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(VALID)))
        if draw(st.booleans()):
            path = (*path[:-1], draw(st.sampled_from(["factor", "trials", "stride", "alpha", "evaluator", "x", ""])))
        try:
            found = replaced(found, path, draw(anything))
        except (AttributeError, TypeError):  # an earlier change took the place away
            continue
    return found


@st.composite
def damaged_text(draw: st.DrawFn, text: str) -> str:
    """A text with a few characters, lines or tags too many or too few."""
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        new = draw(st.sampled_from([": ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "!!python/object:os.system ",
                                    "!!float ", "\t", "\0", "'", '"', "|\n", "? ", "---\n", "%", "#", "\ud800"])
                   | st.text(max_size=6))  # fmt: skip
        text = text[:at] + new + text[min(to, at + 3) :]
    return text


def check_experiment(raw: Any) -> None:
    taken = schema.parse(raw, "fuzz")
    assert all(type(n) is int and 4 <= n <= schema.MAX_LENGTH for n in taken.lengths), taken.lengths
    assert sorted(set(taken.lengths)) == taken.lengths
    assert taken.window is None or 1 <= taken.window <= schema.MAX_LENGTH
    assert 0 <= taken.seed < 2**63
    metrics = taken.metrics
    assert metrics.passkey is None or 1 <= metrics.passkey.trials <= 10_000
    assert metrics.tasks is None or 1 <= metrics.tasks.samples <= 2000
    assert metrics.perplexity is None or metrics.perplexity.stride is None or metrics.perplexity.stride >= 1
    if metrics.longppl is not None:
        assert math.isfinite(metrics.longppl.alpha) and math.isfinite(metrics.longppl.beta)
        assert metrics.longppl.stride >= 1 and metrics.longppl.trunc_len >= 2 and metrics.longppl.min_key_tokens >= 1
    json.dumps(taken.resolved(), allow_nan=False)
    ModelSpec.parse(taken.model)
    configs = plan.configurations(taken.methods)
    if len(configs) * len(taken.lengths) < 200:
        for scheme in plan.make(taken, GEOMETRY, 1, configs).schemes.values():
            rotation = scheme.rotation
            check_rotation(rotation)


def check_yaml(text: str) -> None:
    raw = schema.load_yaml(text, "fuzz")
    check_experiment(raw)


def check_arguments(pairs: tuple[list[str], list[str]]) -> None:
    for value in parse_parameters(pairs[0]).values():
        make_params("yarn", {"factor": value})
    parse_lengths(pairs[1])


# --- methods ----------------------------------------------------------------------------------------------------------
@st.composite
def method_parameters(draw: st.DrawFn) -> tuple[str, dict[str, Any], int]:
    name = draw(st.sampled_from(sorted(registered())))
    known = [parameter["name"] for parameter in describe(name)["parameters"]]
    value = st.one_of(number, scalar, st.lists(number, min_size=8, max_size=8), st.floats(1, 64))
    raw = draw(st.sampled_from([{}, {"factor": 2}, {"factor": 8.0}]))
    raw = raw | draw(st.dictionaries(st.sampled_from([*known, "factor", "nonsense"]), value, max_size=3))
    return name, raw, draw(st.sampled_from([1, 128, 1024, 2**24]))


BOUNDS = re.compile(r"number (>=|>) (\S+) and <= (\S+)")


def check_parameters(asked: tuple[str, dict[str, Any], int]) -> None:
    method, raw, length = asked
    params = make_params(method, raw)
    for parameter in describe(method)["parameters"]:
        value, bounds = raw.get(parameter["name"]), BOUNDS.search(parameter["range"])
        if bounds is not None and value is not None and not isinstance(value, str):
            for one in value if isinstance(value, list) else [value]:
                assert not isinstance(one, bool) and float(one) <= float(bounds[3]), (parameter, value)
                low = float(bounds[2])
                assert float(one) >= low if bounds[1] == ">=" else float(one) > low, (parameter, value)
    check_rotation(resolve(GEOMETRY, method, params, length).rotation)


def check_rotation(rotation: Rotation) -> None:
    assert np.isfinite(rotation.inv_freq).all() and (rotation.inv_freq >= 0).all()
    assert 0 < rotation.attention_factor < math.inf
    with np.errstate(over="raise", invalid="raise"):
        assert len(rotation.fingerprint) == 16


# --- config.json ------------------------------------------------------------------------------------------------------
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1},
    {"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
     "high_freq_factor": 4.0},
    {"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 64, "short_factor": [1.0] * 8,
     "long_factor": [2.0] * 8},
    {"rope_type": "proportional", "partial_rotary_factor": 0.5},
]  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    found: Any = CONFIG | {"model_type": draw(st.sampled_from(["llama", "qwen2", "mistral", "phi3", "gpt_neox"]))}
    scaling = {"rope_theta": 10000.0} | draw(st.sampled_from([{"rope_type": "default"}, *SCALINGS]))
    found = found | {draw(st.sampled_from(["rope_parameters", "rope_scaling"])): scaling}
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(_paths(found)))
        found = replaced(found, path, draw(scalar | st.lists(number, max_size=9)))
    return found


_scratch = Path(tempfile.mkdtemp(prefix="ropewalk-fuzz-"))


def check_config(config: Any) -> None:
    (_scratch / "config.json").write_text(json.dumps(config), encoding="utf-8")
    geometry = read_geometry(ModelSpec(id=str(_scratch)))
    assert geometry.rotary_dim >= 2 and geometry.rope_theta > 1 and geometry.window("stack").length >= 1
    for method, raw in (("none", {}), ("yarn", {"factor": 2}), ("linear", {"factor": 2, "compose": "stack"})):
        check_rotation(resolve(geometry, method, make_params(method, raw), 512).rotation)


# --- tokenizers -------------------------------------------------------------------------------------------------------
@st.composite
def tokenized(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    kind = draw(st.sampled_from(["bytes", "characters", "fallback", "words"]))
    made = {"kind": kind, "bos": draw(st.sampled_from(["none", "declared", "prepended"])), "fast": draw(st.booleans())}
    made |= {"nfkc": draw(st.booleans()), "prefix": draw(st.booleans())}
    return made, draw(st.text(min_size=1, max_size=60) | st.text("ab 12.é\n😀\u0301", min_size=1, max_size=60))


class _NoOffsets(PreTrainedTokenizerFast):
    """As a slow tokenizer of transformers: no character offsets."""

    is_fast = False


def tokenizer(made: dict[str, Any]) -> PreTrainedTokenizerFast:
    if made["kind"] == "bytes":
        names = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Tokenizer(models.BPE(vocab={"<s>": 0, **{c: i + 1 for i, c in enumerate(names)}}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=made["prefix"])
        backend.decoder = decoders.ByteLevel()
    elif made["kind"] == "fallback":
        pieces = [
            "<unk>",
            "<s>",
            *[f"<0x{i:02X}>" for i in range(256)],
            "\u2581",
            *"abcdefghijklmnopqrstuvwxyz.:?0123456789",
        ]
        backend = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], byte_fallback=True,
                                       unk_token="<unk>", fuse_unk=True))  # fmt: skip
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if made["prefix"] else "never")
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    else:
        words = ["<unk>", "<s>", *map(chr, range(32, 127))]
        backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        split = pre_tokenizers.Split("", "isolated") if made["kind"] == "characters" else pre_tokenizers.Whitespace()
        backend.pre_tokenizer = split
    if made["nfkc"]:
        backend.normalizer = normalizers.NFKC()
    if made["bos"] == "prepended":
        single = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))])
        backend.post_processor = single
    kind = PreTrainedTokenizerFast if made["fast"] else _NoOffsets
    return kind(tokenizer_object=backend, **({} if made["bos"] == "none" else {"bos_token": "<s>"}))


def check_tokenizer(asked: tuple[dict[str, Any], str]) -> None:
    made, text = asked
    words = tokenizer(made)
    document = local_document(text, id="fuzz", title="fuzz", kind="file", source="fuzz")
    found = tokenize(words, document)
    assert found.bos == (made["bos"] == "prepended")
    assert (found.ends is None) == (not made["fast"])
    covered = found.utf8_bytes()
    if covered is not None and found.ends is not None:
        assert (covered >= 0).all() and covered.sum() <= len(document.text.encode("utf-8", "surrogatepass"))
        size = len(document.text)
        spans = KeySpans(evaluator="x", trunc_len=4, stride=2, alpha=2.0, beta=-2.0, document_sha256=document.sha256,
                         spans=((0, size),))  # fmt: skip
        assert len(key_token_mask(found, spans)) in (len(found), len(found) - 1)
    for prompt in passkey.prompts(passkey.Passkey(trials=2), material(words, found, 0), 160):
        assert len(prompt.request.ids) == 160


# --- GGUF -------------------------------------------------------------------------------------------------------------
@st.composite
def gguf_files(draw: st.DrawFn) -> bytes:
    path = _scratch / "header.gguf"
    writer = GGUFWriter(str(path), draw(st.sampled_from(["llama", "qwen2", "nonsense"])))
    sizes = draw(st.sampled_from([16, 0, 3, 2**31 - 1]))
    if draw(st.booleans()):
        writer.add_context_length(draw(st.sampled_from([256, 0, 2**32 - 1])))
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_rope_dimension_count(sizes)
    writer.add_rope_freq_base(draw(st.floats(width=32)))
    if draw(st.booleans()):
        writer.add_string("llama.rope.scaling.type", draw(st.sampled_from(["linear", "yarn", "longrope", "none", "x"])))
        writer.add_float32("llama.rope.scaling.factor", draw(st.floats(width=32)))
    if draw(st.booleans()):
        writer.add_tensor(
            "rope_freqs.weight", np.array(draw(st.lists(st.floats(width=32), min_size=8, max_size=8)), np.float32)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    raw = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.sampled_from([len(raw), len(raw) // 2, 40, 4, 0]))])


def check_gguf(raw: bytes) -> None:
    path = _scratch / "fuzz.gguf"
    path.write_bytes(raw)
    read_header(path)
    geometry = read_geometry(ModelSpec(id=str(path)))
    check_rotation(resolve(geometry, "none", make_params("none", {}), 512).rotation)


# --- key spans --------------------------------------------------------------------------------------------------------
DOCUMENT = local_document("The long rope walks. " * 9, id="fuzz", title="fuzz", kind="file", source="fuzz")
SPANS: dict[str, Any] = {
    "version": 1, "evaluator": "x", "trunc_len": 16, "stride": 4, "alpha": 2.0, "beta": -2.0,
    "documents": {DOCUMENT.sha256: [[0, 4], [9, 20]]},
}  # fmt: skip


@st.composite
def span_files(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return draw(damaged_text(json.dumps(SPANS))).encode("utf-8", "surrogatepass")
    path = draw(st.sampled_from(_paths(SPANS)))
    return json.dumps(replaced(SPANS, path, draw(anything))).encode("utf-8", "surrogatepass")


def check_spans(raw: bytes) -> None:
    path = _scratch / "spans.json"
    path.write_bytes(raw)
    read_span_file(path)
    (taken,) = read_spans(path, [DOCUMENT])
    ends = [0]
    for start, end in taken.spans:
        assert ends[-1] <= start <= end <= len(DOCUMENT.text)
        ends.append(end)
    assert taken.trunc_len >= 1 and taken.stride >= 1 and math.isfinite(taken.alpha) and math.isfinite(taken.beta)


# --- run.sqlite -------------------------------------------------------------------------------------------------------
TABLES = ("meta", "documents", "schemes", "workers", "passes", "prompts", "answers", "cells")


@st.composite
def database_changes(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    whole = st.integers(-(2**63), 2**63 - 1)
    odd = st.sampled_from(["{}", "[]", "null", "NaN", "[" * 3000, '{"a": 1e999}', "../../x"])
    value = st.one_of(st.none(), whole, st.floats(), st.text(max_size=12), st.binary(max_size=8), odd)
    places = st.tuples(st.sampled_from(TABLES), st.integers(0, 20), st.integers(0, 40))
    change = st.one_of(
        st.tuples(st.just("set"), places, value),
        st.tuples(st.just("json"), st.integers(0, 20), st.integers(0, 60), anything),
        st.tuples(st.just("delete"), places),
        st.tuples(st.just("byte"), st.integers(0, 2**20), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.integers(0, 2**17)),
    )
    return draw(st.lists(change, min_size=1, max_size=3))


def check_database(directory: Path, pristine: bytes, changes: list[tuple[Any, ...]]) -> None:
    path = directory / "run.sqlite"
    path.write_bytes(pristine)
    for name in ("run.sqlite-journal", "run.sqlite-wal", "run.sqlite-shm"):
        (directory / name).unlink(missing_ok=True)
    for kind, *change in changes:
        if kind in ("byte", "cut"):
            raw = bytearray(path.read_bytes())
            if kind == "byte" and raw:
                raw[change[0] % len(raw)] = change[1]
            path.write_bytes(raw if kind == "byte" else raw[: change[0]])
        else:
            _alter(path, kind, *change)
    run = Run(directory=directory)
    for read in (run.rows, run.frame, lambda: run.missing, run.samples, run.curve, lambda: run.meta):
        try:
            read()
        except RopewalkError as error:
            assert "\n" not in str(error)
    verify_rows(directory)


def _alter(path: Path, kind: str, *change: Any) -> None:
    db = sqlite3.connect(path)
    try:
        if kind == "json":
            keys = [key for (key,) in db.execute("SELECT key FROM meta ORDER BY key")]
            key = keys[change[0] % len(keys)]
            ((text,),) = db.execute("SELECT value FROM meta WHERE key = ?", [key])
            record = json.loads(text)
            places = [(), *_paths(record)]
            new = json.dumps(replaced(record, places[change[1] % len(places)], change[2]))
            db.execute("UPDATE meta SET value = ? WHERE key = ?", [new, key])
        else:
            table, column, row = change[0]
            names = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            ids = [one for (one,) in db.execute(f"SELECT rowid FROM {table}")]
            rowid = ids[row % len(ids)]
            if kind == "delete":
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", [rowid])
            else:
                value = change[1].encode("utf-8", "surrogatepass") if isinstance(change[1], str) else change[1]
                value = (
                    value.decode("utf-8", "replace")
                    if isinstance(value, bytes) and isinstance(change[1], str)
                    else value
                )
                db.execute(f"UPDATE {table} SET {names[column % len(names)]} = ? WHERE rowid = ?", [value, rowid])
        db.commit()
    except (sqlite3.Error, OverflowError, ZeroDivisionError, ValueError, UnicodeEncodeError, TypeError):
        pass  # the change itself is not possible, or an earlier one left nothing to change
    finally:
        db.close()


# --- names and places -------------------------------------------------------------------------------------------------
places = st.text("~/.*?[]!a\\ \0é", max_size=10).filter(lambda text: "**" not in text)


def check_places(name: str) -> None:
    from ropewalk.corpus import load_documents

    for read in (
        lambda: load_documents({"files": [name]}),
        lambda: load_documents({"dataset": name}),
        lambda: read_span_file(name),
        lambda: schema.read(Path(name)),
    ):
        try:
            read()
        except RopewalkError as error:
            assert "\n" not in str(error)
    if name.startswith(("~", ".", "/")):
        read_geometry(ModelSpec(id=name))
    Run.open(name)


TARGETS: dict[str, Target] = {
    "experiment values": Target(strategy=experiments(), check=check_experiment, long=12_000),
    "experiment text": Target(strategy=damaged_text(VALID_TEXT), check=check_yaml, long=15_000),
    "command line values": Target(
        strategy=st.tuples(st.lists(st.text("abf=:[]{},.0123 -&*!\n", max_size=12), max_size=2),
                           st.lists(st.text("0123,. e-²", max_size=8), max_size=2)),
        check=check_arguments, long=15_000),
    "method parameters": Target(strategy=method_parameters(), check=check_parameters, long=20_000),
    "config.json": Target(strategy=configs(), check=check_config, long=12_000),
    "tokenizers": Target(strategy=tokenized(), check=check_tokenizer, long=6_000),
    "GGUF headers": Target(strategy=gguf_files(), check=check_gguf, long=10_000),
    "key-span files": Target(strategy=span_files(), check=check_spans, long=20_000),
    "places": Target(strategy=places, check=check_places, long=8_000),
}  # fmt: skip


def database_target(directory: Path) -> Target:
    """The target "run.sqlite", on a finished run that will be harmed."""
    pristine = (directory / "run.sqlite").read_bytes()
    return Target(
        strategy=database_changes(), check=lambda changes: check_database(directory, pristine, changes), long=1_500
    )
