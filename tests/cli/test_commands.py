"""What each command prints, where, and with which exit code."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sqlite3

import pytest
import torch

from ropewalk.execution import run as running
from ropewalk.execution import worker
from ropewalk.methods import make_params, registered, resolve
from ropewalk.models import ModelSpec, read_geometry
from ropewalk.rope import RopeGeometry
from ropewalk.terminal import csv_text

GEOMETRY = ("--rotary-dim", 16, "--rope-theta", 10000, "--window", 128)
ROW_KEYS = [
    "method",
    "params",
    "length",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "status",
    "reason",
    "fingerprint",
]


class TestMethods:
    def test_json_has_every_method_with_its_parameters(self, ropewalk):
        said = ropewalk("methods", "--json")
        assert (said.code, said.err) == (0, "")
        found = {method["name"]: method for method in json.loads(said.out)}
        assert list(found) == list(registered())
        yarn = {parameter["name"]: parameter for parameter in found["yarn"]["parameters"]}
        assert yarn["factor"]["required"] is True
        assert yarn["beta_fast"]["default"] == 32.0
        assert found["yarn"]["paper"]

    def test_the_table_names_them_all(self, ropewalk):
        said = ropewalk("methods")
        assert said.code == 0
        for name in registered():
            assert name in said.out


class TestRotation:
    def test_json_is_the_rotation(self, ropewalk):
        said = ropewalk(
            "rotation", "yarn", *GEOMETRY, "--length", 512, "-p", "factor=4", "-p", "beta_fast=16", "--json"
        )
        assert (said.code, said.err) == (0, "")
        found = json.loads(said.out)
        assert list(found) == ["inv_freq", "attention_factor", "softmax_factor", "fingerprint"]
        geometry = RopeGeometry(rotary_dim=16, rope_theta=10000.0, max_position_embeddings=128)
        expected = resolve(geometry, "yarn", make_params("yarn", {"factor": 4, "beta_fast": 16}), 512).rotation
        assert found["inv_freq"] == expected.inv_freq.tolist()
        assert found["attention_factor"] == expected.attention_factor == 0.1 * math.log(4) + 1
        assert found["fingerprint"] == expected.fingerprint

    def test_values_are_yaml(self, ropewalk):
        arguments = ("-p", "factor=auto", "-p", "truncate=false", "-p", "original_max_position_embeddings=64")
        assert ropewalk("rotation", "yarn", *GEOMETRY, "--length", 512, *arguments).code == 0

    def test_of_a_model_with_another_window(self, ropewalk, tiny):
        own = ropewalk("rotation", "yarn", "--model", tiny, "--length", 512, "-p", "factor=auto", "--json")
        other = ropewalk(
            "rotation", "yarn", "--model", tiny, "--window", 256, "--length", 512, "-p", "factor=auto", "--json"
        )
        assert json.loads(own.out)["attention_factor"] == pytest.approx(0.1 * math.log(4) + 1)
        assert json.loads(other.out)["attention_factor"] == pytest.approx(0.1 * math.log(2) + 1)

    def test_the_table_has_a_row_per_pair(self, ropewalk):
        said = ropewalk(
            "rotation", "proportional", *GEOMETRY, "--length", 512, "-p", "factor=2", "-p", "partial_rotary_factor=0.5"
        )
        assert said.code == 0
        assert len(said.out.splitlines()) == 1 + 8
        assert "lambda inf" in said.out  # pairs that do not turn

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("yran", "--length", 8), "there is no method 'yran'; did you mean 'yarn'"),
            (("yarn", "--length", 8, *GEOMETRY), "yarn: factor is missing"),
            (("yarn", "--length", 8, *GEOMETRY, "-p", "factor=.nan"), "yarn: factor=nan"),
            (("yarn", "--length", 8, *GEOMETRY, "-p", "factor=0.5"), "yarn: factor=0.5"),
            (
                ("yarn", "--length", 8, *GEOMETRY, "-p", "factr=2"),
                "yarn: 'factr' is not a parameter; did you mean 'factor'",
            ),
            (
                ("yarn", "--length", 8, *GEOMETRY, "-p", "factor"),
                "-p 'factor': must be key=value, each key once; such as -p factor=2.",
            ),
            (
                ("yarn", "--length", 8, *GEOMETRY, "-p", "factor=2", "-p", "factor=4"),
                "-p 'factor=4': must be key=value, each key once; such as -p factor=2.",
            ),
            (("yarn", "--length", 8, *GEOMETRY, "-p", "factor=["), "-p factor: not valid YAML at line 1"),
            (
                ("linear", "--length", 8, "-p", "factor=2"),
                "rotation linear: takes --model MODEL, or --rotary-dim, --rope-theta and --window without one",
            ),
            (
                ("linear", "--length", 8, "--model", "m", "--rotary-dim", 8, "-p", "factor=2"),
                "--model m already gives rotary_dim and rope_theta; leave one of them out.",
            ),
            (("linear", "--length", 0, *GEOMETRY, "-p", "factor=2"), "Invalid value for '--length': "),
            (("linear", "--length", "x", *GEOMETRY, "-p", "factor=2"), "Invalid value for '--length'"),
            (
                ("linear", *GEOMETRY, "-p", "factor=2"),
                "Missing option '--length'; add it, `ropewalk rotation --help` shows how.",
            ),
        ],
    )
    def test_refusals(self, refused, arguments, expected):
        assert refused("rotation", *arguments).startswith(expected)


class TestInspect:
    def test_json(self, ropewalk, tiny):
        found = json.loads(ropewalk("inspect", tiny, "--json").out)
        assert found["window"] == 128
        assert found["window_source"] == "max_position_embeddings"
        assert (found["rotary_dim"], found["rope_theta"], found["rope_type"]) == (16, 10000.0, "default")
        shipped = resolve(read_geometry(ModelSpec.parse(str(tiny))), "none", make_params("none", {}), 128).rotation
        assert found["fingerprint"] == shipped.fingerprint
        assert found["wavelengths"] == pytest.approx([2 * math.pi * 10000 ** (i / 8) for i in range(8)])
        assert found["dimensions_below_one_turn"] == [i for i in range(8) if 2 * math.pi * 10000 ** (i / 8) > 128]

    def test_text(self, ropewalk, tiny):
        said = ropewalk("inspect", tiny)
        assert said.code == 0
        assert "window 128 tokens (max_position_embeddings)" in said.out
        assert "5 of 8 pairs never complete a turn in the window (from pair 3 on)" in said.out

    def test_no_model(self, refused):
        assert refused("inspect", "/no/such").startswith("model '/no/such' is no directory and no .gguf file; ")


class TestPlan:
    def test_json(self, ropewalk, file):
        said = ropewalk("plan", file(), "--json", "--no-probe")
        assert (said.code, said.err) == (0, "")
        found = json.loads(said.out)
        assert found["configurations"] == ["none", "yarn factor=2", "linear factor=2"]
        assert (found["cells"], found["measurements"]) == (3 * 2 * 3 + 2, 3 * 2 * 3 + 2)
        assert (found["rotations"], found["documents"]) == (3, 3)
        assert (found["passes"], found["tokens"]) == (9 + 12, 9 * 256 + 12 * 64)
        assert found["passes_done"] == 0
        assert found["extends_nothing"] is False

    def test_what_is_done_is_counted(self, ropewalk, finished_run, base_file):
        assert (
            json.loads(ropewalk("plan", base_file, "--out", finished_run, "--json").out)["passes_done"] == 9 + 12 + 18
        )
        assert ", 39 passes done" in " ".join(ropewalk("plan", base_file, "--out", finished_run).out.split())

    def test_another_experiment_has_nothing_of_it(self, refused, file, finished_run):
        assert refused("plan", file(seed=9), "--out", finished_run) == (
            f"{finished_run}: holds another experiment, so none of this one is done there; name its directory."
        )


class TestRun:
    def test_results_are_stored_and_progress_is_on_stderr(self, ropewalk, file, tmp_path):
        out = tmp_path / "out"
        said = ropewalk("run", file(), "--out", out)
        assert (said.code, said.out) == (0, "")
        assert "scoring documents, " in said.err
        *_, cells, page, choice = said.err.splitlines()
        assert cells == f"20 cells in {tmp_path / 'out'}"
        assert page.startswith(f"next: ropewalk report {tmp_path / 'out'}")
        assert choice.startswith(f"next: ropewalk recommend {tmp_path / 'out'} --length 256")
        again = ropewalk("run", file(), "--out", out)
        assert again.code == 0
        assert "scoring documents" not in again.err

    @pytest.mark.parametrize("lengths", [("--lengths", "96,128"), ("--lengths", "128", "--lengths", " 96 ")])
    def test_lengths_and_model_replace_those_of_the_file(self, ropewalk, file, tmp_path, lengths, tiny_bos):
        path = file(lengths=None, model=None)
        said = ropewalk("run", path, "--out", tmp_path / "out", "--model", tiny_bos, *lengths)
        assert said.code == 0, said.err
        rows = json.loads(ropewalk("results", tmp_path / "out", "--json").out)
        assert {row["length"] for row in rows} == {96, 128}
        db = sqlite3.connect(tmp_path / "out" / "run.sqlite")
        source, model = (
            json.loads(db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])
            for key in ("source", "model")
        )
        db.close()
        assert source == path.read_text(encoding="utf-8")
        assert model["id"] == str(tiny_bos)

    def test_a_failed_cell_is_exit_code_1(self, ropewalk, file, tmp_path, monkeypatch):
        stock = worker.split

        def limited(model):
            parts = stock(model)

            def body(ids_BT, *more):
                if ids_BT.shape[1] > 200:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return parts.body(ids_BT, *more)

            return dataclasses.replace(parts, body=body)

        monkeypatch.setattr(worker, "split", limited)
        said = ropewalk("run", file(), "--out", tmp_path / "out")
        assert (said.code, said.out) == (1, "")
        flat = " ".join(said.err.split())
        assert "none @ 256 perplexity: out_of_memory: a single row of 256 tokens did not fit in memory" in flat
        rows = json.loads(ropewalk("results", tmp_path / "out", "--json").out)
        assert {row["status"] for row in rows} == {"ok", "out_of_memory"}
        monkeypatch.undo()

    def test_too_few_key_tokens_are_a_finding_and_no_failure(self, ropewalk, file, tmp_path):
        metrics = {"longppl": {"evaluator": "self", "trunc_len": 32, "stride": 16, "alpha": 30.0}}
        assert ropewalk("run", file(metrics=metrics), "--out", tmp_path / "out").code == 0
        rows = json.loads(ropewalk("results", tmp_path / "out", "--json").out)
        assert {row["status"] for row in rows} == {"too_few_key_tokens"}
        assert "too_few_key_tokens" in ropewalk("results", tmp_path / "out").out

    def test_interrupted(self, ropewalk, file, tmp_path, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(running.Session, "run", interrupted)
        said = ropewalk("run", file(), "--out", tmp_path / "out")
        assert (said.code, said.out) == (130, "")
        assert " ".join(said.err.split()).endswith(
            "ropewalk: interrupted; finished work is kept, the same command goes on from there."
        )
        monkeypatch.undo()
        assert ropewalk("run", file(), "--out", tmp_path / "out").code == 0

    def test_a_full_disk(self, ropewalk, file, tmp_path, monkeypatch):
        import errno
        import os

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        said = ropewalk("run", file(), "--out", tmp_path / "out")
        assert (said.code, said.out) == (2, "")
        assert said.err.splitlines()[-1] == (
            f"ropewalk: {tmp_path / 'out'}: cannot be written (No space left on device); free space or choose another "
            "directory with --out, then run again: finished work is kept."
        )

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("preset:grid-127",), "preset:grid-127: there is no such preset; did you mean preset:grid-172?"),
            (("preset:",), "preset:: there is no such preset; there are: demo, "),
            (("/no/such.yaml",), "/no/such.yaml: cannot read this experiment file (No such file or directory); "),
            (("preset:demo", "--lengths", "1e3"), "--lengths 1e3: must be whole numbers of tokens, such as 2048,4096"),
            (("preset:demo", "--lengths", "128,"), "--lengths 128,: must be whole numbers of tokens"),
            (("preset:demo", "--lengths", "²"), "--lengths ²: must be whole numbers of tokens"),
            (("preset:demo", "--lengths", "9" * 5000), "--lengths 999"),
            (("preset:demo", "--lengths", "0"), "--lengths 0: must be whole numbers of tokens, such as 2048,4096"),
            (("preset:demo", "--lengths", "64,64"), "preset:demo: lengths=[64, 64]: holds the same length twice"),
            (("preset:demo", "--model", "/no/such"), "model '/no/such' is no directory and no .gguf file; "),
            ((), "Missing argument 'file'; add it, `ropewalk run --help` shows how."),
            (("a", "b"), "Got unexpected extra argument"),
            (("a", "--xyz"), "No such option: --xyz"),
        ],
    )
    def test_refusals(self, refused, tmp_path, arguments, expected):
        assert refused("run", *arguments, "--out", tmp_path / "out").startswith(expected)
        assert not (tmp_path / "out").exists()

    def test_unknown_keys_and_methods_of_a_file(self, refused, file, tmp_path):
        assert "unknown key lenght=5; did you mean lengths?" in refused("run", file(lenght=5), "--out", tmp_path / "o")
        assert refused("run", file(methods={"yran": {}}), "--out", tmp_path / "o").startswith(
            "there is no method 'yran'; did you mean 'yarn'"
        )
        assert "did you mean 'factor'" in refused("run", file(methods={"yarn": {"factr": 2}}), "--out", tmp_path / "o")

    def test_unknown_command(self, refused):
        assert refused("rnu").startswith("No such command 'rnu'")

    def test_without_a_command_there_is_help(self, ropewalk):
        said = ropewalk()
        assert said.code == 2
        assert "Usage: ropewalk" in said.out + said.err
        assert "ropewalk: \n" not in said.err


class TestResults:
    def test_json(self, ropewalk, finished_run):
        said = ropewalk("results", finished_run, "--json")
        assert (said.code, said.err) == (0, "")
        rows = json.loads(said.out)
        assert len(rows) == 32
        assert all(list(row) == ROW_KEYS for row in rows)

    def test_csv_has_the_same_rows(self, ropewalk, finished_run):
        rows = json.loads(ropewalk("results", finished_run, "--json").out)
        said = ropewalk("results", finished_run, "--csv")
        found = list(csv.DictReader(io.StringIO(said.out)))
        assert list(found[0]) == ROW_KEYS
        for row, other in zip(rows, found, strict=True):
            assert json.loads(other["params"]) == row["params"]
            assert float(other["value"]) == row["value"]
            assert other["reason"] == (row["reason"] or "")

    def test_the_table_has_metrics_side_by_side(self, ropewalk, finished_run):
        lines = ropewalk("results", finished_run).out.splitlines()
        assert lines[0].split() == [
            "configuration",
            "length",
            "perplexity",
            "tail",
            "bits_per_byte",
            "longppl",
            "passkey",
        ]
        assert len(lines) == 1 + 3 * 2 + 2
        assert lines[-1].split()[:2] == ["truncate", "256"]

    def test_what_is_not_measured_yet_is_said(self, ropewalk, finished_copy):
        db = sqlite3.connect(finished_copy / "run.sqlite")
        with db:
            db.execute("DELETE FROM cells WHERE metric = 'passkey'")
        db.close()
        said = ropewalk("results", finished_copy, "--json")
        assert said.code == 0
        assert " ".join(said.err.split()) == (
            "6 of 32 cells are not measured yet; "
            f"`ropewalk.sweep` with the same arguments and out='{finished_copy}' goes on where it stopped."
        )

    def test_no_run(self, refused, tmp_path):
        assert refused("results", tmp_path) == (
            f"{tmp_path}: holds no run (no run.sqlite); name a directory made by `ropewalk run`."
        )

    def test_text_that_a_spreadsheet_would_run(self):
        rows = [{"a": "=1+1", "b": {"x": 1}, "c": -2.5, "d": "@x", "e": None, "f": 'say "hi", then'}]
        assert csv_text(rows) == 'a,b,c,d,e,f\n\'=1+1,"{""x"": 1}",-2.5,\'@x,,"say ""hi"", then"\n'
        assert csv_text([]) == ""


class TestVerify:
    def test_an_honest_run(self, ropewalk, finished_run):
        said = ropewalk("verify", finished_run, "--cells", 2)
        assert (said.code, said.err) == (0, "")
        verdict, noticed = said.out.splitlines()
        assert verdict == "32 of 32 cells recomputed from raw outcomes, 2 passes and trials run again: no mismatches"
        assert noticed == (
            "1 of 21 passes again would notice a change of 1e-05 nats/token in one configuration with probability "
            "0.14, in a single pass with 0.048 (this device reproduces the run's canary to the last bit); --cells 39 "
            "would notice it for certain."
        )

    def test_without_the_model(self, ropewalk, finished_run):
        said = ropewalk("verify", finished_run)
        assert said.err == "No pass was run again: --cells K does, with the model and documents that the run names.\n"
        assert said.out == "32 of 32 cells recomputed from raw outcomes, 0 passes and trials run again: no mismatches\n"

    def test_an_altered_value_is_exit_code_1(self, ropewalk, finished_copy):
        db = sqlite3.connect(finished_copy / "run.sqlite")
        with db:
            db.execute("UPDATE cells SET value = 12.5 WHERE metric = 'tail' AND label = 'none' AND length = 192")
        db.close()
        said = ropewalk("verify", finished_copy)
        assert said.code == 1
        assert said.out.endswith(": 1 mismatch\n")
        assert "none @ 192 tail: value: stored 12.5, recomputed " in said.err

    def test_an_altered_raw_file_is_exit_code_1(self, ropewalk, finished_copy):
        path = sorted((finished_copy / "nll").iterdir())[0]
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        said = ropewalk("verify", finished_copy)
        assert said.code == 1
        assert said.out == "0 of 32 cells recomputed from raw outcomes, 0 passes and trials run again: 1 mismatch\n"

    def test_bad_counts(self, refused, finished_run):
        assert refused("verify", finished_run, "--cells", -1).startswith("Invalid value for '--cells'")


def test_what_a_cut_prompt_holds_is_shown_to_people_and_no_value(ropewalk, finished_run):
    said = ropewalk("results", finished_run, "--metric", "passkey", "--method", "truncate", "--format", "md").out
    assert [line for line in said.splitlines() if "truncate" in line] == [
        "| truncate | 192 | holds 3 of 3 |",
        "| truncate | 256 | holds 1 of 3 |",
    ]
    rows = json.loads(ropewalk("results", finished_run, "--json").out)
    assert not [row for row in rows if (row["method"], row["metric"]) == ("truncate", "passkey")]


def test_a_run_that_kept_fewer_facts_of_prompts_is_gone_on_with_and_verified(ropewalk, finished_copy):
    with sqlite3.connect(finished_copy / "run.sqlite") as database:
        database.execute("UPDATE prompts SET facts = json_remove(facts, '$.key_at')")
        database.execute("DELETE FROM cells WHERE metric = 'passkey'")
        database.execute("DELETE FROM answers WHERE rowid % 2")
    assert ropewalk("resume", finished_copy).code == 0
    assert ropewalk("verify", finished_copy, "--cells", 3).code == 0
    assert "holds" not in ropewalk("results", finished_copy, "--format", "md").out
    with sqlite3.connect(finished_copy / "run.sqlite") as database:
        database.execute("UPDATE prompts SET facts = json_set(facts, '$.key', '10000')")
    assert ropewalk("verify", finished_copy, "--cells", 3).code == 1
