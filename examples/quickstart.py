"""Measure two methods on the built-in model, then use the better rotation in an evaluation of your own."""

import tempfile

import torch

import ropewalk as rw

run = rw.sweep(
    "strand",
    methods={"linear": {"factor": 4}, "yarn": {"factor": 4}},
    lengths=[256, 1024],
    documents={"corpus": "builtin", "count": 6},
    out=tempfile.mkdtemp() + "/run",
)
frame = run.frame()
columns = ["label", "length", "value", "ci_low", "ci_high", "n"]
print(frame[frame.metric == "perplexity"][columns].round(1).to_string(index=False))

loaded = rw.load("strand")
rotation = rw.rotation(loaded.geometry, "yarn", length=1024, factor=4)
ids = loaded.tokenizer("It is a truth universally acknowledged, that", return_tensors="pt")["input_ids"]
with rw.patched(loaded.model, rotation), torch.inference_mode():
    print(loaded.model(ids).logits.shape, rotation.fingerprint)
