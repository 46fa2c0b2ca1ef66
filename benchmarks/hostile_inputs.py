"""Hostile inputs, kind by kind: answers of servers, files, names; and what ropewalk does with each."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_safetensors

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "trust")]

import fuzzing  # noqa: E402
from hostile_watch import Tally, require_plain  # noqa: E402

import checkpoints  # noqa: E402
from ropewalk import methods  # noqa: E402
from ropewalk.corpus import tokenize  # noqa: E402
from ropewalk.corpus.documents import local_document  # noqa: E402
from ropewalk.errors import RopewalkError  # noqa: E402
from ropewalk.experiment.store import Store  # noqa: E402
from ropewalk.export import ENGINES, asking, endpoint  # noqa: E402
from ropewalk.files import sha256  # noqa: E402
from ropewalk.models import ModelSpec  # noqa: E402
from ropewalk.models.load import read_tokenizer  # noqa: E402
from ropewalk.terminal import csv_text, json_text, results_tables  # noqa: E402
from ropewalk.tuning.markdown import escaped  # noqa: E402

ODD = (
    None, True, -1, 0, 7, 2**63, -(2**63), 10**400, 1e308, float("nan"), float("inf"), "", "x", "../../precious", "\0",
    "\x1b[2J\x1b]0;owned\x07", "<script>alert(1)</script>", "| a | b\n| - | -", "=1+1", "\u202e", "a" * 10**5, [], {},
    [[]], {"a": None}, [None] * 50, "1:30:00", "0x" + "f" * 300, "/dev/zero", "/**",
)  # fmt: skip
"""Values of every kind, and names that other programs would act on."""


Draw = Callable[[random.Random], Any]


def damaged(draw: random.Random, value: Any) -> Any:
    """A JSON value with one to three places replaced, as bytes; sometimes bytes of it are other bytes."""
    for _ in range(draw.randint(1, 3)):
        with contextlib.suppress(AttributeError, TypeError, KeyError, IndexError):
            value = fuzzing.replaced(value, draw.choice([(), *fuzzing._paths(value)]), draw.choice(ODD))
    raw = json.dumps(value).encode("utf-8", "surrogatepass")
    return raw if draw.random() < 0.7 else torn(draw, raw)


def torn(draw: random.Random, raw: bytes) -> bytes:
    made = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        if made:
            made[draw.randrange(len(made))] = draw.randrange(256)
    return bytes(made[: draw.choice([len(made), len(made), draw.randint(0, len(made))])])


IDS = np.array([7, 3, 9, 4], dtype=np.int32)
FACTS: dict[str, Any] = {
    "/version": {"version": "1"},
    "/v1/models": {"data": [{"id": "m"}]},
    "/get_server_info": {"version": "1"},
    "/props": {"build_info": "b1"},
    "/openapi.json": {"info": {"version": "1"}},
    "/generate": {"meta_info": {"input_token_logprobs": [[None, 7], [-1.0, 3], [-2.0, 9], [-1.5, 4]]}},
    "/completion": {"completion_probabilities": [{"id": 3, "logprob": -1.0}]},
}
COMPLETIONS: dict[str, Any] = {
    "vllm": [None, *({str(t): {"logprob": -1.0}} for t in IDS[1:])],
    "llama-cpp-python": {"token_logprobs": [None, -1.0, -1.0, -1.0]},
}


def server_answer(draw: random.Random) -> tuple[str, dict[str, tuple[int, bytes]]]:
    kind = draw.choice(["vllm", "sglang", "llama-server", "llama-cpp-python"])
    name = {"vllm": "prompt_logprobs"}.get(kind, "logprobs")
    answers = FACTS | {"/v1/completions": {"choices": [{name: COMPLETIONS.get(kind)}]}}
    answers |= {} if kind == "llama-server" else {"/props": None}
    said = {path: (200 if body is not None else 404, json.dumps(body).encode()) for path, body in answers.items()}
    for path in draw.sample(sorted(answers), draw.randint(1, 3)):
        said[path] = (draw.choice([200] * 9 + [204, 301, 500]), damaged(draw, answers[path]))
    return kind if kind in ("vllm", "sglang") else "llama.cpp", said


def check_server(given: tuple[str, dict[str, tuple[int, bytes]]]) -> None:
    target, said = given
    asking.Server._answer = lambda self, path, data: said.get(path, (404, b"null"))  # type: ignore[method-assign]
    found = endpoint.run("http://127.0.0.1:1", ENGINES[target].server, IDS, str)
    assert np.isfinite(found.nll[1:]).all()


ROTATION = {"schema": 1, "rope_theta": 10000.0, "lambda": [1.0] * 7 + [2.0], "attention_factor": 1.1}
scratch = Path(tempfile.mkdtemp(prefix="ropewalk-hostile-"))


def check_rotation_file(raw: bytes) -> None:
    path = scratch / "winner.json"
    path.write_bytes(raw)
    params = methods.make_params("searched", methods.inlined("searched", {"file": str(path)}))
    fuzzing.check_rotation(methods.resolve(fuzzing.GEOMETRY, "searched", params, 512).rotation)


ARRAYS = save_safetensors({"nll": np.linspace(0, 9, 63, dtype=np.float32), "ids": np.arange(9, dtype=np.int32)})


def safetensors_file(draw: random.Random) -> bytes:
    size = struct.unpack("<Q", ARRAYS[:8])[0]
    header, data = ARRAYS[8 : 8 + size], ARRAYS[8 + size :]
    if draw.random() < 0.5:
        return torn(draw, ARRAYS)
    header = damaged(draw, json.loads(header))
    size = draw.choice([len(header)] * 6 + [0, 2**63, 2**32, len(header) + 1])
    return struct.pack("<Q", size) + header + data


def check_safetensors(raw: bytes) -> None:
    (scratch / "raw.safetensors").write_bytes(raw)
    Store(scratch, None).read_arrays("raw.safetensors", sha256(raw))  # type: ignore[arg-type]


def name(draw: random.Random) -> str:
    codes = ["\x1b[31m", "\x9b2J", "\x07", "\r", "\n", "\u202e", "\u2028", "\ud800", "<b>", "[red]", "`", "|", "=", "é"]
    return "".join(draw.choice([*codes, "a", "yarn factor=4 "]) for _ in range(draw.randint(1, 12)))


def check_name(text: str) -> None:
    from rich.console import Console

    row = {"label": text, "length": 128, "metric": text, "value": None, "status": text, "reason": text}
    require_plain(csv_text([row]), kept="\n")
    require_plain(json_text({text: [text]}), kept="\n")
    require_plain(str(escaped([text])))
    require_plain(str(RopewalkError(text)))
    shown = io.StringIO()
    Console(file=shown, width=200).print(*results_tables([row], 200))
    require_plain(shown.getvalue(), kept="\n")


TOKENIZER = json.loads(checkpoints.tokenizer().backend_tokenizer.to_str())
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "added_tokens", "truncation", "padding")
BAD_PARTS: tuple[Any, ...] = (
    {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
    {"type": "Replace", "pattern": {"Regex": "."}, "content": "." * 10**6},
    {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 33},
    {"type": "Replace", "pattern": {"String": ""}, "content": "aaa"},
    {"type": "Prepend", "prepend": "a" * 10**5},
    {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1000, "pair": [],
     "special_tokens": {}},
    {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
     "pad_token": "x"},
    {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "", "max_input_chars_per_word": 10**9,
     "vocab": {"a": 0}},
)  # fmt: skip


def tokenizer_file(draw: random.Random) -> bytes:
    made = TOKENIZER | {draw.choice(PARTS): draw.choice([*BAD_PARTS, *ODD])}
    if draw.random() < 0.3:
        return damaged(draw, made)
    return json.dumps(made).encode("utf-8", "surrogatepass")


def check_tokenizer_file(raw: bytes) -> None:
    directory = scratch / "words"
    if not directory.is_dir():
        checkpoints.save(directory, checkpoints.llama(), checkpoints.tokenizer())
    (directory / "tokenizer.json").write_bytes(raw)
    words = read_tokenizer(ModelSpec(id=str(directory)))
    tokenize(words, local_document("eleven aaaa words. " * 20, id="d", title="d", kind="file", source="d"))


KINDS: dict[str, tuple[Draw, Callable[[Any], None], int]] = {
    "server answers": (server_answer, check_server, 60_000),
    "rotation files": (lambda draw: damaged(draw, ROTATION), check_rotation_file, 30_000),
    "safetensors": (safetensors_file, check_safetensors, 40_000),
    "names with terminal codes": (name, check_name, 15_000),
    "tokenizer files": (tokenizer_file, check_tokenizer_file, 1_500),
}
SHARE = 0.5
"""Of the counts in tests/trust/fuzzing.py."""


def fuzzed(kind: str, count: int, seed: int) -> Tally:
    """A kind of tests/trust/fuzzing.py."""
    import hypothesis

    tally, target = Tally(), fuzzing.TARGETS[kind]

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(target.strategy)
    def each(value: Any) -> None:
        tally.count(target.check, value)

    each()
    return tally


def drawn(kind: str, count: int, seed: int) -> Tally:
    draw, tally = random.Random(f"{kind} {seed}"), Tally()
    make, check, _ = KINDS[kind]
    for _ in range(count):
        tally.count(check, make(draw))
    return tally
