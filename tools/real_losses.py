"""Measure the losses that the calibration of the statistics resamples (tests/stats/real_losses.json).

    python tools/real_losses.py [--out tests/stats/real_losses.json]

The built-in documents, cut into pieces that fill 1024 tokens of `strand`, up to 8 spread over each document; strand
(window 256) under seven configurations. Writes the mean nll of every piece, nats per token, over all 1023 scored
tokens and over the last 256. About a million tokens: minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import ropewalk as rw
from ropewalk.corpus import builtin_documents

PIECE = 6_000
"""Characters of a piece; 1024 tokens of strand are about 3,000."""
EACH = 8
LENGTH = 1024
METHODS = {
    "linear": {"factor": 4},
    "ntk_aware": {"factor": 8},
    "dynamic_ntk": {"factor": 2},
    "yarn": {"factor": [4, 8]},
    "llama3": {"factor": 4},
}


def pieces(text: str) -> list[str]:
    """Up to EACH pieces, evenly spread over the text."""
    count = len(text) // PIECE
    chosen = range(count) if count <= EACH else [round(i * (count - 1) / (EACH - 1)) for i in range(EACH)]
    return [text[i * PIECE : (i + 1) * PIECE] for i in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tests/stats/real_losses.json"))
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        for document in builtin_documents():
            for index, piece in enumerate(pieces(document.text)):
                (Path(folder) / f"{document.id}-{index:02d}.txt").write_text(piece, encoding="utf-8")
        documents = {"files": [f"{folder}/*.txt"]}
        run = rw.sweep("strand", methods=METHODS, lengths=[LENGTH], documents=documents, out=f"{folder}/run")
        samples = run.samples()
        provenance = {"model": "strand", "length": LENGTH, "versions": run.meta["versions"]}
    samples["nll"] = (samples["numerator"] / samples["denominator"]).round(5)
    found = {
        metric: {label: group["nll"].tolist() for label, group in samples[samples["metric"] == metric].groupby("label")}
        for metric in ("perplexity", "tail")
    }
    lines = [f'"{metric} {label}": {json.dumps(values)}' for metric in found for label, values in found[metric].items()]
    out.write_text("{\n" + f'"origin": {json.dumps(provenance)},\n' + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(next(iter(found['tail'].values())))} pieces in {out}")


if __name__ == "__main__":
    main()
