"""A wrong device, a changed model or a rotation that does not reach the layers is an error, and leaves no number."""

from __future__ import annotations

import dataclasses
import sqlite3

import numpy as np
import pytest
import torch
from harness import run, statuses

import checkpoints
import ropewalk as rw
from ropewalk.errors import ModelError, StoreError
from ropewalk.execution import canary, local, worker
from ropewalk.experiment.results import Run
from ropewalk.methods import make_params, resolve
from ropewalk.models.layout import rotary_module
from ropewalk.models.patch import patched
from ropewalk.models.reread import reread
from ropewalk.rope import Rotation


def counts(directory) -> dict[str, int]:
    db = sqlite3.connect(directory / "run.sqlite")
    found = {name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in ("passes", "answers", "cells")}
    db.close()
    return found


class TestCanary:
    def test_start_and_end_of_every_session_are_recorded_and_agree(self, run_copy, base_experiment):
        run(base_experiment, run_copy)  # a second session, with nothing to do
        record = Run.open(run_copy).meta["canary"]
        assert [(check["when"], check["difference"]) for check in record["checks"]] == [("start", 0), ("end", 0)] * 2
        assert len(record["nll"]) == record["tokens"] - 1 > 30

    def test_weights_that_change_under_way_leave_nothing(self, base_experiment, finished_run, tmp_path, monkeypatch):
        whole = local.run

        def worn(worker, chunks):
            yield from whole(worker, chunks)
            with torch.no_grad():
                worker.prepared.model.model.get_output_embeddings().weight[3] += 0.05

        monkeypatch.setattr(local, "run", worn)
        with pytest.raises(StoreError) as refusal:
            run(base_experiment, tmp_path / "run")
        assert "is 6." in str(refusal.value) or "nats/token at the end of this session" in str(refusal.value)
        assert "nothing that this session measured is kept; check the device" in str(refusal.value)
        assert counts(tmp_path / "run") == {"passes": 0, "answers": 0, "cells": 0}
        monkeypatch.undo()
        assert run(base_experiment, tmp_path / "run").rows() == Run.open(finished_run).rows()

    def test_what_earlier_sessions_measured_stays(self, base_experiment, finished_run, run_copy, monkeypatch):
        before = counts(run_copy)
        db = sqlite3.connect(run_copy / "run.sqlite")
        with db:
            db.execute("DELETE FROM answers WHERE request IN (SELECT request FROM prompts WHERE place = 1)")
        db.close()
        honest = canary.losses

        def second_time_wrong(prepared, parts, calls=[]):  # noqa: B006
            calls.append(1)
            found = honest(prepared, parts)
            return found if len(calls) == 1 else found | {"nll": [value + 0.001 for value in found["nll"]]}

        monkeypatch.setattr(canary, "losses", second_time_wrong)
        with pytest.raises(StoreError, match=r"0\.001 nats/token apart where 0\.0001 is allowed"):
            run(base_experiment, run_copy)
        assert counts(run_copy) == {"passes": before["passes"], "answers": before["answers"] * 2 // 3, "cells": 0}
        monkeypatch.undo()
        assert run(base_experiment, run_copy).rows() == Run.open(finished_run).rows()

    def test_another_device_than_the_record_says_is_noticed_before_any_pass(
        self, base_experiment, run_copy, monkeypatch
    ):
        honest = canary.losses
        monkeypatch.setattr(
            canary, "losses", lambda *both: (f := honest(*both)) | {"nll": [value + 0.001 for value in f["nll"]]}
        )
        with pytest.raises(StoreError, match="at the start of this session"):
            run(base_experiment, run_copy)

    def test_a_model_without_finite_losses_is_still_said_cell_by_cell(self, base_experiment, tmp_path, monkeypatch):
        stock = worker.split

        def spoilt(model):
            parts = stock(model)
            return dataclasses.replace(parts, body=lambda *ids: parts.body(*ids) * float("nan"))

        monkeypatch.setattr(worker, "split", spoilt)
        found = run(base_experiment | {"metrics": {"perplexity": {}}}, tmp_path / "run")
        assert statuses(found) == {"error"}


class TestRotationsThatReachTheLayers:
    @pytest.fixture
    def yarn(self, loaded):
        return resolve(loaded.geometry, "yarn", make_params("yarn", {"factor": 4}), 512).rotation

    @pytest.fixture
    def none(self, loaded):
        return resolve(loaded.geometry, "none", make_params("none", {}), 512).rotation

    def test_what_was_asked_is_seen(self, loaded, yarn, none):
        ids = torch.arange(2, 302)[None].expand(2, -1) % 380
        with torch.inference_mode(), reread(loaded.model) as right, patched(loaded.model, [yarn, none]):
            loaded.model(ids)
        assert right == {yarn, none}

    def test_under_branches_the_module_turns_nothing(self, loaded):
        raw = {"reading": "released", "original_max_position_embeddings": 128}
        scheme = resolve(loaded.geometry, "dca", make_params("dca", raw), 512).scheme
        assert scheme.rotation.attention_factor > 1
        ids = torch.arange(2, 302)[None] % 380
        with torch.inference_mode(), reread(loaded.model) as right, patched(loaded.model, scheme):
            loaded.model(ids)
        assert [seen.inv_freq.any() for seen in right] == [False]

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_a_thousandth_of_another_angle_is_noticed(self, tiny, yarn, dtype):
        model = rw.load(str(tiny), dtype=dtype).model
        ids = torch.arange(2, 302)[None] % 380
        off = {"float32": 1.001, "bfloat16": 1.01, "float16": 1.002}[dtype]  # a few times the format's precision

        def other(module, args, kwargs, out):
            cos, sin = out
            angle = torch.atan2(sin.float(), cos.float())
            return (torch.cos(angle * off) * yarn.attention_factor).to(cos.dtype), sin

        rotary_module(model).register_forward_hook(other, with_kwargs=True)
        with (
            torch.inference_mode(),
            reread(model),
            patched(model, yarn),
            pytest.raises(ModelError, match=r"LlamaForCausalLM: cos at position 299 is off by 0\.\d+ from the rot"),
        ):
            model(ids)

    def test_a_forward_pass_that_asks_for_no_rotation_is_refused(self, base_experiment, tmp_path, monkeypatch):
        stock = worker.split

        def cached(model):
            parts = stock(model)
            return dataclasses.replace(parts, body=lambda ids, *_: torch.ones(*ids.shape, parts.head.weight.shape[1]))

        monkeypatch.setattr(worker, "split", cached)
        with pytest.raises(ModelError, match="never asked its rotary module, so no rotation could be applied"):
            run(base_experiment, tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestNarrowFormats:
    @pytest.fixture
    def hot(self, tmp_path, words):
        """A model whose hidden states go beyond 65504, the largest float16."""
        model = checkpoints.llama()
        with torch.no_grad():
            for layer in model.model.layers:
                layer.mlp.down_proj.weight.mul_(3e6)
        return str(checkpoints.save(tmp_path / "model", model, words))

    def test_overflow_of_float16_is_refused_with_its_remedy(self, base_experiment, tmp_path, hot):
        asked = base_experiment | {"model": hot, "metrics": {"perplexity": {}}}
        with pytest.raises(ModelError) as refusal:
            run(asked | {"dtype": "float16"}, tmp_path / "narrow")
        assert str(refusal.value) == (
            "LlamaForCausalLM: its logits on a few tokens are no finite numbers in float16, so nothing can be "
            "measured; use dtype bfloat16 or float32."
        )
        assert statuses(run(asked | {"dtype": "bfloat16"}, tmp_path / "wide")) == {"ok"}

    def test_overflow_at_some_tokens_alone_is_an_error_of_their_cells(
        self, base_experiment, tmp_path, hot, monkeypatch
    ):
        monkeypatch.setattr("ropewalk.scoring.head._prove", lambda *_, **__: None)
        asked = base_experiment | {"model": hot, "metrics": {"perplexity": {}}, "dtype": "float16"}
        narrow = run(asked, tmp_path / "run")
        assert statuses(narrow) == {"error"}
        assert {row["value"] for row in narrow.rows()} == {None}
        assert all("try dtype float32 or bfloat16" in row["reason"] for row in narrow.rows())

    def test_frequencies_rounded_to_bfloat16_are_refused(self, base_experiment, tiny, tmp_path):
        loaded = rw.load(str(tiny), dtype="float32")
        loaded.model.to(torch.bfloat16)
        assert rotary_module(loaded.model).inv_freq.dtype == torch.bfloat16
        asked = {key: base_experiment[key] for key in ("lengths", "methods", "documents")}
        with pytest.raises(ModelError, match=r"rotary_emb\.inv_freq is bfloat16, which rounds every position"):
            rw.sweep(loaded, **asked, out=tmp_path / "run")

    @pytest.mark.parametrize("beyond", [{"inv_freq": [1.0, 1e39]}, {"inv_freq": [1.0], "attention_factor": 1e-60}])
    def test_rotations_beyond_float32_are_refused(self, beyond):
        with pytest.raises(ModelError, match="which float32, in which it runs, cannot hold"):
            Rotation(**beyond)

    def test_losses_are_float32_in_every_dtype(self, base_experiment, tmp_path):
        asked = base_experiment | {"metrics": {"perplexity": {}}, "dtype": "bfloat16", "lengths": [64]}
        found = run(asked, tmp_path / "run")
        assert np.isfinite(found.frame().value).all()
