"""Where the numbers come from, and the command that makes them again; pure. Never any text of a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ropewalk.report.study import Study
from ropewalk.report.tables import Table
from ropewalk.rope import windows
from ropewalk.stats.measured import Measured


def model_name(run: Measured) -> str:
    """The model as the user named it."""
    return str(run.meta.get("model", {}).get("id", "unknown model"))


def table(run: Measured) -> Table:
    """Model, geometry, device, versions, times."""
    meta, model, geometry = run.meta, run.meta.get("model", {}), run.meta["geometry"]
    facts: dict[str, Any] = {
        "model": model.get("id"),
        "revision": model.get("revision"),
        "architecture": model.get("architecture"),
        "parameters": f"{int(model['parameters']):,}" if model.get("parameters") else None,
        "weights sha256": model.get("weights_sha256"),
        "dtype": model.get("dtype"),
        "device": model.get("device"),
        "workers": _workers(meta),
        "measured before": _reused(meta),
        "canary": _canary(meta),
        "attention": meta.get("attention"),
        "left out": "; ".join(meta.get("left_out") or ()),
        "window": windows(geometry).removeprefix("window "),
        "rotary": f"rotary_dim {geometry.get('rotary_dim')}, rope_theta {geometry.get('rope_theta')}, "
        f"rope_type {geometry.get('rope_type')}",
        "LongPPL evaluator": ((meta.get("evaluator") or {}).get("model") or {}).get("id"),
        "seed": run.experiment.get("seed"),
        "started": meta.get("started"),
        "wall time": f"{meta['wall_s']:,.0f} s" if meta.get("wall_s") else None,
        "versions": ", ".join(f"{name} {version}" for name, version in (meta.get("versions") or {}).items()),
    }
    rows = tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    return Table(columns=("what", "value"), rows=rows)


def _workers(meta: Mapping[str, Any]) -> str | None:
    """How many measured, where there was more than one."""
    found = meta.get("workers") or ()
    return f"{len(found)}" if len(found) > 1 else None


def _reused(meta: Mapping[str, Any]) -> str:
    """What was taken from other runs, and from which."""
    return "; ".join(
        f"{each['passes']:,} passes and {each['answers']:,} answers in the run {each['run']}, begun {each['started']}"
        for each in meta.get("reused") or ()
    )


def _canary(meta: Mapping[str, Any]) -> str | None:
    """How far workers are apart at most on the canary's tokens; None for the one worker of one session."""
    checks = (meta.get("canary") or {}).get("checks") or ()
    if len(checks) <= 2:
        return None
    worst = max(float(check["difference"]) for check in checks)
    return f"{len(checks)} checks of all workers differ by at most {worst:.2g} nats/token"


def documents(run: Measured) -> Table:
    """Titles, sizes and hashes; no text. Where several windows of each were read, how many."""
    windows: dict[str, list[dict[str, Any]]] = {}
    for each in run.meta.get("documents") or ():
        windows.setdefault(str(each.get("cluster", each.get("id"))), []).append(each)
    several = any(len(own) > 1 for own in windows.values())
    rows = tuple(
        (
            name,
            str(own[0].get("title")),
            str(own[0].get("kind")),
            *([str(len(own))] if several else []),
            f"{sum(d.get('tokens', 0) for d in own):,}",
            str(own[0].get("sha256"))[:16],
        )
        for name, own in windows.items()
    )
    columns = ("id", "title", "kind", *(["windows"] if several else []), "tokens read", "sha256")
    return Table(columns=columns, rows=rows, numeric=frozenset({"tokens read"}))


def reproduce(run: Measured) -> str:
    """The experiment as resolved, and the commands that run and check it."""
    exact = " --exact" if (run.meta.get("identity") or {}).get("exact") else ""
    text = yaml.safe_dump(dict(run.experiment), sort_keys=False, allow_unicode=True, width=100)
    return (
        "cat > experiment.yaml <<'END'\n"
        f"{text}END\n"
        f"ropewalk run experiment.yaml --out again{exact}\n"
        "ropewalk verify again\n"
        "ropewalk report again"
    )


def unfinished(study: Study) -> str:
    """How many finished cells have no value, and how many are missing."""
    failed = sum(row.status != "ok" for row in study.run.rows)
    parts = [f"{failed} of {len(study.run.rows)} finished cells have no value." if failed else ""]
    if study.missing.cells:
        parts.append(str(study.missing))
    return " ".join(part for part in parts if part) or "Every cell that was asked for has a value."
