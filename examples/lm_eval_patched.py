"""What a rotation costs on a short-context benchmark: lm-eval on the same model, as shipped and turned.

Offline, on a tiny task of its own; put names of lm-eval's tasks in place of TASK where there is a network. Needs
`pip install 'ropewalk[lm-eval]'` (written with 0.4.13).
"""

import logging

import datasets
import pandas as pd

import ropewalk as rw
from ropewalk.harness import evaluate
from ropewalk.scheme import Scheme

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
turns = {"as shipped": ("none", {}), **{f"linear factor={f}": ("linear", {"factor": f}) for f in (4, 16)}}
schemes = {
    name: Scheme(rotation=rw.rotation(loaded.geometry, method, length=4096, **params))
    for name, (method, params) in turns.items()
}
found = pd.DataFrame(evaluate(loaded, schemes, [TASK], length=256)).pivot(
    index="document", columns="scheme", values="numerator"
)
for name, own in found[list(schemes)].items():
    apart = own - found["as shipped"]
    print(f"{name:18s} accuracy {own.mean():.3f}, {apart.mean():+.3f} +- {apart.sem():.3f} on {len(own)} items")
