"""Files that RULER's preparation wrote: read as they are, judged by its rules, faults found and said."""

from __future__ import annotations

import json

import pytest

from ropewalk.errors import ExperimentError
from ropewalk.experiment.schema import parse, stored
from ropewalk.metrics.metric import Material, OfPrompt
from ropewalk.metrics.ruler import METRIC, RULER, Ruler, read
from ropewalk.tasks.ruler_files import check, files, judge

LENGTH = 512


@pytest.fixture(scope="module")
def encode(words):
    return lambda text: words(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def material(words_bos) -> Material:
    return Material(
        encode=lambda text: words_bos(text, add_special_tokens=False)["input_ids"],
        encode_whole=lambda text: words_bos(text)["input_ids"],
        chat=None,
        bos_id=0,
        prose=[],
        seed=0,
    )


@pytest.fixture
def folder(tmp_path, encode):
    """Two tasks of three samples, as prepare.py lays them out."""
    write(tmp_path, encode, "niah_multiquery", 128, ["12345", "99"])
    write(tmp_path, encode, "qa_1", 32, ["Anne", "Miss Anne Elliot"])
    return tmp_path


def write(folder, encode, task, new_tokens, outputs, length=LENGTH, **changes):
    path = folder / str(length) / "data" / task / "validation.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as out:
        for index in range(3):
            prompt, prefix = f"the rope {index} " * 20, " Answer:"
            counted = len(encode(prompt + prefix)) + new_tokens
            values = {"index": index, "input": prompt, "outputs": outputs, "length": counted, "answer_prefix": prefix}
            out.write(json.dumps(values | changes) + "\n")
    return path


def asked(folder, length=LENGTH, **changes) -> Ruler:
    return read(Ruler(files=str(folder), **changes), [length])


def test_prompts_are_those_of_the_files(folder, material, words):
    options = asked(folder)
    prompts = METRIC.prompts(options, material, LENGTH)
    needs = METRIC.asks(RULER, options, LENGTH, LENGTH)
    assert (len(prompts), needs.count, needs.new_tokens) == (6, 6, 128)
    for prompt, known in zip(prompts, METRIC.facts(options, LENGTH, 0), strict=True):
        assert known.items() <= prompt.facts.items()
    assert [prompt.request.new_tokens for prompt in prompts] == [128] * 3 + [32] * 3
    assert prompts[1].request.ids[0] == 0
    assert words.decode(prompts[1].request.ids[1:]) == "the rope 1 " * 20 + " Answer:"
    assert prompts[1].request.stop == ()
    assert METRIC.asks(RULER, asked(folder, limit=2), LENGTH, LENGTH).count == 4
    assert prompts[0].facts["file"] != prompts[3].facts["file"]


def test_answers_are_counted_by_its_rules(folder, material):
    options = asked(folder)
    facts = [prompt.facts for prompt in METRIC.prompts(options, material, LENGTH)]

    def score(place, text):
        unit = OfPrompt(unit="0", facts=facts[place], answer=None, predicted=[], nll=None, text=text)
        return METRIC.sample(RULER, options, (), unit)

    assert score(0, "they are 012345 and no more").numerator == 0.5  # anywhere, in longer numbers too
    assert score(0, "99\x0012345").numerator == 1.0
    assert score(3, "MISS ANNE").numerator == 1.0
    assert score(3, "nobody").numerator == 0.0
    assert (score(4, "").unit, score(4, "").group) == ("qa_1 1", "qa_1")
    assert judge("niah_single_3", ["a b"], "a\tb") == 0.0  # control characters become line breaks


def test_good_files_pass_the_check(folder, encode):
    assert check(str(folder), encode) == []
    assert [file.task for file in files(str(folder))] == ["niah_multiquery", "qa_1"]


def test_another_tokenizer_is_found(folder, encode, material):
    def characters(text):
        return list(text)

    found = check(str(folder), characters)
    assert len(found) == 2
    assert "was prepared with another tokenizer: its prompt has 228 tokens here and" in found[0]
    assert found[0].endswith("(3 of 3 lines).")


def test_prompts_longer_than_their_folder_says_are_found(tmp_path, encode, material):
    write(tmp_path, encode, "vt", 30, ["AB"], length=64)
    (why,) = check(str(tmp_path), encode)
    assert "answer included, more than the 64 of its folder" in why
    with pytest.raises(ExperimentError, match="more than the 64 of its folder"):
        METRIC.prompts(asked(tmp_path, length=64), material, 64)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"index": 0, "inp', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"index": "0", "input": "a", "outputs": ["b"]}', "lacks `index`"),
        ('{"index": 0, "outputs": ["b"]}', "its `input`"),
        ('{"index": 0, "input": "a", "outputs": "b"}', "has `outputs` 'b', not a list of texts"),
        ('{"index": 0, "input": "a", "outputs": []}', "not a list of texts"),
        ('{"index": 0, "input": "a", "outputs": ["b"], "length": -1}', "has `length` -1"),
    ],
)
def test_damaged_lines_are_named(folder, encode, line, why):
    path = folder / str(LENGTH) / "data" / "qa_1" / "validation.jsonl"
    with path.open("a", encoding="utf-8") as out:
        out.write(f"{line}\n")
    (found,) = check(str(folder), encode)
    assert f"{path}:4 " in found
    assert why in found
    with pytest.raises(ExperimentError, match=r"validation\.jsonl:4"):
        asked(folder)


