"""Find the key spans of the built-in documents that ship with ropewalk (LongPPL, arXiv:2410.23771).

    python tools/build_spans.py [--out src/ropewalk/data/spans]

The evaluator is SmolLM2-135M inside its window of 8192 tokens, in float32. Two sets:

    short   for models with windows of a few hundred tokens: short contexts of 128 to 159 evaluator tokens, over the
            first 4096 tokens of each document
    long    for models with windows of some thousand tokens: short contexts of 512 to 639, over the first 8192 tokens

Prints how many key tokens each document has, in evaluator tokens. About 800,000 tokens of work: seconds on a GPU,
an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ropewalk.corpus import builtin_documents, key_token_mask, tokenize, write_spans
from ropewalk.execution.keys import find
from ropewalk.metrics.key_tokens import KeyRule
from ropewalk.models import ModelSpec, load
from ropewalk.scoring import split

SETS = {"short": (KeyRule(trunc_len=128, stride=32), 4096), "long": (KeyRule(trunc_len=512, stride=128), 8192)}
BATCH_TOKENS = 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/ropewalk/data/spans"))
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    evaluator = load(ModelSpec.parse("smollm2"), dtype="float32")
    parts = split(evaluator.model)
    documents = [tokenize(evaluator.tokenizer, document) for document in builtin_documents()]
    for name, (rule, length) in SETS.items():
        found = []
        for tokens in documents:
            assert tokens.ends is not None
            characters = int(tokens.ends[length - 1])
            spans, _ = find(evaluator, parts, tokens, rule, BATCH_TOKENS, characters)
            found.append(spans)
            key = np.flatnonzero(key_token_mask(tokens, spans))
            print(f"{name:5s} {tokens.document.id:24s} {key.size:4d} key tokens of {length}", flush=True)
        write_spans(folder / f"{name}.json", found)


if __name__ == "__main__":
    main()
