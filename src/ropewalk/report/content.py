"""What a report says, in order, before it is HTML or Markdown; pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk.errors import ExperimentError
from ropewalk.experiment.held import Held
from ropewalk.report import by_group, figures, parameters, prices, provenance, ranking, tables
from ropewalk.report.deploy import CHECKPOINT, deploy_commands
from ropewalk.report.figures import Figure
from ropewalk.report.listing import Listing, Section
from ropewalk.report.paces import LEAST
from ropewalk.report.palette import Style, styles
from ropewalk.report.points import leaders
from ropewalk.report.recommend import Recommendation, judged_block, recommend
from ropewalk.report.study import Study
from ropewalk.report.tables import Table
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column
from ropewalk.stats.findings import Finding, findings

LEVELS = (
    "Values are of the first tokens of each document, which are unlike the rest of it; differences on the same tokens "
    "are sounder. Their 95 % intervals cover about 90 % where documents scatter with a long tail, and little more than "
    "half where one document in ten fails."
)
QUESTIONS = (
    "The page asks four questions, each with a chance of at most 5 % of any false answer: which configurations may be "
    "the best at the longest length; which at the other lengths; which beat dropping the context at any length; which "
    "steps of a parameter change something. The 5 % hold where documents differ without long tails or rare failures. "
    "What is called exploratory has no such bound."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A report.

    Attributes:
        title: the model and the longest length.
        missing: which cells are not measured yet; empty where all are.
        answer: None where nothing can be recommended; then `refusal` says why.
        commands: deploy the answer, by engine; empty where it needs nothing.
        sections: everything after the answer and the findings.
        styles: how each method is drawn.
        leading: each method's best configuration.
    """

    title: str
    missing: str
    answer: Recommendation | None
    refusal: str
    commands: Mapping[str, str]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
    styles: dict[str, Style]
    leading: Mapping[str, str]
    study: Study


def content(study: Study, *, partial: bool = False, targets: Sequence[str] = (CHECKPOINT,)) -> Content:
    """Put a report together; anything that was not measured is said to be missing, with the reason.

    `partial` chooses from what there is where cells are missing; `targets` are the engines to deploy to.
    """
    run, missing = study.run, study.missing
    target = run.lengths[-1] if run.lengths else run.window
    answer, refusal, block = None, "", None
    try:
        block = _last_block(study)
        answer = recommend(run, block.lengths[0])
    except ExperimentError as error:
        refusal = str(error)
    if missing.cells and not partial and answer is not None:
        answer, refusal = (
            None,
            (
                "What is missing may change the choice: finish the run, or let "
                f"`{shlex.join(['ropewalk', 'report', study.directory, '--partial'])}` choose from what there is."
            ),
        )
    leading = leaders(run, block) if block is not None else {}
    drawn_styles = styles(dict.fromkeys(row.method for row in run.rows))
    choice = answer.choice if answer else None
    where = study.directory
    commands = deploy_commands(run, choice, answer.judged_at, where, targets) if answer and choice else {}
    return Content(
        title=f"{provenance.model_name(run)} at up to {target:,} tokens",
        missing=str(missing) if missing.cells else "",
        answer=answer,
        refusal=refusal,
        commands=commands,
        findings=findings(run),
        sections=tuple(_sections(study, block, leading, drawn_styles)),
        styles=drawn_styles,
        leading=leading,
        study=study,
    )


def _last_block(study: Study) -> Block:
    """Outcomes at the longest length that has any.

    Raises:
        ExperimentError: no length has.
    """
    run = study.run
    for length in reversed(run.lengths):
        if any(row.length == length and row.status == "ok" for row in run.rows):
            try:
                return judged_block(run, length)
            except ExperimentError:
                continue
    return judged_block(run, run.lengths[0] if run.lengths else 1)


