"""Every impossible experiment is refused in one sentence: the key, the value, the remedy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.errors import ExperimentError, RopewalkError
from ropewalk.experiment import plan, schema

GOOD = {"model": "m", "lengths": [128, 64], "methods": {"yarn": {"factor": 2}}, "metrics": {"perplexity": {}}}


def refusal(changes) -> str:
    raw = {key: value for key, value in (GOOD | changes).items() if value is not ...}
    with pytest.raises(ExperimentError) as found:
        schema.parse(raw, "x.yaml")
    said = str(found.value)
    assert said.startswith("x.yaml: ")
    assert "\n" not in said
    return said.removeprefix("x.yaml: ")


def longppl(**changes):
    return {"metrics": {"longppl": {"spans": "builtin"} | changes}}


WHOLE = "must be a whole number; write digits alone"
REFUSALS = [
    ({"lenghts": [64]}, "unknown key lenghts=[64]; did you mean lengths?"),
    (
        {"xyz": 1},
        "unknown key xyz=1; leave it out; known keys: model, dtype, lengths, documents, methods, metrics, window, "
        "seed, tune.",
    ),
    ({"metrics": {"perplexty": {}}}, "unknown key metrics.perplexty={}; did you mean perplexity?"),
    (
        {"metrics": {"perplexity": {"strid": 8}}},
        "unknown key metrics.perplexity.strid=8; did you mean stride?",
    ),
    ({"metrics": {"passkey": {"trial": 8}}}, "unknown key metrics.passkey.trial=8; did you mean trials?"),
    (longppl(trunk_len=8), "unknown key metrics.longppl.trunk_len=8; did you mean trunc_len?"),
    ({"model": ...}, "the key model is missing; add it."),
    ({"lengths": ...}, "the key lengths is missing; add it."),
    ({"methods": ...}, "the key methods is missing; add it."),
    ({"metrics": ...}, "the key metrics is missing; add it."),
    ({"model": 5}, "model=5: must be a name such as strand, or a mapping with the key id."),
    ({"model": None}, "model=None: must be a name such as strand, or a mapping with the key id."),
    (
        {"dtype": "fp16"},
        "dtype='fp16': must be 'auto', 'float32', 'bfloat16' or 'float16'; write one of these, or leave dtype out for "
        "'auto'.",
    ),
    ({"lengths": 128}, "lengths=128: must be a list; write it in brackets, such as [2048, 4096]."),
    ({"lengths": []}, "lengths=[]: must hold at least one value; add one."),
    ({"lengths": [128, 128]}, "lengths=[128, 128]: holds the same length twice; remove one."),
    ({"lengths": ["128"]}, f"lengths.0='128': {WHOLE}."),
    ({"lengths": [128.0]}, f"lengths.0=128.0: {WHOLE}."),
    ({"lengths": [True]}, f"lengths.0=True: {WHOLE}."),
    ({"lengths": [float("nan")]}, f"lengths.0=nan: {WHOLE}."),
    ({"lengths": [64, 3]}, "lengths.1=3: is too small; write 4 or more."),
    ({"lengths": [2**24 + 1]}, "lengths.0=16777217: is too large; write 16777216 or less."),
    (
        {"documents": "builtin"},
        "documents='builtin': must be a mapping; write {key: value}, or leave documents out for {'corpus': 'builtin'}.",
    ),
    (
        {"methods": {}},
        "methods={}: must map method names to their parameters, such as yarn: {factor: [2, 4]}.",
    ),
    (
        {"methods": "yarn"},
        "methods='yarn': must map method names to their parameters, such as yarn: {factor: [2, 4]}.",
    ),
    (
        {"methods": ["none", {"yarn": {"factor": 2}}]},
        "methods=['none', {'yarn': {'factor': 2}}]: must map method names to their parameters, such as "
        "yarn: {factor: [2, 4]}.",
    ),
    ({"metrics": {}}, "metrics={}: names no metric; use perplexity, longppl, passkey, tasks, ruler or lm_eval."),
    ({"metrics": ["perplexity"]}, "metrics=['perplexity']: must be a mapping; write {} for the defaults."),
    (
        {"metrics": {"perplexity": 5}},
        "metrics.perplexity=5: must be a mapping; write {} for the defaults, or leave perplexity out.",
    ),
    (
        {"metrics": {"perplexity": {"stride": 0}}},
        "metrics.perplexity.stride=0: is too small; write 1 or more, or leave stride out.",
    ),
    (
        {"metrics": {"perplexity": {"stride": 64}}},
        "metrics.perplexity.stride=64 must be smaller than the shortest length 64, or a window would score tokens "
        "without context; lower stride or drop that length.",
    ),
    (
        {"metrics": {"longppl": {}}},
        "metrics.longppl={}: needs exactly one of `spans` (builtin or a path) and `evaluator` (self or a model); write "
        "{spans: builtin}.",
    ),
    (
        longppl(evaluator="self"),
        "metrics.longppl={'spans': 'builtin', 'evaluator': 'self'}: needs exactly one of `spans` (builtin or a path) "
        "and `evaluator` (self or a model); leave one out.",
    ),
    (
        longppl(alpha=float("nan")),
        "metrics.longppl.alpha=nan: must be a finite number; write one such as 1.5, or leave alpha out for 2.0.",
    ),
    (
        longppl(beta=float("-inf")),
        "metrics.longppl.beta=-inf: must be a finite number; write one such as 1.5, or leave beta out for -2.0.",
    ),
    (
        longppl(alpha="2"),
        "metrics.longppl.alpha='2': must be a number; write one such as 1.5, or leave alpha out for 2.0.",
    ),
    (longppl(spans=3), "metrics.longppl.spans=3: must be text; put it in quotes, or leave spans out."),
    (
        longppl(trunc_len=1),
        "metrics.longppl.trunc_len=1: is too small; write 2 or more, or leave trunc_len out for 4096.",
    ),
    (
        longppl(min_key_tokens=0),
        "metrics.longppl.min_key_tokens=0: is too small; write 1 or more, or leave min_key_tokens out for 30.",
    ),
    (
        {"metrics": {"passkey": {"trials": 0}}},
        "metrics.passkey.trials=0: is too small; write 1 or more, or leave trials out for 20.",
    ),
    (
        {"metrics": {"passkey": {"protocol": "yran"}}},
        "metrics.passkey.protocol='yran': must be 'exact' or 'yarn'; write one of these, or leave protocol out for "
        "'exact'.",
    ),
    (
        {"metrics": {"passkey": {"protocol": "yarn", "template": "chat"}}},
        "metrics.passkey={'protocol': 'yarn', 'template': 'chat'}: protocol yarn has its own prompt; leave out "
        "`template` and `haystack`.",
    ),
    ({"window": 0}, "window=0: is too small; write 1 or more, or leave window out."),
    ({"window": True}, f"window=True: {WHOLE}, or leave window out."),
    ({"seed": -1}, "seed=-1: is too small; write 0 or more, or leave seed out for 0."),
    (
        {"seed": 2**63},
        "seed=9223372036854775808: is too large; write less than 9223372036854775808, or leave seed out for 0.",
    ),
    ({"seed": "x" * 500}, f"seed='{'x' * 76}...: {WHOLE}, or leave seed out for 0."),
]


@pytest.mark.parametrize(("changes", "expected"), REFUSALS, ids=[expected[:50] for _, expected in REFUSALS])
def test_refusals(changes, expected):
    assert refusal(changes) == expected


@pytest.mark.parametrize("raw", [None, 5, "text", [1]])
def test_what_is_no_mapping(raw):
    with pytest.raises(ExperimentError) as found:
        schema.parse(raw, "x.yaml")
    assert str(found.value) == (
        "x.yaml: must be a mapping with the keys model, lengths, methods, metrics, and is " + type(raw).__name__ + "; "
        "`ropewalk init MODEL` prints one."
    )


def test_defaults_are_filled_in_and_lengths_sorted():
    found = schema.parse(GOOD | {"metrics": {"perplexity": None, "longppl": {"evaluator": "self"}}}, "x.yaml")
    assert found.resolved() == {
        "model": "m",
        "dtype": "auto",
        "lengths": [64, 128],
        "documents": {"corpus": "builtin"},
        "methods": {"yarn": {"factor": 2}},
        "metrics": {
            "perplexity": {},
            "longppl": {
                "evaluator": "self",
                "trunc_len": 4096,
                "stride": 1024,
                "alpha": 2.0,
                "beta": -2.0,
                "min_key_tokens": 30,
            },
        },
        "seed": 0,
    }


def test_what_is_recorded_is_the_same_experiment():
    for methods in (["none", "llama3"], {"llama3": None, "none": None}, {"yarn": {"factor": "auto"}}):
        found = schema.parse(GOOD | {"methods": methods}, "x.yaml")
        assert schema.Experiment.model_validate(found.resolved()) == found


BAD_YAML = [
    ("a: 1\nb: 2\na: 3", " at line 3, column 1: the key 'a' stands twice; remove one."),
    ("a: {b: 1, b: 2}", " at line 1, column 11: the key 'b' stands twice; remove one."),
    ("a: &x [1]\nb: *x", " at line 2, column 4: aliases (*name) are not taken; write the value out."),
    ("1: a", " at line 1, column 1: the key 1 is no text; put it in quotes."),
    (
        "a: [1",
        " at line 1, column 6: expected ',' or ']', but got '<stream end>'; mend that line, or put text in quotes.",
    ),
    ("a: b: c", " at line 1, column 5: mapping values are not allowed here; mend that line, or put text in quotes."),
    ("a: 1\n---\nb: 2", " at line 2, column 1: but found another document; mend that line, or put text in quotes."),
    (
        "a: !!python/object/apply:os.system [ls]",
        " at line 1, column 4: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'.",
    ),
    ("a: !!map [1]", " at line 1, column 4: this is no mapping."),
    ("a: !!bool maybe", ": a value does not fit its !!tag; leave the tag out."),
    ('a: !!int ""', ": a value does not fit its !!tag; leave the tag out."),
    ("a: !!timestamp x", ": a value does not fit its !!tag; leave the tag out."),
    ("a: 2024-13-45", ": month must be in 1..12."),
    ("a: \x00", ": unacceptable character #x0000: special characters are not allowed."),
    ("a: " + "[" * 500, ": maximum recursion depth exceeded"),
    ("a: " + "9" * 5000, " at line 1, column 4: a number is plain and has at most 100 characters"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_YAML, ids=[text[:20] for text, _ in BAD_YAML])
def test_bad_yaml(text, expected):
    with pytest.raises(ExperimentError) as found:
        schema.load_yaml(text, "x.yaml")
    assert str(found.value).startswith(f"x.yaml: not valid YAML{expected}")
    assert "\n" not in str(found.value)


def outcome(call) -> str:
    """The refusal; nothing if there is none. Any other exception is a failure."""
    try:
        call()
    except RopewalkError as error:
        return str(error)
    return ""


@given(st.text(max_size=60))
def test_any_text_is_yaml_or_one_sentence(text):
    said = outcome(lambda: schema.parse(schema.load_yaml(text, "x.yaml"), "x.yaml"))
    assert said.startswith("x.yaml: ")
    assert "\n" not in said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    key=st.sampled_from(["model", "dtype", "lengths", "documents", "methods", "metrics", "window", "seed"]),
    value=json_values,
)
def test_any_value_is_taken_or_refused_in_one_sentence(key, value):
    said = outcome(lambda: plan.configurations(schema.parse(GOOD | {key: value}, "x.yaml").methods))
    assert "\n" not in said


def test_files_that_are_none(tmp_path):
    def said(path):
        with pytest.raises(ExperimentError) as found:
            schema.read(path)
        return str(found.value).removeprefix(f"{path}: ")

    remedy = "name a YAML file or preset:NAME."
    assert said(tmp_path / "no.yaml") == f"cannot read this experiment file (No such file or directory); {remedy}"
    assert said(tmp_path) == f"cannot read this experiment file (it is no regular file); {remedy}"
    (tmp_path / "latin.yaml").write_bytes("model: é".encode("latin-1"))
    assert said(tmp_path / "latin.yaml") == f"cannot read this experiment file (it is not UTF-8 text); {remedy}"
    (tmp_path / "huge.yaml").write_bytes(b"#" * (schema.MAX_FILE_BYTES + 1))
    assert said(tmp_path / "huge.yaml") == f"cannot read this experiment file (it has more than 200000 bytes); {remedy}"