def test_folders_that_do_not_say_what_they_hold_are_refused(folder, encode, tmp_path):
    with pytest.raises(ExperimentError, match=r"has no files for 1024 tokens \(there are: 512"):
        files(str(folder), 1024)
    with pytest.raises(ExperimentError, match=r"holds no \.jsonl file"):
        files(str(folder / "nowhere"))
    with pytest.raises(ExperimentError, match="names 0 lengths"):
        files(str(folder / str(LENGTH) / "data"))
    write(folder, encode, "longbench", 128, ["a"])
    with pytest.raises(ExperimentError, match="in no folder named after a task of RULER"):
        files(str(folder))


def test_two_files_of_a_task_are_refused(folder):
    path = folder / str(LENGTH) / "data" / "qa_1" / "validation.jsonl"
    (path.parent / "test.jsonl").write_bytes(path.read_bytes())
    with pytest.raises(ExperimentError, match="are both qa_1 at 512"):
        files(str(folder))


def experiment(folder, **changes):
    metrics = {"ruler": {"files": str(folder), **changes}}
    return parse({"model": "strand", "lengths": [LENGTH], "methods": ["none"], "metrics": metrics}, "here")


def test_a_recorded_experiment_opens_no_file(folder):
    raw = experiment(folder).resolved()
    assert [(each["task"], each["samples"]) for each in raw["metrics"]["ruler"]["held"]] == [
        ("niah_multiquery", 3),
        ("qa_1", 3),
    ]
    raw["metrics"]["ruler"]["files"] = str(folder / "nowhere")
    options = stored(raw).options("ruler")
    assert METRIC.asks(RULER, options, LENGTH, LENGTH).count == len(METRIC.facts(options, LENGTH, 0)) == 6
    assert METRIC.asks(RULER, options, 2 * LENGTH, LENGTH) is None


def test_files_that_change_are_another_experiment_and_never_scored_as_the_old(folder, material):
    before = experiment(folder)
    write(folder, lambda text: [0], "vt", 30, ["AB"])
    assert experiment(folder) != before
    with pytest.raises(ExperimentError, match="is not what it was when this experiment began"):
        METRIC.prompts(before.options("ruler"), material, LENGTH)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({"task": "longbench"}, "is no task of RULER"),
        ({"samples": 10**9}, "less than or equal to 10000"),
        ({"sha256": "../../etc/passwd"}, "match pattern"),
    ],
)
def test_a_forged_record_is_refused(folder, held, why):
    raw = experiment(folder).resolved()
    raw["metrics"]["ruler"]["held"][0] |= held
    with pytest.raises(ValueError, match=why):
        stored(raw)
