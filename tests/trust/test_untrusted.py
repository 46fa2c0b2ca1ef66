"""Files from others run no code, reach no other file, and load no network."""

from __future__ import annotations

import json
import socket
import sqlite3

import huggingface_hub
import pytest
import transformers
import yaml
from harness import run

import ropewalk as rw
from ropewalk.cli import app, err
from ropewalk.errors import ExperimentError, ExportError, ModelError, RopewalkError, StoreError
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment import schema
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.export.choice import recommended
from ropewalk.report.write import report
from ropewalk.terminal import csv_text, results_tables, run_app


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


class TestOffline:
    def test_a_run_its_report_and_its_verification_open_no_socket(
        self, base_experiment, tmp_path, no_network, monkeypatch
    ):
        monkeypatch.setattr("ropewalk.report.write.png", lambda *_: b"")  # drawing takes seconds
        found = run(base_experiment | {"metrics": {"perplexity": {}, "passkey": {"trials": 2}}}, tmp_path / "run")
        report(found.directory)
        assert verify_rows(found.directory)[1] == []
        assert verify_passes(found.directory, 1) == (1, [])

    @pytest.mark.parametrize("name", ["strand"])
    def test_built_in_models_open_no_socket(self, name, no_network):
        assert rw.load(name).provenance.id == name

    def test_offline_is_kept_for_names_of_the_hub(self, tmp_path, monkeypatch, no_network):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(ModelError, match="is not in the local cache and the Hugging Face Hub cannot be reached"):
            rw.load("nobody/nothing")

    def test_the_test_would_notice(self, no_network):
        with pytest.raises(AssertionError, match="the network was asked"):
            socket.create_connection(("192.0.2.1", 80), timeout=1)


class TestCodeOfOthers:
    def test_trust_is_off_recorded_and_passed_on_only_if_asked(
        self, base_experiment, finished_run, tmp_path, monkeypatch
    ):
        assert Run.open(finished_run).meta["model"]["trust_remote_code"] is False
        asked = []
        stock = transformers.AutoConfig.from_pretrained

        def config(*given, **options):
            asked.append(options["trust_remote_code"])
            return stock(*given, **options)

        monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", config)
        model = {"id": base_experiment["model"], "trust_remote_code": True}
        found = run(base_experiment | {"model": model, "metrics": {"perplexity": {}}}, tmp_path / "run")
        assert found.meta["model"]["trust_remote_code"] is True
        assert found.meta["experiment"]["model"]["trust_remote_code"] is True
        assert set(asked) == {True}
        asked.clear()
        self.refused(lambda: verify_passes(found.directory, 1), "verify it with --cells 0")
        self.refused(lambda: recommended(found.directory, 256), "export METHOD with --model DIRECTORY")
        assert asked == []  # not even the configuration is read
        assert verify_rows(found.directory)[1] == []

    def refused(self, call, remedy):
        with pytest.raises(RopewalkError) as refusal:
            call()
        assert "a run directory cannot consent to code of others that runs here" in str(refusal.value)
        assert remedy in str(refusal.value)

    @pytest.mark.parametrize("part", [{"adapter": "org/lora"}, {"quantization": {"quant_method": "bitsandbytes"}}])
    def test_a_model_that_is_more_than_a_checkpoint_is_not_exported_from_its_run(self, run_copy, part):
        with sqlite3.connect(run_copy / "run.sqlite") as db:
            ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'identity'").fetchall()
            identity = json.loads(text)
            identity["experiment"]["model"] = {"id": identity["experiment"]["model"]} | part
            db.execute("UPDATE meta SET value = ? WHERE key = 'identity'", [json.dumps(identity)])
        ((name, value),) = part.items()
        with pytest.raises(ExportError) as refusal:
            recommended(run_copy, 256)
        assert str(refusal.value) == (
            f"{run_copy}: its model has {name}={value!r}, which no configuration holds; merge or save that model into "
            "a directory, and export METHOD with --model DIRECTORY."
        )

    def test_the_flag_set_in_a_record_alone_runs_nothing(self, run_copy):
        with sqlite3.connect(run_copy / "run.sqlite") as db:
            ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'identity'").fetchall()
            identity = json.loads(text)
            identity["experiment"]["model"] = {"id": identity["experiment"]["model"], "trust_remote_code": True}
            db.execute("UPDATE meta SET value = ? WHERE key = 'identity'", [json.dumps(identity)])
        db.close()
        self.refused(lambda: verify_passes(run_copy, 1), "verify it with --cells 0")

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TRIGGER t AFTER INSERT ON cells BEGIN UPDATE cells SET value = 1; END",
            "CREATE VIEW v AS SELECT * FROM cells",
        ],
    )
    def test_triggers_and_views_are_refused(self, base_experiment, run_copy, statement):
        with sqlite3.connect(run_copy / "run.sqlite") as db:
            db.execute(statement)
        db.close()
        for call in (lambda: Run.open(run_copy), lambda: run(base_experiment, run_copy)):
            with pytest.raises(StoreError, match=r"holds the (trigger 't'|view 'v'), which no run does"):
                call()


