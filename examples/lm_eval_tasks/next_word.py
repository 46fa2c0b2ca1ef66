"""The items of next_word, wherever lm-eval runs."""

import json
from pathlib import Path

import datasets


def items(**_):
    lines = Path(__file__).with_name("next_word.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}
