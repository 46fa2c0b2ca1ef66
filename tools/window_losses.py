"""Measure losses of many configurations on many windows of the built-in documents, to replay decisions over.

    python tools/window_losses.py OUT.npz [--windows 16] [--length 1024] [--trials 40]

`strand` (window 256) under the methods of preset:grid-172-beyond at one length, `--windows` stretches of every
built-in document, and passkeys. OUT holds `labels` [C], `documents` and `sizes` in tokens [D],
float64 `perplexity` and `tail` [C, D, W], mean nll in nats per token, and `passkey` [C, trials]. Some minutes on a CPU
core for each window. Replayed by benchmarks/deciding.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import ropewalk as rw
from ropewalk.corpus import builtin_documents, tokenize_all
from ropewalk.corpus.windows import windows
from ropewalk.models import ModelSpec, load

PRESET = Path(rw.__file__).parent / "data" / "presets" / "grid-172-beyond.yaml"
CHARACTERS = 12
"""Of text kept per wanted token: more than any stretch of the corpus takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--documents", type=int, default=17)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--trials", type=int, default=40)
    asked = parser.parse_args()
    methods = yaml.safe_load(PRESET.read_text(encoding="utf-8"))["methods"]
    loaded = load(ModelSpec(id="strand"))
    documents = builtin_documents(asked.documents)
    with tempfile.TemporaryDirectory() as folder:
        tokens = tokenize_all(loaded.tokenizer, documents, bos=False)
        sizes = [len(each) for each in tokens]
        for each in tokens:
            for index, start in enumerate(windows(len(each), asked.length, asked.windows)):
                at = int(each.starts[start])
                text = each.document.text[at : at + CHARACTERS * asked.length]
                (Path(folder) / f"{each.document.id}@{index:03d}.txt").write_text(text, encoding="utf-8")
        run = rw.sweep(
            loaded,
            methods=methods,
            lengths=[asked.length],
            documents={"files": [f"{folder}/*.txt"]},
            metrics={"perplexity": {}, **({"passkey": {"trials": asked.trials}} if asked.trials else {})},
            out=f"{folder}/run",
        )
        found = arrays(run.samples(), [each.id for each in documents], asked.windows)
    np.savez_compressed(asked.out, sizes=np.array(sizes), **found)
    print({name: value.shape for name, value in found.items()}, f"in {asked.out}")


def arrays(samples: Any, documents: list[str], count: int) -> dict[str, np.ndarray]:
    """The samples of a run, as in the docstring above; NaN where a configuration was not measured."""
    labels = list(dict.fromkeys(samples["label"]))
    found: dict[str, np.ndarray] = {"labels": np.array(labels), "documents": np.array(documents)}
    samples = samples.assign(value=samples["numerator"] / samples["denominator"])
    for metric, rows in samples.groupby("metric"):
        table = rows.pivot_table(index="label", columns="unit", values="value").reindex(labels)
        found[str(metric)] = (
            table.to_numpy() if metric == "passkey" else table.to_numpy().reshape(len(labels), len(documents), count)
        )
        if metric != "passkey":
            names = [str(unit).rsplit("@", 1)[0] for unit in table.columns[::count]]
            order = [next(i for i, name in enumerate(names) if each in name) for each in documents]
            found[str(metric)] = found[str(metric)][:, order]
    return found


if __name__ == "__main__":
    main()
