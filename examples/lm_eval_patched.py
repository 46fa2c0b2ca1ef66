"""What a rotation costs on a short-context benchmark: lm-eval on the same model, as shipped and patched.

Offline, on a tiny task of its own; put names of lm-eval's tasks in place of TASK where there is a network. Needs
`pip install lm-eval` (written with 0.4.13).
"""

import logging

import datasets
import lm_eval
from lm_eval.models.huggingface import HFLM

import ropewalk as rw

ITEMS = [
    ("Once upon a time there was a little", ["girl", "of", "which", "were"]),
    ("He opened the door and went into the", ["room", "said", "because", "slowly"]),
    ("She took him by the", ["hand", "very", "had", "from"]),
    ("The old man sat down in his", ["chair", "been", "than", "would"]),
    ("I do not know what you", ["mean", "the", "house", "of"]),
    ("It was a dark and cold", ["night", "him", "when", "to"]),
    ("The king and the", ["queen", "is", "upon", "very"]),
    ("They walked along the side of the", ["river", "were", "said", "not"]),
    ("He was very glad to see his", ["friend", "at", "that", "have"]),
    ("In the morning the sun", ["rose", "a", "man", "little"]),
    ("What is the matter with", ["you", "the the", "went", "was"]),
    ("She looked at him with tears in her", ["eyes", "before", "by", "as"]),
]
TASK = {
    "task": "next_word",
    "custom_dataset": lambda **_: {
        "test": datasets.Dataset.from_list([{"text": text, "choices": choices} for text, choices in ITEMS])
    },
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "text",
    "doc_to_choice": "choices",
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc"}],
}

logging.getLogger("lm_eval").setLevel(logging.ERROR)
loaded = rw.load("strand")
model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, max_length=256)


def accuracy() -> tuple[float, float]:
    """Of the right word, with its standard error."""
    found = lm_eval.simple_evaluate(model, tasks=[TASK], bootstrap_iters=0)["results"]["next_word"]
    return found["acc,none"], (found["acc,none"] * (1 - found["acc,none"]) / len(ITEMS)) ** 0.5


rows = {"as shipped": accuracy()}
for factor in (4, 16):
    rotation = rw.rotation(loaded.geometry, "linear", length=256 * factor, factor=factor)
    with rw.patched(loaded.model, rotation):
        rows[f"linear factor={factor}"] = accuracy()
for name, (value, error) in rows.items():
    print(f"{name:18s} accuracy {value:.3f} +- {error:.3f} on {len(ITEMS)} items")
