import json
import math
from dataclasses import replace

import pytest
from studies import frames

from ropewalk.errors import ExperimentError
from ropewalk.report.compare import compare
from ropewalk.report.printing import compared_json, compared_lines, compared_table, outcome

METHODS = {"yarn": {"factor": [2, 4]}}


@pytest.fixture(scope="module")
def base():
    return frames(METHODS, (1024, 4096)).study()


def test_a_finetune_against_its_base_is_paired(base):
    tuned = frames(METHODS, (1024, 4096), shift=-0.1, model={"weights_sha256": "f" * 64}).study()
    found = compare(base, tuned)
    assert found.documents == 8
    cells = {(c.column.name, c.label, c.length): c for c in found.contrasts}
    cell = cells["perplexity", "yarn factor=2", 4096]
    assert cell.paired.interval.value == pytest.approx(math.exp(-0.1), rel=1e-9)
    assert cell.same_rotation
    assert cell.a.value == pytest.approx(base.run.row("yarn factor=2", "perplexity", 4096).value, rel=1e-12)
    bits = cells["bits_per_byte", "none", 1024]
    assert bits.paired.interval.value == pytest.approx(-0.1 / math.log(2) / 4, rel=1e-9)
    assert "truncate" in {c.label for c in found.contrasts}
    assert not found.not_compared
    assert [(d.what, d.b) for d in found.differences] == [("model.weights_sha256", f"{'f' * 20}…")]


def test_documents_pair_by_text_whatever_they_are_called(base):
    other = frames(METHODS, (1024, 4096), shift=0.2)
    for document in other.meta["documents"]:
        document["id"] = f"renamed {document['id']}"
    other.samples["unit"] = [
        u if m == "passkey" else f"renamed {u}"
        for u, m in zip(other.samples["unit"], other.samples["metric"], strict=True)
    ]
    other.meta["documents"] = other.meta["documents"][2:]
    found = compare(base, other.study())
    assert found.documents == 6
    cell = next(c for c in found.contrasts if c.column.name == "perplexity")
    assert cell.paired.interval.n == 6
    assert cell.paired.interval.value == pytest.approx(math.exp(0.2), rel=1e-9)


def test_another_tokenizer_leaves_bits_per_byte_and_passkey(base):
    other = frames(METHODS, (1024, 4096)).study(token_hashes={f"text-{i}": "x" for i in range(8)})
    found = compare(base, other)
    assert {c.column.name for c in found.contrasts} == {"bits_per_byte", "passkey"}
    assert "another tokenizer" in found.not_compared["perplexity"]
    assert any("Not compared: perplexity, the documents have other tokens" in line for line in compared_lines(found))


def test_two_tokenizers_read_other_stretches_of_a_document_and_it_is_said(base):
    other = frames(METHODS, (1024, 4096))
    chosen = other.samples["metric"] == "bits_per_byte"
    other.samples.loc[chosen, ["numerator", "denominator"]] *= 1.25
    found = compare(base, other.study(token_hashes={f"text-{i}": "x" for i in range(8)}))
    assert found.remark == (
        "The tokenizers differ, so 4,096 tokens are not the same text: on average 16,380 bytes of a document in A and "
        "20,475 in B."
    )
    assert found.remark in list(compared_lines(found))
    assert compare(base, frames(METHODS, (1024, 4096)).study()).remark == ""


def test_other_key_tokens_are_not_compared(base):
    other = frames(METHODS, (1024, 4096))
    chosen = other.samples["metric"] == "longppl"
    other.samples.loc[chosen, "denominator"] += 1
    assert "longppl" not in {c.column.name for c in compare(base, other.study()).contrasts}
    keys = {f"text-{i}": "other" for i in range(8)}
    found = compare(base, frames(METHODS, (1024, 4096)).study(key_hashes=keys))
    assert found.not_compared["longppl"] == "other tokens are key (another evaluator, or another rule)"


def test_other_passkey_settings_are_not_compared(base):
    other = frames(METHODS, (1024, 4096), seed=5).study()
    assert "measured in different ways" in compare(base, other).not_compared["passkey"]


def test_holm_runs_over_the_cells_of_a_metric(base):
    other = frames(METHODS, (1024, 4096), shift=0.004, seed=0).study()
    found = [c for c in compare(base, other).contrasts if c.column.name == "perplexity"]
    assert all(c.adjusted_p is None or c.adjusted_p >= (c.paired.p or 0) for c in found)


def test_nothing_in_common_is_refused(base):
    other = frames(METHODS, (512,), metrics={"perplexity": {}}).study()
    with pytest.raises(ExperimentError, match="nothing can be compared"):
        compare(base, other)


def test_one_shared_document_has_no_interval(base):
    other = frames(METHODS, (1024, 4096), shift=0.2)
    other.meta["documents"] = other.meta["documents"][:1]
    cell = next(c for c in compare(base, other.study()).contrasts if c.column.name == "tail")
    assert cell.paired.interval.low is None
    assert cell.paired.p is None
    assert cell.adjusted_p is None


def test_printed_forms(base):
    found = compare(base, frames(METHODS, (1024, 4096), shift=0.1).study())
    values = json.loads(json.dumps(compared_json(found), allow_nan=False))
    assert len(values["cells"]) == len(found.contrasts) == len(compared_table(found).rows)
    first, second, *_ = compared_lines(found)
    told = sum(c.adjusted_p is not None and c.adjusted_p < 0.05 for c in found.contrasts)
    assert first.startswith(f"Of {len(found.contrasts)} cells in both, B is better in 0, worse in {told}, equal in ")
    assert second == "Provenance: nothing recorded differs."
    assert "+10.5 %" in compared_table(found).rows[0][5]


@pytest.mark.parametrize(
    ("metric", "value", "p", "said"),
    [
        ("perplexity", 0.9, 0.01, "better in 1, worse in 0, equal in 0, and not told apart in 0"),
        ("perplexity", 1.1, 0.01, "better in 0, worse in 1, equal in 0, and not told apart in 0"),
        ("bits_per_byte", -0.01, 0.01, "better in 1, worse in 0, equal in 0, and not told apart in 0"),
        ("bits_per_byte", 0.01, 0.01, "better in 0, worse in 1, equal in 0, and not told apart in 0"),
        ("passkey", 0.5, 0.01, "better in 1, worse in 0, equal in 0, and not told apart in 0"),
        ("passkey", -0.5, 0.01, "better in 0, worse in 1, equal in 0, and not told apart in 0"),
        ("passkey", 0.5, 0.05, "better in 0, worse in 0, equal in 0, and not told apart in 1"),
        ("passkey", 0.5, None, "better in 0, worse in 0, equal in 0, and not told apart in 1"),
        ("passkey", 0.0, 1.0, "better in 0, worse in 0, equal in 1, and not told apart in 0"),
        ("perplexity", 1.0, 1.0, "better in 0, worse in 0, equal in 1, and not told apart in 0"),
    ],
)
def test_which_side_is_better_is_each_metrics_own(base, metric, value, p, said):
    found = compare(base, base)
    cell = next(c for c in found.contrasts if c.column.name == metric)
    paired = replace(cell.paired, interval=replace(cell.paired.interval, value=value, low=None, high=None))
    only = replace(found, contrasts=(replace(cell, paired=paired, adjusted_p=p),))
    assert outcome(only) == f"Of 1 cell in both, B is {said} (p < 0.05, Holm within each metric)."
