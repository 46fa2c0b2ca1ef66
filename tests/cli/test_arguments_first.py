"""What is refused before anything slow is imported, and the options that all commands share."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ropewalk import __version__
from ropewalk.experiment.described import json_schema

SCRIPT = """
import json, sys
from ropewalk.cli import app, err
from ropewalk.terminal import run_app
sys.argv = ["ropewalk", *json.loads(sys.argv[1])]
assert run_app(app, err) == 2
print("torch" in sys.modules or "transformers" in sys.modules)
"""
PASTED = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "rope_theta": 1e6}
MEANT = (
    "this is a rope_scaling block of a Hugging Face configuration; "
    'write methods: {yarn: {"factor": 4.0, "original_max_position_embeddings": 4096}}.'
)


@pytest.mark.parametrize(
    "change",
    [{"methods": {"yran": {}}}, {"methods": {"yarn": {"factr": 2}}}, {"model": {"id": "strand", "revison": "x"}}],
    ids=str,
)
@pytest.mark.parametrize("command", [("plan",), ("run", "--out", "x"), ("tune", "--length", "512", "--out", "x")])
def test_a_typo_is_refused_without_torch(file, command, change):
    verb, *options = command
    arguments = json.dumps([verb, str(file(**change)), *options])
    done = subprocess.run([sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert "did you mean" in done.stderr


def test_a_misspelt_key_is_said_before_the_one_that_it_leaves_missing(refused, tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("model: strand\nlenghts: [64]\nmethods: [none]\nmetrics: {perplexity: {}}\n")
    assert refused("plan", path) == f"{path}: unknown key lenghts=[64]; did you mean lengths?"


@pytest.mark.parametrize("change", [{"methods": PASTED}, {"methods": {"yarn": PASTED}}, {"rope_scaling": PASTED}])
def test_a_pasted_block_is_translated(refused, file, change):
    assert refused("plan", file(**change)).endswith(MEANT)


def test_the_schema_is_printed_as_json(ropewalk):
    said = ropewalk("schema")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json_schema()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("view", "x", "--port", 70000), "'--port': '70000' is too large; write 65535 or less."),
        (("view", "x", "--port", "http"), "'--port': 'http' must be a whole number; write digits alone."),
        (("verify", "x", "--cells", -1), "'--cells': '-1' is too small; write 0 or more."),
    ],
)
def test_an_option_out_of_bounds_says_its_value(refused, arguments, said):
    assert refused(*arguments).startswith(f"Invalid value for {said}")


def test_memory_needs_a_unit(refused):
    assert refused("plan", "preset:demo", "--memory", 12).startswith("--memory '12': must be an amount of memory")


def test_version_and_short_help(ropewalk):
    assert ropewalk("--version") == (0, f"ropewalk {__version__}\n", "")
    said = ropewalk("plan", "-h")
    assert "Example: ropewalk plan preset:grid-172 --no-probe" in " ".join(said.out.split())


def test_debug_shows_the_traceback_and_what_was_mapped(ropewalk, tmp_path):
    missing = tmp_path / "none.yaml"
    plain, full = ropewalk("plan", missing), ropewalk("--debug", "plan", missing)
    assert (plain.code, full.code) == (2, 2)
    assert "Traceback" not in plain.err
    assert "FileNotFoundError" in full.err
    assert full.err.endswith(plain.err)


def test_quiet_leaves_errors(ropewalk, file):
    assert ropewalk("-q", "plan", file(model="./nowhere")).err.startswith("ropewalk: model './nowhere' is no directory")
    noisy, quiet = ropewalk("verify", "nowhere"), ropewalk("-q", "verify", "nowhere")
    assert noisy.err == quiet.err


def test_quiet_silences_notes(ropewalk, finished_run):
    assert ropewalk("verify", finished_run).err.startswith("No pass was run again")
    assert ropewalk("-q", "verify", finished_run).err == ""
