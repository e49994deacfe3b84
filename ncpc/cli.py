"""The command line: options in, the recipe of ``ncpc.pipeline``, one line per phase and a table out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape

from ncpc.comparison import between, lines
from ncpc.errors import EXIT_HOLDS, EXIT_INTERRUPTED, BadInput, MissingTool, NcpcError
from ncpc.job import Request
from ncpc.phases import Phases, Silent
from ncpc.pipeline import Outcome, compile_policy
from ncpc.reopen import simulate_build, verify_build
from ncpc.report import terminal
from ncpc.report.record import dumps
from ncpc.targets import registry
from ncpc.targets.base import TargetOption

T = TypeVar("T")
SCHEMES = ("float32", "int16", "int8")
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Commands(click.Group):
    """Commands listed in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Commands, context_settings=CONTEXT)
def cli() -> None:
    """Compile a trained Neural Circuit Policy for the edge, and prove that what runs there is what was trained.

    A policy file is made by one line at the end of training:
    ncpc.save(model, "policy.safetensors", calibration=x)

    \b
    Exit codes: 0 the verdict holds           1 it does not hold (build and report are kept)
                2 bad usage or input          3 a compiler, emulator or runtime is missing
    """


def main() -> None:
    """Run the command line; every error is one line, never a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of ``ncpc ARGUMENTS``."""
    try:
        code = cli.main(arguments, prog_name="ncpc", standalone_mode=False)
    except NcpcError as error:
        return complain(str(error), error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return complain("interrupted; nothing was written", EXIT_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return BadInput.exit_code
    except click.ClickException as error:
        return complain(error.format_message(), BadInput.exit_code)
    return code if isinstance(code, int) else EXIT_HOLDS


def complain(message: str, code: int) -> int:
    """Say ``message`` on standard error as one line; returns ``code``."""
    console = Console(stderr=True)
    console.print(f"[red]ncpc:[/] {escape(' '.join(message.split()))}", highlight=False, soft_wrap=True)
    return code


def watched(as_json: bool) -> tuple[Phases, Callable[[], None]]:
    """Phases shown on the terminal, or silent ones for machines; and what takes the bar away after an error."""
    if as_json:
        return Phases(Silent()), lambda: None
    lines = terminal.PhaseLines(Console())
    return Phases(lines), lines.stop


class CompileCommand(click.Command):
    """``compile`` with the options that single targets declare; those targets are imported only when it is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *own_options()]


@cache
def own_options() -> tuple[click.Option, ...]:
    """One option for each name that targets declare, with the targets that know it in its help."""
    known: dict[str, tuple[TargetOption, list[str]]] = {}
    for target in registry.names():
        for option in registry.load(target).options:
            known.setdefault(option.name, (option, []))[1].append(target)
    return tuple(_own_option(option, names) for option, names in known.values())


def _own_option(option: TargetOption, targets: list[str]) -> click.Option:
    text = f"{option.help}  [{', '.join(targets)}; default: {option.default or 'none'}]"
    kind = click.Choice(option.choices) if option.choices else click.STRING
    return click.Option([f"--{option.name}", f"own_{option.name.replace('-', '_')}"], type=kind, help=text)


@cli.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--wiring", type=click.Path(path_type=Path), help="Draw the wiring into this SVG or PNG file.")
@click.option("--linearize", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Write the bilinear view (A, B, C) of an LTC around a state.")
@click.option("--around", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="State v and inputs x for --linearize.  [default: settled, inputs in the middle of their ranges]")
@click.option("--solver-study", is_flag=True, help="Show error against unfolds and cost, for every solver.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(
    policy: Path, wiring: Path | None, linearize: Path | None, around: Path | None, solver_study: bool, as_json: bool
) -> None:
    """Show what a policy holds: neurons by role, synapses, parameters, state ranges, cost of a step.

    \b
    Examples:
      ncpc inspect policy.safetensors
      ncpc inspect policy.safetensors --wiring wiring.svg
      ncpc inspect policy.safetensors --solver-study
      ncpc inspect policy.safetensors --linearize bilinear.npz
    """
    if around is not None and linearize is None:
        raise BadInput("--around: it says where --linearize is taken; give that too, or leave it out")
    if linearize is not None:
        from ncpc.linearization import write_linearization

        click.echo(f"{linearize}: {write_linearization(policy, linearize, around)}")
        return
    from ncpc.inspection import draw_wiring, inspection, inspection_tables, study
    from ncpc.report.solver_study import study_table

    if solver_study:
        result = study(policy)
        click.echo(json.dumps(result, indent=1)) if as_json else Console().print(study_table(result))
        return
    found = inspection(policy)
    if wiring is not None:
        draw_wiring(policy, wiring)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for table in inspection_tables(found):
        Console().print(table)


@cli.command("compile", cls=CompileCommand)
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--target", "-t", "targets", default="host", show_default=True, metavar="NAME[,NAME...]",
              help="What to compile for; several get a subfolder each. See 'ncpc targets'.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR", help="The build folder; an earlier build in it is replaced.")
@click.option("--quant", type=click.Choice(SCHEMES),
              help="Arithmetic: 32-bit float, or integers with 16- or 8-bit weights, inputs and outputs.  "
                   "[default: int16, where the target has number formats]")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Calibration data (x, optional dt and reset) instead of the policy's own.")
@click.option("--dt", type=click.Choice(("fixed", "runtime")),
              help="Compile the nominal timespan in, or make it an input of each step.  [default: runtime if the "
                   "policy declares a range]")
@click.option("--cc", default="zig", show_default=True, metavar="zig|PATH", help="The C compiler.")
@click.option("--tolerance", type=float, metavar="X",
              help="Largest error allowed, as a fraction of the float output range.  [default: 1e-5 for float32, "
                   "2e-3 for int16, 5e-2 for int8; 2e-2 for target nir]")
@click.option("--strict", is_flag=True, help="The search for the worst input counts towards the verdict.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps run for every link.  [default: the target's]")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON instead of phases and table.")
def compile_command(
    policy: Path, targets: str, out: Path, quant: Any, calibrate: Path | None, dt: Any, cc: str,
    tolerance: float | None, strict: bool, steps: int | None, as_json: bool, **own: str | None,
) -> int:
    """Quantize, lower, emit, build, simulate, verify and report.

    \b
    Examples:
      ncpc compile policy.safetensors
      ncpc compile policy.safetensors --target cortex-m4 -o build/
      ncpc compile policy.safetensors --target host,cortex-m4,rv32imc-ibex --quant int8 --tolerance 0.1
      ncpc compile policy.safetensors --quant float32 --dt runtime --json > report.json
    """
    names = [name.strip() for name in targets.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise BadInput(f"--target {targets}: give target names, each once, with commas between them")
    for name in names:
        registry.load(name)
    extra = {o.opts[0].removeprefix("--"): text for o in own_options() if (text := own[str(o.name)]) is not None}
    _require_owned(extra, names)
    requests = [Request(name, quant, dt, cc, tolerance, strict, steps, extra) for name in names]
    folders = [out / name for name in names] if len(names) > 1 else [out]

    def each(request: Request, folder: Path) -> Outcome:
        return _watched(as_json, lambda phases: compile_policy(
            policy, folder, request, calibrate=calibrate, phases=phases))

    outcomes = [each(request, folder) for request, folder in zip(requests, folders, strict=True)]
    _show(outcomes, as_json)
    if not as_json:
        for outcome in outcomes:
            click.echo(f"{outcome.folder}/report.html")
    return _code(outcomes)


def _require_owned(given: dict[str, str], names: list[str]) -> None:
    """Raises BadInput for an option that none of the targets has: it would do nothing."""
    for option in given:
        having = [target for target in registry.names() if option in {o.name for o in registry.load(target).options}]
        if not set(having) & set(names):
            raise BadInput(f"--{option}: an option of {', '.join(having)}, not of {', '.join(names)}; leave it out")


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Inputs to verify on (x, optional dt and reset).  [default: generated sequences]")
@click.option("--tolerance", type=float, metavar="X", help="Instead of the tolerance it was compiled with.")
@click.option("--strict", is_flag=True, help="The search for the worst input counts towards the verdict.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps run for every link, generated inputs.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    build: Path, inputs: Path | None, tolerance: float | None, strict: bool, steps: int | None, as_json: bool
) -> int:
    """Verify a build again, on other data; exit code 0 only if the verdict holds. Writes nothing.

    \b
    Examples:
      ncpc verify build/
      ncpc verify build/ --inputs log.npz
      ncpc verify build/ --steps 10000 --strict
    """
    outcome = _watched(as_json, lambda phases: verify_build(
        build, inputs, tolerance=tolerance, strict=strict or None, steps=steps, phases=phases))
    _show([outcome], as_json)
    return _code([outcome])


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Inputs to run (x, optional dt and reset).  [default: generated sequences]")
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True, metavar="N",
              help="Steps to run where no inputs are given.")
@click.option("--out", "-o", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Write outputs, states, cycles and instructions of every step.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def simulate(build: Path, inputs: Path | None, steps: int, out: Path | None, as_json: bool) -> None:
    """Run the deployed binary: outputs, cycles, profile.

    \b
    Examples:
      ncpc simulate build/
      ncpc simulate build/ --inputs log.npz -o outputs.npz
    """
    from ncpc.inspection import run_record, run_tables, write_run

    result, data = _watched(as_json, lambda phases: simulate_build(build, inputs, steps=steps, phases=phases))
    if out is not None:
        write_run(result, data, out)
    if as_json:
        click.echo(json.dumps(run_record(result, data), indent=1))
        return
    for table in run_tables(run_record(result, data)):
        Console().print(table)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def targets(as_json: bool) -> None:
    """Show what can be compiled to, and what is needed and installed for each."""
    from ncpc.inspection import target_records, target_table

    records = target_records()
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    Console().print(target_table(records))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def consumers(as_json: bool) -> None:
    """Show which simulators of NIR files are installed, and what each makes of a recurrent graph, by running one."""
    from ncpc.inspection import consumer_notes, consumer_records, consumer_table

    records = consumer_records()
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    Console().print(consumer_table(records))
    for note in consumer_notes(records):
        click.echo(note)


@cli.command("import")
@click.argument("source")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE",
              help="Checkpoint to load into what the factory returns; tensors only.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default=Path("policy.safetensors"), show_default=True,
              metavar="FILE", help="The policy file to write.")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="FILE.npz", help="Typical inputs (x).")
@click.option("--input-range", nargs=2, type=float, metavar="LO HI", help="Range of every input, instead of data.")
@click.option("--dt", nargs=2, type=float, metavar="LO HI", default=(1.0, 1.0), show_default=True,
              help="Timespans the policy may meet, in the unit of training.")
@click.option("--clip-negative", is_flag=True, help="Clip negative w, cm and gleak to 0.")
@click.option("--trust-pickle", is_flag=True, help="Unpickle the weights file. This runs code that the file contains.")
@click.option("--unfolds", type=click.IntRange(1), metavar="N", help="For weights alone: solver steps (ncps: 6).")
@click.option("--constraints", type=click.Choice(["implicit", "explicit"]),
              help="For a checkpoint alone: softplus on its weights (ncps: implicit for LTC) or not (LTCCell).")
@click.option("--epsilon", type=click.FloatRange(0), metavar="E", help="For weights alone (ncps: 1e-8).")
@click.option("--outputs", type=click.IntRange(1), metavar="N",
              help="For weights alone that have no output mapping: how many neurons are outputs.")
def import_command(
    source: str, weights: Path | None, out: Path, calibrate: Path | None, input_range: tuple[float, float] | None,
    dt: tuple[float, float], clip_negative: bool, trust_pickle: bool, **unsaid: Any,
) -> None:
    """Make a policy file from a Keras file, a checkpoint, or your own code.

    SOURCE is a model.keras or model.h5 file, or a checkpoint of an ncps LTC (.pt, .safetensors), of which nothing is
    executed; or package.module:function, without arguments. That function is run; it returns the module (or an ordered
    list of modules), and --weights are loaded into it.

    \b
    Examples:
      ncpc import model.keras --calibrate data.npz -o policy.safetensors
      ncpc import training.model:make --weights checkpoint.pt --calibrate data.npz -o policy.safetensors
      ncpc import ltc.pt --constraints implicit --unfolds 6 --epsilon 1e-8 --calibrate data.npz
    """
    from ncpc.frontend.api import save
    from ncpc.frontend.source import Unsaid, read_source

    model = read_source(source, weights=weights, trust_pickle=trust_pickle, unsaid=Unsaid(**unsaid))
    policy = save(model, out, calibration=calibrate, input_range=input_range or None, dt=dt,
                  clip_negative=clip_negative)
    click.echo(f"{out}: {policy.inputs} inputs, {policy.outputs} outputs, "
               f"layers {', '.join(layer.kind for layer in policy.layers)}")


def _watched(as_json: bool, work: Callable[[Phases], T]) -> T:
    phases, stop = watched(as_json)
    try:
        return work(phases)
    finally:
        stop()


def _show(outcomes: list[Outcome], as_json: bool) -> None:
    """Reports as JSON (several targets: ``reports`` and ``between``, the distances), or as a table with remarks."""
    reports = [outcome.report for outcome in outcomes]
    distances = between(outcomes)
    if as_json:
        click.echo(dumps(reports[0] if len(reports) == 1 else {"reports": reports, "between": distances}), nl=False)
        return
    console = Console()
    console.print(terminal.result_table(reports))
    remarks = [line for report in reports for line in terminal.explanations(report)]
    for line in ("[dim]errors are given in % of the output range[/]", *remarks, *lines(distances)):
        console.print(line, highlight=False, soft_wrap=True)


def _code(outcomes: list[Outcome]) -> int:
    """The worst exit code."""
    codes = [outcome.exit_code for outcome in outcomes]
    return next((code for code in (1, MissingTool.exit_code) if code in codes), EXIT_HOLDS)