def _sections(study: Study, block: Block | None, leading: dict[str, str], drawn: dict[str, Style]) -> list[Section]:
    run = study.run
    at = f" at {block.lengths[0]:,}" if block else ""
    found = parameters.steps(run, block) if block else {}
    labels = list(leading.values())
    bins = figures.bins_of(study)
    found_items = run.retrieval.items if run.retrieval else "answers"
    found_title = found_items[:1].upper() + found_items[1:]
    return [
        Section(
            anchor="position",
            title="Loss by position",
            lead="Exploratory: mean loss along one pass over the longest length. A configuration that stays flat "
            "beyond the window can read there. Configurations whose rotation changes with length are shown as rotated "
            "for that length.",
            figures=(figures.positions(study, leading, drawn),),
        ),
        Section(
            anchor="ratio",
            title="Perplexity against the unscaled model",
            lead="Exploratory: each line is a configuration's perplexity divided by that of none on the same "
            f"documents; below the dashed line is better. Strong lines: each method's best configuration{at}, with its "
            f"95 % band, one by one and not corrected for their number. The axis is stretched around “same”. {LEVELS}",
            figures=(figures.ratio(study, leading, drawn),),
            tables=_column_tables(study, [c for c in run.columns.values() if not c.at_length]),
        ),
        Section(
            anchor="tail",
            title="Is extending better than dropping the context?",
            lead="Tail perplexity (the last tokens of each document) against the unscaled model that is fed only the "
            "last half window. Below the line, reading more context pays; what is said of it above is corrected over "
            f"all configurations and lengths, the bands are not. {LEVELS}",
            figures=(figures.tail(study, leading, drawn),),
            tables=_column_tables(study, [run.tail] if run.tail else []),
        ),
        Section(
            anchor="retrieval",
            title=f"{found_title} by depth and length",
            lead=f"Share of {found_items} found, by where in the prompt it stood (0 % is the beginning). Exploratory: "
            "lengths share keys and beginnings, so one length does not confirm another."
            + _held(study.held, found_items),
            figures=figures.retrieval(study, labels),
            tables=(Listing(title="Found by depth", table=tables.depths(study, labels, bins)),) if study.trials else (),
        ),
        *by_group.sections(run, leading, drawn),
        Section(
            anchor="pareto",
            title="Short lengths against long ones",
            lead="Exploratory: what each configuration costs inside the window, and what it gives at the longest "
            "length. Nothing measured beats the joined points in one without losing in the other.",
            figures=(figures.front(study, block, leading, drawn),),
        ),
        Section(
            anchor="ranking",
            title="Ranking",
            lead="One line per method. The best configuration is chosen on half of the documents and judged on the "
            "other half, both ways; optimism is how much too good it looks on those that chose it. A method is "
            f"worse if every one of its configurations left the best set. {QUESTIONS} {ranking.effective_note(run)}",
            tables=_ranking_tables(study, block),
        ),
        Section(
            anchor="sensitivity",
            title="What each parameter does",
            lead="One parameter moved to its next value, everything else fixed, paired on the same documents"
            f"{at}. Left of the line is better; p is corrected over all steps of all methods, the intervals are not.",
            figures=(figures.effects(block, found, drawn),),
            tables=(Listing(title="Every step", table=parameters.table(block, found)),) if block and found else (),
        ),
        Section(
            anchor="wavelengths",
            title="What each rotation does to the dimensions",
            lead="Each point is a pair of dimensions. Pairs left of the window complete a turn in it and were seen "
            "whole in training; a pair at 1 is untouched, one at the factor is fully interpolated.",
            figures=(figures.stretch(study, leading, drawn, block),),
        ),
        *_distances(figures.distances(study, leading, drawn, block)),
        *_gains(figures.gains(study, labels, block)),
        *_classes(prices.table(study, block, leading)),
        Section(anchor="table", title="Every number", lead=f"One row per configuration, length and metric. {LEVELS}"),
        Section(
            anchor="duplicates",
            title="Cells that are one measurement",
            lead="Equal rotations were measured once; their equal numbers confirm nothing.",
            tables=(Listing(title="", table=tables.duplicates(run), folded=False),),
        ),
        Section(
            anchor="failures",
            title="Cells without a value",
            lead=provenance.unfinished(study),
            tables=(Listing(title="", table=tables.failures(run), folded=False),),
        ),
        Section(
            anchor="provenance",
            title="Provenance",
            lead="What was measured, with what, and how to measure it again.",
            tables=(
                Listing(title="", table=provenance.table(run), folded=False),
                Listing(title="Documents", table=provenance.documents(run)),
            ),
            code=provenance.reproduce(run),
        ),
    ]


def _distances(found: tuple[Figure, ...]) -> list[Section]:
    """None where nothing has branches."""
    lead = (
        "Near and far attention tells tokens other distances than they have; each of its branches covers a range of "
        "them. On the dashed line is the truth, above the window what training never showed. The maps are those that "
        "papers draw, a query down and a key across: blue is told to be near, orange at the window and beyond, blank "
        "is not seen."
    )
    title = "What near and far attention tells of distance"
    return [Section(anchor="maps", title=title, lead=lead, figures=found)] if found else []


def _classes(found: Table | None) -> list[Section]:
    """None where all only rotate."""
    lead = (
        "What each method changes, and its pace beside that of all that only rotate, in this run: tokens/s of whole "
        "batches of documents, storing included, from the times at which they were stored, medians; the first batch "
        "of a worker is left out, and rows of different rotations share batches. Only passes of one length are "
        f"compared, {LEAST} batches of each or more, and what else ran on the machine is not known: a coarse price, "
        "not a benchmark."
    )
    listing = Listing(title="", table=found, folded=False) if found else None
    title = "Classes of methods, and their price in time"
    return [Section(anchor="classes", title=title, lead=lead, tables=(listing,))] if listing else []


def _held(found: Sequence[Held], items: str) -> str:
    """What a cut prompt can hold, by length; empty where that is not known."""
    if not found:
        return ""
    said = ", ".join(f"{each.count} of {each.n} at {each.length:,}" for each in found)
    return f" Dropping the context would leave {said}: the {items} that stand in the last {found[0].kept} tokens."


def _gains(found: tuple[Figure, ...]) -> list[Section]:
    """None where nothing has gains."""
    lead = (
        "What the query of each layer and head is multiplied by, the mean over its pairs: orange sharpens attention, "
        "purple flattens it, white leaves it alone. Where near tokens are as trained, this is for far ones alone."
    )
    return [Section(anchor="gains", title="Gains of the query", lead=lead, figures=found)] if found else []


def _column_tables(study: Study, columns: Sequence[Column]) -> tuple[Listing, ...]:
    return tuple(Listing(title=tables.heading(each), table=tables.by_length(study.run, each)) for each in columns)


def _ranking_tables(study: Study, block: Block | None) -> tuple[Listing, ...]:
    run, found = study.run, list[Listing]()
    if block is not None:
        at = f"{block.lengths[0]:,}"
        found.append(Listing(title=f"By method, at {at}", table=ranking.by_method(run, block), folded=False))
        found.append(Listing(title=f"Top ten at {at}, exploratory", table=ranking.top(run, block), folded=False))
    found.append(
        Listing(
            title="Best per length, exploratory: each row is corrected for itself alone",
            table=ranking.best_per_length(run),
        )
    )
    agree = ranking.correlations(run)
    if agree.rows:
        found.append(Listing(title="Do the metrics agree? Rank correlations within a length, exploratory", table=agree))
    return tuple(found)
