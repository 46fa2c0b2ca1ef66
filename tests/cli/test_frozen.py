"""The command line as documented: scripts rely on it, so a change here is a decision and never an accident."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import typer

from ropewalk.cli import app

FROZEN = {
    "demo": {"--out"},
    "methods": {"--json"},
    "rotation": {"METHOD", "--length", "--model", "--rotary-dim", "--rope-theta", "--window", "-p", "--json"},
    "inspect": {"MODEL", "--json"},
    "init": {"MODEL", "--length"},
    "schema": set(),
    "plan": {
        "FILE",
        "--model",
        "--lengths",
        "--set",
        "--out",
        "--memory",
        "--precision",
        "--no-probe",
        "--show",
        "--json",
    },
    "run": {
        "FILE",
        "--out",
        "--model",
        "--lengths",
        "--set",
        "--exact",
        "--workers",
        "--gpus-per-model",
        "--ray",
        "--executor",
        "--patience",
        "--shard",
        "--until",
        "--precision",
        "--budget",
        "--reuse",
        "--log",
    },
    "resume": {"DIRECTORY"},
    "results": {
        "DIRECTORY",
        "--metric",
        "--length",
        "--method",
        "--sort",
        "--no-ci",
        "--format",
        "--json",
        "--csv",
        "--partial",
    },
    "merge": {"DIRECTORIES", "--out"},
    "status": {"DIRECTORY", "--json"},
    "report": {"DIRECTORY", "--partial"},
    "index": {"DIRECTORY"},
    "view": {"DIRECTORY", "--port"},
    "recommend": {
        "DIRECTORY",
        "--length",
        "--max-short-cost",
        "--by",
        "--min-found",
        "--target",
        "--partial",
        "--json",
    },
    "export": {
        "SOURCE",
        "--model",
        "-p",
        "--target",
        "--length",
        "--out",
        "--gguf",
        "--check",
        "--endpoint",
        "--force",
        "--partial",
        "--with-code",
    },
    "diagnose": {
        "SOURCE",
        "--model",
        "--method",
        "-p",
        "--file",
        "--length",
        "--target",
        "--against",
        "--json",
    },
    "golden": {"--out"},
    "tasks": set(),
    "compare": {"DIRECTORY_A", "DIRECTORY_B", "--json"},
    "verify": {"DIRECTORY", "--cells"},
    "search": set(),
    "tune": {
        "FILE",
        "--length",
        "--out",
        "--budget",
        "--steps",
        "--seed",
        "--repeats",
        "--what",
        "--max-short-cost",
        "--near",
        "--workers",
        "--gpus-per-model",
        "--plan",
    },
}


def commands() -> dict[str, set[str]]:
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        names = {
            name.upper().replace("-", "_") if not name.startswith("-") else name
            for parameter in command.params
            for name in ([parameter.name] if parameter.param_type_name == "argument" else parameter.opts)
        }
        found[name] = names - {"--help"}
    return found


def test_commands_and_options_are_the_documented_ones():
    assert commands() == FROZEN


def test_every_command_says_what_it_does(ropewalk):
    for name in commands():
        said = ropewalk(name, "--help")
        assert (said.code, said.err) == (0, "")
        assert f"Usage: ropewalk {name}" in " ".join(said.out.split())


SCRIPT = """
import json, sys
from ropewalk.cli import app, err
from ropewalk.terminal import run_app
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["ropewalk", *arguments]
    assert run_app(app, err) == 0, arguments
print(json.dumps(list(sys.modules)))
"""


def imported_by(*commands: list[str]) -> set[str]:
    """What a fresh Python has imported after these commands."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_no_torch_until_it_is_needed():
    """`ropewalk methods`, `rotation` without a model and `--help` start at once."""
    geometry = ["--rotary-dim", "64", "--rope-theta", "1e4", "--window", "2048"]
    found = imported_by(
        ["--help"],
        ["methods"],
        ["methods", "--json"],
        ["rotation", "yarn", *geometry, "--length", "4096", "-p", "factor=2", "--json"],
    )
    assert not {"torch", "transformers", "pandas", "scipy", "altair", "safetensors"} & found


def test_no_torch_to_read_a_run(finished_run):
    found = imported_by(["results", str(finished_run)], ["results", str(finished_run), "--json"])
    assert not {"torch", "transformers"} & found


def test_the_console_script_itself():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["ropewalk"].split(":")
    command = [sys.executable, "-c", f"from {module} import {function}; {function}()"]
    done = subprocess.run([*command, "rotation", "yran", "--length", "8"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ropewalk: there is no method 'yran'; did you mean 'yarn'")
