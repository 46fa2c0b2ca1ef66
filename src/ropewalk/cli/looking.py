"""Commands that look at a method or a model and measure nothing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ropewalk.cli.arguments import parse_length, parse_parameters
from ropewalk.cli.options import LOOK, TARGET_LENGTH, JsonFlag, ParamList, app, example, print_json
from ropewalk.errors import ExperimentError


@app.command(rich_help_panel=LOOK, epilog=example("inspect strand"))
def inspect(model: str, as_json: JsonFlag = False) -> None:
    """Show a model's RoPE geometry: window, wavelengths, dimensions that never complete a turn in the window."""
    from ropewalk.model_spec import ModelSpec

    spec = ModelSpec.parse(model)
    from ropewalk.experiment.inspect import facts, lines
    from ropewalk.models import read_geometry  # imports torch

    found = facts(read_geometry(spec))
    if as_json:
        return print_json(found)
    print("\n".join(lines(model, found)))
    return None


@app.command(rich_help_panel=LOOK, epilog=example("init strand --length 1k > experiment.yaml"))
def init(
    model: Annotated[str, typer.Argument(help="Hub id, directory, .gguf file or built-in name.")],
    length: Annotated[
        int | None,
        typer.Option(parser=parse_length, metavar="TOKENS", help="Longest length; default four times the window."),
    ] = None,
) -> None:
    """Print a commented experiment file that fits the model and this machine."""
    from ropewalk.experiment.draft import draft
    from ropewalk.terminal import say

    say(draft(model, length).rstrip("\n"))


@app.command(rich_help_panel=LOOK, epilog=example("schema > experiment.schema.json"))
def schema() -> None:
    """Print the JSON schema of experiment files, from which editors complete and check."""
    from ropewalk.experiment.described import json_schema

    print_json(json_schema())


@app.command(rich_help_panel=LOOK, epilog=example("methods"))
def methods(as_json: JsonFlag = False) -> None:
    """List the methods with their parameters, ranges, defaults and papers."""
    from ropewalk.methods import describe, registered

    found = [describe(name) for name in registered()]
    if as_json:
        return print_json(found)
    table = Table("method", "parameters", "paper", "when to use", show_lines=False, box=None, pad_edge=False)
    for method in found:
        own = [p for p in method["parameters"] if p["name"] not in ("original_max_position_embeddings", "compose")]
        table.add_row(
            method["name"], ", ".join(_parameter(p) for p in own) or "-", method["paper"] or "-", method["summary"]
        )
    Console().print(table)
    return None


def _parameter(parameter: dict[str, Any]) -> str:
    if parameter.get("required"):
        return f"{parameter['name']} ({parameter['range']})"
    return f"{parameter['name']}={json.dumps(parameter['default'])}"


@app.command(rich_help_panel=LOOK, epilog=example("rotation yarn --model strand --length 1024 -p factor=4"))
def rotation(
    method: Annotated[str, typer.Argument(help="A method's name, see `ropewalk methods`.")],
    length: Annotated[int, TARGET_LENGTH],
    model: Annotated[str | None, typer.Option(help="Hub id, directory, .gguf file or built-in name.")] = None,
    rotary_dim: Annotated[int | None, typer.Option(help="Rotated dimensions per head, without a model.")] = None,
    rope_theta: Annotated[float | None, typer.Option(help="Unscaled base, without a model.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Trained window, tokens.")] = None,
    p: ParamList = None,
    as_json: JsonFlag = False,
) -> None:
    """Print one method's inv_freq (rad/token) and attention_factor."""
    import dataclasses

    from ropewalk.methods import find, inlined, make_params, resolve
    from ropewalk.rope import RopeGeometry

    find(method)
    if model is None and (rotary_dim is None or rope_theta is None or window is None):
        raise ExperimentError(
            f"rotation {method}: takes --model MODEL, or --rotary-dim, --rope-theta and --window without one; "
            "add them, such as --model strand."
        )
    params = make_params(method, inlined(method, parse_parameters(p)))
    if model is not None:
        if rotary_dim is not None or rope_theta is not None:
            raise ExperimentError(f"--model {model} already gives rotary_dim and rope_theta; leave one of them out.")
        from ropewalk.models import ModelSpec, read_geometry  # imports torch

        geometry = read_geometry(ModelSpec.parse(model))
        if window is not None:
            geometry = dataclasses.replace(geometry, window_override=window)
    else:
        assert rotary_dim is not None
        assert rope_theta is not None
        assert window is not None
        geometry = RopeGeometry(rotary_dim=rotary_dim, rope_theta=rope_theta, max_position_embeddings=window)
    found = resolve(geometry, method, params, length).rotation
    values = {
        "inv_freq": found.inv_freq.tolist(),
        "attention_factor": found.attention_factor,
        "softmax_factor": found.softmax_factor,
        "fingerprint": found.fingerprint,
    }
    if as_json:
        return print_json(values)
    softmax = "" if found.softmax_factor == 1 else f"  softmax_factor {found.softmax_factor:.6g}"
    print(f"fingerprint {found.fingerprint}  attention_factor {found.attention_factor:.6g}{softmax}")
    for index, (plain, scaled) in enumerate(zip(geometry.unscaled_inv_freq, found.inv_freq, strict=True)):
        ratio = plain / scaled if scaled else float("inf")
        print(
            f"{index:4d}  inv_freq {scaled:.9e}  wavelength {2 * 3.141592653589793 / scaled if scaled else 0:14.2f}"
            f"  lambda {ratio:.6g}"
        )
    return None