class TestBombs:
    def test_aliases_are_refused_before_they_grow(self):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
        with pytest.raises(ExperimentError, match=r"at line 2, column \d+: aliases \(\*name\) are not taken"):
            schema.load_yaml("\n".join(lines), "bomb")

    @pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 10_000, "- " * 20_000, "1" * 190_000, "0x" + "f" * 190_000,
                  "1" + ":01" * 60_000, "1" + ":01" * 60_000 + ".5"])  # fmt: skip
    def test_depth_and_digits(self, text):
        with pytest.raises(ExperimentError) as refusal:
            schema.parse(schema.load_yaml(text, "bomb"), "bomb")
        assert len(str(refusal.value)) < 400

    def test_size(self, tmp_path):
        (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * schema.MAX_FILE_BYTES)
        with pytest.raises(ExperimentError, match=r"experiment file \(it has more than 200000 bytes\)"):
            schema.read(tmp_path / "big.yaml")

    def test_code_in_tags(self):
        for tag in ("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/module:os"):
            with pytest.raises(ExperimentError, match="could not determine a constructor for the tag"):
                schema.load_yaml(tag, "tag")


class TestOutput:
    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
    def test_formulas_are_text_in_csv(self, start):
        text = f'{start}HYPERLINK("http://x")'
        assert csv_text([{"reason": text}]).splitlines()[1].lstrip('"').startswith("'")

    def test_names_are_no_markup_and_no_terminal_codes(self, tmp_path, capsys, monkeypatch):
        row = {"label": "[/red]\x1b[2J", "length": 1, "metric": "[bold]x", "value": 1.0, "ci_low": None}
        (table,) = results_tables([row], 1000)
        assert table.columns[2].header == "\\[bold]x"
        monkeypatch.setattr("sys.argv", ["ropewalk", "results", str(tmp_path / "a\n\x1b[2Jb")])
        assert run_app(app, err) == 2
        said = capsys.readouterr().err
        assert "\x1b" not in said
        assert said.count("\n") == 1
        assert "a\\n\\x1b[2Jb: holds no run" in said


class TestExitCodes:
    """0 and 1 are those of runs, 130 that of a stop (test_stopped); everything a user gets wrong is 2."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ["run", "no.yaml", "--out", "x"],
            ["run", "preset:demo"],
            ["run", "preset:demo", "--out", "x", "--lengths", "-5"],
            ["results", "nowhere"],
            ["report", "nowhere"],
            ["verify", "nowhere"],
            ["recommend", "nowhere", "--length", "9"],
            ["compare", "nowhere", "nowhere"],
            ["inspect", "/no/model"],
            ["plan", "no.yaml"],
            ["rotation", "yarn", "--length", "8"],
            ["nonsense"],
        ],
    )
    def test_two(self, arguments, monkeypatch, tmp_path, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["ropewalk", *arguments])
        assert run_app(app, err) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("ropewalk: ")
        assert list(tmp_path.iterdir()) == []

    def test_zero_and_one(self, base_experiment, monkeypatch, tmp_path, capsys):
        file = tmp_path / "e.yaml"
        asked = base_experiment | {"metrics": {"perplexity": {}}, "lengths": [64]}
        file.write_text(yaml.safe_dump(asked), encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["ropewalk", "run", str(file), "--out", str(tmp_path / "run")])
        assert run_app(app, err) == 0
        with sqlite3.connect(tmp_path / "run" / "run.sqlite") as db:
            db.execute("UPDATE cells SET value = value + 1")
        db.close()
        monkeypatch.setattr("sys.argv", ["ropewalk", "verify", str(tmp_path / "run")])
        assert run_app(app, err) == 1
        capsys.readouterr()
