"""SIGTERM and Ctrl-C end a command with exit code 130, a hint, and a run that goes on from there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver

import harness
import pytest
import yaml

from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows

HINT = "ropewalk: interrupted; finished work is kept, the same command goes on from there."


@pytest.fixture(scope="module")
def processes():
    """A server that has everything imported forks the commands."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness", "transformers.models.llama.modeling_llama"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 does not tell the server
        forkserver.ensure_running()
    return context


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["between passes", "in a transaction"])
def test_exit_code_130_and_a_run_that_goes_on(processes, base_experiment, finished_run, tmp_path, sent, moment):
    file, out = tmp_path / "experiment.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(base_experiment), encoding="utf-8")
    inside = processes.Event()
    arguments = (["run", str(file), "--out", str(out)], tmp_path / "stderr", moment, inside)
    process = processes.Process(target=harness.command, args=arguments)
    process.start()
    try:
        assert inside.wait(60)
        os.kill(process.pid, sent)
        process.join(60)
        assert process.exitcode == 130
    finally:
        process.kill()
        process.join()
    said = (tmp_path / "stderr").read_text(encoding="utf-8")
    assert said.splitlines()[-1] == HINT
    assert "Traceback" not in said
    assert not list(out.rglob("*.tmp"))
    assert verify_rows(out)[1] == []
    harness.run(base_experiment, out)
    assert Run.open(out).rows() == Run.open(finished_run).rows()
