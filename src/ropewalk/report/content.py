"""What a report says, in order, before it is HTML or Markdown; pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk.errors import ExperimentError
from ropewalk.report import provenance
from ropewalk.report.deploy import CHECKPOINT, deploy_commands
from ropewalk.report.listing import Section
from ropewalk.report.palette import Style, styles
from ropewalk.report.points import leaders
from ropewalk.report.recommend import Recommendation, judged_block, recommend
from ropewalk.report.sections import sections
from ropewalk.report.study import Study
from ropewalk.stats.blocks import Block
from ropewalk.stats.findings import Finding, findings


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
        sections=tuple(sections(study, block, leading, drawn_styles)),
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
