"""The examples run, and the experiment files that take longer at least plan."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ropewalk.cli import app
from ropewalk.experiment import schema
from ropewalk.experiment.overview import lines, overview
from ropewalk.experiment.prepare import ask

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=quiet, check=False)


def readme_blocks() -> tuple[str, str]:
    """README's Python code, and the output that stands below it."""
    after = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1]
    code, _, rest = after.partition("```")
    return code, rest.split("```\n")[1]


def test_quickstart(tmp_path):
    done = run(sys.executable, str(EXAMPLES / "quickstart.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code, output = readme_blocks()
    assert code in (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    here, there = done.stdout.split(), output.split()
    assert len(here) == len(there)
    for printed, documented in zip(here, there, strict=True):
        assert printed == documented or agree(printed, documented), (printed, documented)


def agree(printed: str, documented: str) -> bool:
    """One decimal, on a processor with bfloat16 or without: 0.2 % covers the kernels, and no change of a formula."""
    decimal = r"\d+\.\d"
    if not (re.fullmatch(decimal, printed) and re.fullmatch(decimal, documented)):
        return False
    return abs(float(printed) - float(documented)) <= 0.1 + 0.002 * float(documented)


@pytest.fixture
def slurm(tmp_path):
    """Runs examples/slurm.sh as Slurm would, in a directory with a blank in its name; gives what it would start."""
    for name in ("ropewalk", "sbatch"):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s|" {name} "$@" >> said; echo >> said\n')
        (tmp_path / name).chmod(0o755)

    def started(*arguments: str, **variables: str) -> list[str]:
        (tmp_path / "said").unlink(missing_ok=True)
        known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": "a b", "EXPERIMENT": "x.yaml"} | variables
        subprocess.run(["bash", EXAMPLES / "slurm.sh", *arguments], cwd=tmp_path, env=known, check=True)
        return [line.rstrip("|") for line in (tmp_path / "said").read_text().splitlines()]

    return started


def test_a_slurm_array_runs_a_shard_each_and_the_first_sends_for_the_merge(slurm):
    array = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_JOB_ID": "7"}
    sent, begun = slurm(SLURM_ARRAY_TASK_ID="1", **array)
    assert sent.startswith("sbatch|--dependency=afterok:7|--array=0|")
    assert sent.endswith("slurm.sh|merge|3")
    assert begun == "ropewalk|run|x.yaml|--out|a b/shard-1|--shard|1/3"
    assert slurm(SLURM_ARRAY_TASK_ID="3", **array) == ["ropewalk|run|x.yaml|--out|a b/shard-3|--shard|3/3"]
    assert slurm("merge", "2") == ["ropewalk|merge|a b/shard-1|a b/shard-2|--out|a b/run"]
    alone = {"SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_ID": "3", "SHARDS": "8"}
    assert slurm(**alone) == ["ropewalk|run|x.yaml|--out|a b/shard-3|--shard|3/8"]


EXPERIMENTS = sorted(file for file in EXAMPLES.glob("*.yaml") if file.name != "ray_cluster.yaml")


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda path: path.name)
def test_experiment_files_plan(file):
    raw = schema.load_yaml(schema.read(file), str(file))
    if raw["model"] == "gemma-3-270m-q4_k_m.gguf":  # a file that the reader brings; smollm2 has room for its methods
        raw |= {"model": "smollm2", "lengths": [8192, 16384, 32768]}
    experiment = schema.parse(raw, str(file))
    said = lines(overview(ask(experiment), None))
    assert " distinct rotations" in said[0]
    assert not any("extends nothing" in line for line in said)


def test_the_experiment_of_the_readme_plans(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("```yaml\n")[1].partition("```")[0]
    raw = schema.load_yaml(text, "README.md") | {"model": "strand"}
    experiment = schema.parse(raw, "README.md")
    assert experiment.metrics.longppl is not None
    assert len(ask(experiment).plan.configurations) == 1 + 1 + 2 * 2 + 2


CALL = re.compile(r"(\$ )?ropewalk [a-z]")


def documented_commands() -> list[str]:
    """Every line of a code block in the README and in docs/ that calls ropewalk."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in page.read_text(encoding="utf-8").split("```")[1::2]]
    return sorted(
        {line.partition(" #")[0].strip() for block in blocks for line in block.splitlines() if CALL.match(line)}
    )


@pytest.mark.parametrize("line", documented_commands())
def test_documented_commands_have_their_options(line):
    _, name, *words = shlex.split(line.removeprefix("$ "))
    command = typer.main.get_command(app).commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    asked = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert asked <= options
