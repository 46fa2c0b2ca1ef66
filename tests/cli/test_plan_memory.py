"""What `plan` says about memory, and the longest length that fits into what is given."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch

from ropewalk.cli import parse_bytes
from ropewalk.errors import ExperimentError
from ropewalk.experiment import memory, schema
from ropewalk.experiment.prepare import ask
from ropewalk.models.size import size_of_loaded
from ropewalk.scoring.memory import LIBRARIES_BYTES, peak_bytes, weight_bytes


def asked(experiment, loaded=None, **changes):
    return ask(schema.parse(experiment(**changes), "test"), loaded)


def test_a_plan_adds_up_what_a_run_takes(ropewalk, file, loaded):
    found = json.loads(ropewalk("plan", file(), "--json").out)["memory"]
    assert found["weights_bytes"] == 4 * sum(p.numel() for p in loaded.model.parameters())
    assert found["peak_bytes"] == LIBRARIES_BYTES + found["weights_bytes"] + found["pass_bytes"]
    assert (found["given_bytes"], found["longest_length"]) == (None, None)


def test_the_longest_length_fits_and_the_next_does_not(ropewalk, file, loaded):
    found = json.loads(ropewalk("plan", file(), "--memory", "3GB", "--json").out)["memory"]
    size, longest = size_of_loaded(loaded), found["longest_length"]
    assert found["given_bytes"] == 3_000_000_000
    assert peak_bytes(size, longest) <= 3_000_000_000 < peak_bytes(size, longest + 1)


def test_a_model_in_memory_has_the_size_of_its_configuration(experiment, loaded):
    assert memory.of(asked(experiment, loaded)) == memory.of(asked(experiment))


def test_shared_prompts_keep_keys_and_values(experiment):
    exact = memory.of(asked(experiment, metrics={"passkey": {}}, lengths=[32768]))
    generated = memory.of(asked(experiment, metrics={"passkey": {"protocol": "yarn"}}, lengths=[32768]))
    assert exact.pass_bytes - generated.pass_bytes == 32768 * 4 * 2 * 2 * 16  # float32, K and V, layers, head width


def test_a_model_over_several_gpus_has_a_part_of_its_weights_on_each(experiment, loaded, monkeypatch):
    size = dataclasses.replace(size_of_loaded(loaded), device="cuda", parameters=10**9)
    monkeypatch.setattr(memory, "read_size", lambda spec, dtype: size)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (weight_bytes(size), weight_bytes(size)))
    one = asked(experiment)
    assert memory.of(one).rows == 1  # nothing is left beside the weights
    spread = asked(experiment, model={"id": one.spec.id, "device_map": "auto"})
    assert memory.of(spread).rows > 1


def test_half_the_dtype_is_half_the_weights(experiment):
    whole, half = (memory.of(asked(experiment, dtype=dtype)).weights_bytes for dtype in ("float32", "bfloat16"))
    assert whole == 2 * half


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("3GB", r"; the longest length that fits into 3.00 GB is \d+ tokens"),
        ("600MB", r"; nothing fits into 600 MB: use a smaller dtype or model"),
    ],
)
def test_people_are_told(ropewalk, file, given, said):
    out = " ".join(ropewalk("plan", file(), "--memory", given).out.split())
    assert "about 7" in out
    assert "MB of memory: weights 0 MB, the longest pass" in out
    assert re.search(said, out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12GB", 12 * 10**9), ("1.5 GiB", 3 * 2**29), ("800mb", 8 * 10**8), ("2TB", 2 * 10**12), ("4096B", 4096)],
)
def test_amounts(text, expected):
    assert parse_bytes(text, "--memory") == expected


@pytest.mark.parametrize("text", ["", "12", "GB", "-1GB", "12 parsecs", "0", "1e3", "nan", "12KB", "1GBB"])
def test_amounts_that_are_none(text):
    with pytest.raises(ExperimentError) as refusal:
        parse_bytes(text, "--memory")
    assert str(refusal.value) == (f"--memory {text!r}: must be an amount of memory, such as 12GB, 16GiB or 800MB.")


def test_a_bad_amount_is_refused_before_the_file_is_read(refused):
    assert refused("plan", "/no/such.yaml", "--memory", "much") == (
        "--memory 'much': must be an amount of memory, such as 12GB, 16GiB or 800MB."
    )
