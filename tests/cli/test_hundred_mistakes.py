"""A hundred wrong inputs, each judged: does the sentence name the value, its place, and what to write instead?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Case = tuple[tuple[Any, ...], str, str]
"""Arguments; the value, and the place that the sentence has to name, as patterns."""
REMEDY = re.compile(
    r"did you mean|such as [-\w\[]|for example|`ropewalk [a-z]+|"
    r"(?:[;:,]|\bor|\band) (?:add|ask for|choose|drop|give|keep|leave|lower|mend|name|put|remove|run|set|use|write)\b",
    re.IGNORECASE,
)
"""What to write instead, an example, or a command that tells: a bound or a list of choices alone is no remedy."""
BASE = {"model": "strand", "lengths": [64, 128], "methods": {"yarn": {"factor": 2}}, "metrics": {"perplexity": {}}}

FILES: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"lenghts": [64]}, "64", "lenghts"),
    ({"model": 7}, "7", "model"),
    ({"model": {"revision": "x"}}, "", "id"),
    ({"model": {"id": "strand", "revison": "x"}}, "revison", "model"),
    ({"model": ""}, "empty", "model"),
    ({"model": "./nowhere"}, "nowhere", "model"),
    ({"model": "stramd/"}, "stramd", "model"),
    ({"dtype": "fp16"}, "fp16", "dtype"),
    ({"dtype": 16}, "16", "dtype"),
    ({"lengths": 64}, "64", "lengths"),
    ({"lengths": []}, r"\[\]", "lengths"),
    ({"lengths": [2]}, "2", "lengths"),
    ({"lengths": [64, 64]}, "64", "lengths"),
    ({"lengths": ["64 tokens"]}, "64 tokens", "lengths"),
    ({"lengths": [64.5]}, "64.5", "lengths"),
    ({"lengths": [2**30]}, str(2**30), "lengths"),
    ({"lengths": [True]}, "True", "lengths"),
    ({"window": 0}, "0", "window"),
    ({"window": "big"}, "big", "window"),
    ({"seed": -1}, "-1", "seed"),
    ({"seed": "x"}, "x", "seed"),
    ({"methods": {}}, r"\{\}", "methods"),
    ({"methods": "yarn"}, "yarn", "methods"),
    ({"methods": {"yran": {}}}, "yran", "method"),
    ({"methods": {"yarn": {}}}, "yarn", "factor"),
    ({"methods": {"yarn": {"factor": 0.5}}}, r"0\.5", "factor"),
    ({"methods": {"yarn": {"factor": "four"}}}, "four", "factor"),
    ({"methods": {"yarn": {"factr": 4}}}, "factr", "yarn"),
    ({"methods": {"yarn": {"factor": []}}}, r"\[\]", "factor"),
    ({"methods": {"yarn": {"factor": 4, "beta_fast": 1, "beta_slow": 2}}}, "1", "beta_fast"),
    ({"methods": {"yarn": 4}}, "4", "yarn"),
    ({"methods": {"llama3": {"factor": 4, "low_freq_factor": 8}}}, "8", "low_freq_factor"),
    ({"methods": {"longrope": {"factor": 4, "long_factor": "x"}}}, "x", "long_factor"),
    ({"methods": {"searched": {"file": "none.json"}}}, "none.json", "file"),
    ({"methods": {"abf": {"rope_theta": -5}}}, "-5", "rope_theta"),
    ({"methods": {"linear": {"factor": 1e9}}}, "1000000000|1e", "factor"),
    ({"methods": {"linear": {"factor": 2, "compose": "add"}}}, "add", "compose"),
    ({"methods": {"rope_type": "yarn", "factor": 4}}, "factor", "rope_scaling"),
    ({"metrics": {}}, r"\{\}", "metrics"),
    ({"metrics": {"perplexty": {}}}, "perplexty", "metrics"),
    ({"metrics": {"perplexity": {"stride": 0}}}, "0", "stride"),
    ({"metrics": {"perplexity": {"strid": 8}}}, "strid", "perplexity"),
    ({"metrics": {"perplexity": 4}}, "4", "perplexity"),
    ({"metrics": {"passkey": {"trials": 0}}}, "0", "trials"),
    ({"metrics": {"passkey": {"trials": "many"}}}, "many", "trials"),
    ({"metrics": {"passkey": {"protocol": "exakt"}}}, "exakt", "protocol"),
    ({"metrics": {"passkey": {"protocol": "yarn", "haystack": "essay"}}}, "yarn", "haystack"),
    ({"metrics": {"passkey": {"haystack": "hay"}}}, "hay", "haystack"),
    ({"metrics": {"longppl": {}}}, "", "spans"),
    ({"metrics": {"longppl": {"spans": "none.json"}}}, "none.json", "spans"),
    ({"metrics": {"longppl": {"spans": "builtin", "evaluator": "self"}}}, "builtin|self", "evaluator"),
    ({"metrics": {"longppl": {"spans": "builtin", "min_key_tokens": 0}}}, "0", "min_key_tokens"),
    ({"documents": {}}, "source", "documents"),
    ({"documents": {"corpus": "buildin"}}, "buildin", "corpus"),
    ({"documents": {"corpus": "builtin", "files": ["x"]}}, "files", "documents"),
    ({"documents": {"corpus": "builtin", "count": 0}}, "0", "count"),
    ({"documents": {"corpus": "builtin", "count": 1000}}, "1000", "count"),
    ({"documents": {"corpus": "builtin", "counts": 2}}, "counts", "documents"),
    ({"documents": {"files": []}}, r"\[\]", "files"),
    ({"documents": {"files": ["none/*.txt"]}}, "none", "files"),
    ({"documents": {"files": ["~nobody/x"]}}, "nobody", "files"),
    ({"documents": {"dataset": "none.parquet"}}, "none.parquet", "dataset"),
    ({"documents": {"dataset": "none.parquet", "colum": "x"}}, "colum", "documents"),
    ({"documents": {"dataset": 5}}, "5", "dataset"),
    ({"search": {"family": "spline"}}, "search", "section"),
    ({"tune": {"probes": 0}}, "0", "probes"),
    ({"tune": {"knots": 8}}, "8", "knots"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "factor", "rope_scaling"),
)  # fmt: skip

TEXTS = (
    ("", "NoneType", "mapping"),
    ("[1, 2]", "list", "mapping"),
    ("model: [", "line", "YAML"),
    ("model: strand\nmodel: strand\n", "model", "line 2"),
    ("a: &x 1\nb: *x\n", "alias", "line 2"),
    ("1: 2\n", "1", "line 1"),
    ("model: strand\nseed: 1:30\n", "number", "line 2"),
)

GEOMETRY = ("--rotary-dim", 64, "--rope-theta", 10000, "--window", 2048)
COMMANDS: tuple[Case, ...] = (
    (("rotation", "yran", "--length", 8), "yran", "method"),
    (("rotation", "yarn", "--length", "8x", *GEOMETRY), "8x", "--length"),
    (("rotation", "yarn", "--length", 0, *GEOMETRY), "0", "--length"),
    (("rotation", "yarn", "--length", 8192), "--model", "rotation"),
    (("rotation", "yarn", "--length", 8192, *GEOMETRY, "-p", "factor"), "factor", "-p"),
    (("rotation", "yarn", "--length", 8192, *GEOMETRY, "-p", "factor=2", "-p", "factor=3"), "factor=3", "-p"),
    (("rotation", "yarn", "--length", 8192, "--model", "strand", *GEOMETRY, "-p", "factor=2"), "strand", "--model"),
    (("plan", "preset:dema"), "dema", "preset"),
    (("plan", "none.yaml"), "none.yaml", "experiment file"),
    (("plan", "preset:demo", "--memory", 12), "12", "--memory"),
    (("plan", "preset:demo", "--lengths", "1x"), "1x", "--lengths"),
    (("plan", "preset:demo", "--set", "seed"), "seed", "--set"),
    (("plan", "preset:demo", "--set", "seed.x=1"), "seed", "--set"),
    (("plan", "preset:demo", "--set", "documents.cuont=1"), "cuont", "documents"),
    (("plan", "preset:demo", "--set", "seed=[1"), "YAML", "--set seed"),
    (("plan", "preset:demo", "--oot", "x"), "--oot", "option"),
    (("plam", "preset:demo"), "plam", "command"),
    (("run", "preset:demo"), "--out", "option"),
    (("init", "./nowhere"), "nowhere", "model"),
    (("init", "strand", "--length", 100), "100", "--length"),
    (("init", "strand", "--length", "100000k"), "102400000", "--length"),
    (("resume", "nowhere"), "nowhere", "run"),
    (("results", "nowhere"), "nowhere", "run"),
    (("results", "RUN", "--metric", "perplexty"), "perplexty", "--metric"),
    (("results", "RUN", "--length", 7), "7", "--length"),
    (("results", "RUN", "--method", "lineer"), "lineer", "--method"),
    (("results", "RUN", "--sort", "tial"), "tial", "--metric|--sort"),
    (("results", "RUN", "--format", "xls"), "xls", "--format"),
    (("recommend", "RUN", "--length", "9999"), "9,?999", "length"),
    (("recommend", "RUN", "--length", "256", "--by", "luck"), "luck", "by"),
    (("recommend", "RUN", "--length", "256", "--min-found", "7"), "7", "min.found"),
    (("recommend", "RUN", "--length", "256", "--target", "vlm"), "vlm", "--target"),
    (("compare", "RUN", "nowhere"), "nowhere", "run"),
    (("index", "nowhere"), "nowhere", "run"),
    (("view", "nowhere"), "nowhere", "run"),
    (("view", "RUN", "--port", 70000), "70000", "--port"),
    (("verify", "RUN", "--cells", -1), "-1", "--cells"),
    (("export", "RUN", "--target", "vlm", "--length", 256), "vlm", "--target"),
    (("export", "RUN", "--target", "vllm"), "", "--length"),
    (("export", "yarn", "--target", "vllm"), "yarn", "--model"),
    (("search", "preset:demo", "--length", 1024, "--out", "x", "--budget", "5m"), "search", "ropewalk tune"),
    (("tune", "preset:demo", "--length", 1024, "--out", "x", "--budget", "soon"), "soon", "--budget"),
)


def cases(folder: Path, run: Path) -> Iterator[Case]:
    for number, (change, value, place) in enumerate(FILES):
        path = folder / f"e{number}.yaml"
        path.write_text(yaml.safe_dump(BASE | change), encoding="utf-8")
        yield ("plan", path, "--no-probe"), value, place
    for number, (text, value, place) in enumerate(TEXTS):
        path = folder / f"t{number}.yaml"
        path.write_text(text, encoding="utf-8")
        yield ("plan", path), value, place
    for arguments, value, place in COMMANDS:
        yield tuple(run if each == "RUN" else each for each in arguments), value, place


def test_every_sentence_says_value_place_and_remedy(ropewalk, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    short, wrong, found = [], [], list(cases(folder, finished_run))
    assert len(found) >= 100
    for arguments, value, place in found:
        said = ropewalk(*arguments)
        sentence = said.err.removeprefix("ropewalk: ")
        if said.code != 2 or sentence.count("\n") != 1:
            wrong.append((arguments, said))
            continue
        without_path = sentence.replace(str(folder), "").replace(str(finished_run), "RUN")
        judged = {"value": value, "place": place, "remedy": REMEDY}
        missing = [name for name, pattern in judged.items() if not re.search(pattern, without_path)]
        if missing:
            short.append((missing, arguments, sentence))
    assert wrong == []
    assert short == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files"], "nothing is half written"
