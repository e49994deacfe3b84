"""The command line: options in, the recipe of ``ncpc.driver.pipeline``, one line per phase and a table out."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from rich.console import Console
from rich.markup import escape

from ncpc.cli.carrying import carried, carry_option, head_option
from ncpc.cli.display import show, watch, worst_code
from ncpc.cli.importing import import_command
from ncpc.cli.option_types import NewFile, SchemeName, SecondsOrOff, ShareOfRange
from ncpc.cli.own_code import policy_of
from ncpc.cli.own_options import OwnOptionsCommand, given_options, on_board
from ncpc.cli.quantizing import quantize_command
from ncpc.cli.tuning import tune_command
from ncpc.driver.job import MOST_STEPS, PROVING, Request, counting
from ncpc.driver.pipeline import Outcome, compile_policy, ready
from ncpc.driver.reopen import simulate_build, verify_build
from ncpc.errors import EXIT_HOLDS, EXIT_INTERRUPTED, BadInput, NcpcError
from ncpc.system import interruption, streams
from ncpc.system.crash import unforeseen
from ncpc.targets import registry
from ncpc.targets.c.projects.kinds import told
from ncpc.verification.data import Counting

T = TypeVar("T")
STEPS = click.IntRange(1, MOST_STEPS)
INTERRUPTED = "interrupted; nothing was written"
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Commands(click.Group):
    """Commands listed in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="ncpc", message="ncpc %(version)s")
def cli() -> None:
    """Compile a trained Neural Circuit Policy for the edge, and prove that what runs there is what was trained.

    A policy file is made by one line at the end of training:
    ncpc.save(model, "policy.safetensors", calibration=x)

    \b
    Exit codes: 0 the verdict holds           1 it does not hold (build and report are kept)
                2 bad usage or input          3 a compiler, emulator or runtime that is required is missing
                4 a proof that was asked for is not decided
               70 an error of ncpc's own (details in a file that is named)       130 interrupted
    """


def main() -> None:
    """Run the command line; every error is one line, never a traceback."""
    sys.exit(streams.flushed(run(sys.argv[1:])))


def run(arguments: list[str]) -> int:
    """The exit code of ``ncpc ARGUMENTS``: 130 if it was interrupted, whatever that looked like further down."""
    with interruption.watched():
        code = _run(arguments)
        return complain(INTERRUPTED, EXIT_INTERRUPTED) if interruption.seen() and code != EXIT_INTERRUPTED else code


def _run(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, prog_name="ncpc", standalone_mode=False)
    except NcpcError as error:
        return complain(str(error), error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return complain(INTERRUPTED, EXIT_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return BadInput.exit_code
    except click.ClickException as error:
        return complain(error.format_message(), BadInput.exit_code)
    except (Exception, SystemExit) as error:
        message, code = (INTERRUPTED, EXIT_INTERRUPTED) if interruption.seen() else unforeseen(arguments, error)
        return complain(message, code) if message else code
    return code if isinstance(code, int) else EXIT_HOLDS


def complain(message: str, code: int) -> int:
    """Say ``message`` on standard error as one line; returns ``code``. After Ctrl-C the error is the interruption."""
    if interruption.seen() and code != EXIT_INTERRUPTED:
        message, code = INTERRUPTED, EXIT_INTERRUPTED
    console = Console(stderr=True)
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))  # a path may hold ESC
    with suppress(OSError):  # where nothing can be said, the exit code still is
        console.print(f"[red]ncpc:[/] {escape(line)}", highlight=False, soft_wrap=True)
    return code


@cli.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--wiring", type=NewFile(), help="Draw the wiring into this SVG or PNG file.")
@click.option("--linearize", type=NewFile(), metavar="FILE.npz",
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
        from ncpc.inspect.linearization import write_linearization

        click.echo(f"{linearize}: {write_linearization(policy, linearize, around)}")
        return
    from ncpc.inspect.policies import draw_wiring, inspection, inspection_tables, study
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


counts_option = click.option(
    "--verdict", "counts", type=click.Choice(get_args(Counting)),
    help="What counts: your own data, generated sequences too, the search for the worst input too. The rest is shown "
         "for information.  [default: data+generated; generated alone, where the policy carries no data]")


@cli.command("compile", cls=OwnOptionsCommand)
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--target", "-t", "targets", default="host", show_default=True, metavar="NAME[,NAME...]",
              help="What to compile for; several get a subfolder each. See 'ncpc targets'.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR",
              help="The build folder; an earlier build of this policy (by its name) for this target is replaced.")
@click.option("--force", is_flag=True, help="Replace the build of another policy or target too.")
@click.option("--quant", type=SchemeName("float", "integer"),
              help="Arithmetic: 32-bit float, or integers: weights, inputs and outputs of 16 bits, weights of 8 "
                   "or 4 bits beside 16-bit values (w8a16, w4a16), all of 8 bits (int8, also called w8a8).  "
                   "[default: that of 'ncpc quantize', else int16, where the target has number formats]")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Calibration data (x, optional dt and reset) instead of the policy's own.")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="FILE",
              help="The weights, where POLICY is your own code: package.module:Class, or a factory of a module.")
@carry_option
@head_option
@click.option("--dt", type=click.Choice(("fixed", "runtime")),
              help="Compile the nominal timespan in, or make it an input of each step.  [default: runtime if the "
                   "policy declares a range]")
@click.option("--cc", default="zig", show_default=True, metavar="zig|PATH", help="The C compiler.")
@click.option("--tolerance", type=ShareOfRange(), metavar="X",
              help="Largest error allowed, a share of the float output range: 0.5% or 0.005.  [default: 0.001% for "
                   "float32, 0.2% for int16, 1% for w8a16, 5% for w4a16 and int8; 2% for target nir]")
@counts_option
@click.option("--strict", is_flag=True, help="The same as --verdict all.")
@click.option("--steps", type=STEPS, metavar="N", help="Steps run for every link.  [default: the target's]")
@click.option("--certify", type=click.Choice(("range", "error", "none")), default="range", show_default=True,
              help="What integer C is certified for: range, that nothing in it can overflow; error, of an LTC, how far "
                   "its outputs can ever be off too. See 'ncpc certify'.")
@click.option("--prove", type=SecondsOrOff(), default=PROVING, show_default=True, metavar="SECONDS|off",
              help="For how long the proof is tried that a core's integer step is the program, for every input and "
                   "state. See 'ncpc prove'.")
@click.option("--board-file", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="A board of your own, instead of --board: chip, clock_hz, flash_bytes, ram_bytes, and wait_states "
                   "where you know them.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON instead of phases and table.")
def compile_command(
    policy: Path, targets: str, out: Path, force: bool, quant: Any, calibrate: Path | None, checkpoint: Path | None,
    dt: Any, cc: str, tolerance: float | None, counts: Any, strict: bool, steps: int | None, certify: Any, prove: Any,
    board_file: Path | None, as_json: bool, carry: tuple[str, ...], heads: tuple[str, ...], **own: Any,
) -> int:
    """Quantize, lower, emit, build, simulate, verify and report.

    POLICY is a policy file; or your own code, package.module:Class, or an ONNX file, of which a policy is made as 'ncpc
    import' does.

    \b
    Examples:
      ncpc compile policy.safetensors
      ncpc compile train:RobotPolicy --checkpoint last.ckpt --calibrate log.npz -t cortex-m4 -o build/
      ncpc compile model.onnx --carry hidden=hidden_out --head action --calibrate log.npz -t cortex-m4 -o build/
      ncpc compile policy.safetensors --target cortex-m4 -o build/
      ncpc compile policy.safetensors --target host,cortex-m4,rv32imc-ibex --quant int8 --tolerance 0.1
      ncpc compile policy.safetensors --board nucleo-l4r5 --rate-hz 50 -o build/
      ncpc compile policy.safetensors --quant float32 --dt runtime --json > report.json
    """
    targets, own = on_board(targets, own, board_file)
    names = [name.strip() for name in targets.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise BadInput(f"--target {targets}: give target names, each once, with commas between them")
    for name in names:
        registry.load(name)
    extra = given_options(own, names)
    what = counting(counts, strict) or "data+generated"
    requests = [Request(name, quant, dt, cc, tolerance, what, steps, certify, prove, extra) for name in names]
    folders = [out / name for name in names] if len(names) > 1 else [out]
    source, calibrate = policy_of(policy, checkpoint, calibrate, carried(carry), heads, as_json)

    def each(request: Request, folder: Path) -> Outcome:
        return watch(as_json, lambda phases: compile_policy(
            source, folder, request, calibrate=calibrate, force=force, phases=phases))

    for request, folder in zip(requests, folders, strict=True) if len(names) > 1 else ():
        ready(source, folder, request, calibrate, force)
    outcomes = [each(request, folder) for request, folder in zip(requests, folders, strict=True)]
    show(outcomes, as_json)
    if not as_json:
        for outcome in outcomes:
            click.echo(f"{outcome.folder}/report.html")
            for line in told(outcome.folder, extra.get("project", "")):
                click.echo(line)
    return worst_code(outcomes)


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Data of your own to verify on too (x, optional dt, reset, and y: what your system gave).")
@click.option("--tolerance", type=ShareOfRange(), metavar="X", help="Instead of the tolerance it was compiled with.")
@counts_option
@click.option("--strict", is_flag=True, help="The same as --verdict all.")
@click.option("--steps", type=STEPS, metavar="N", help="Steps run for every link, generated inputs.")
@click.option("--key", metavar="FILE|RW...", help="The build must be signed by this public key of minisign.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    build: Path, inputs: Path | None, tolerance: float | None, counts: Any, strict: bool, steps: int | None,
    key: str | None, as_json: bool,
) -> int:
    """Verify a build again, on other data; exit code 0 only if the verdict holds. Writes nothing.

    \b
    Examples:
      ncpc verify build/
      ncpc verify build/ --inputs log.npz
      ncpc verify build/ --key team.pub
      ncpc verify build/ --steps 10000 --strict
    """
    outcome = watch(as_json, lambda phases: verify_build(
        build, inputs, tolerance=tolerance, verdict=counts, strict=strict, steps=steps, key=key, phases=phases))
    show([outcome], as_json)
    return worst_code([outcome])


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A secret key of minisign.")
def sign(build: Path, key: Path) -> None:
    """Sign a build: SHA256SUMS, the hash of every file, and a detached minisign signature of that list.

    \b
    Examples:
      ncpc sign build/ --key team.key
      ncpc verify build/ --key team.pub
    """
    from ncpc.driver.signing import sign_build

    click.echo(sign_build(build, key, lambda: str(click.prompt(f"Password of {key}", hide_input=True, err=True))))


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--error", is_flag=True, help="0 only if a bound is proved of how far outputs can ever be off.")
@click.option("--out", "-o", type=NewFile(), metavar="FILE", help="--error: write its certificate.")
@click.option("--check", type=click.Path(path_type=Path), metavar="FILE", help="--error: check this one, search none.")
def certify(build: Path, error: bool, out: Path | None, check: Path | None) -> int:
    """Check the certificate of integer C, as 'python3 build/certify.py' does: 0 only if nothing can ever overflow.

    \b
    Examples:
      ncpc certify build/
      ncpc certify build/ --error -o error_certificate.json
      ncpc certify build/ --error --check error_certificate.json
    """
    from ncpc.driver.error_certification import certified

    code, text = watch(False, lambda phases: certified(build, error, out, check, phases))
    click.echo(text, nl=False)
    return code


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--elf", type=click.Path(path_type=Path), metavar="FILE",
              help="A program of your own that the build's C was linked into, instead of the build's: its symbols "
                   "kept, the step a function that is not inlined.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long the proof may take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def prove(build: Path, elf: Path | None, seconds: float, as_json: bool) -> int:
    """Prove that the linked step is the Program: for every input, every dt, every state.

    Exit code 0: proved; 1: it differs, an input that shows it is printed; 4: not decided.

    \b
    Examples:
      ncpc prove build/
      ncpc prove build/ --elf firmware.elf
      ncpc prove build/ --seconds 300 --json
    """
    from ncpc.driver.proving import prove_build, record, words

    found = watch(as_json, lambda phases: prove_build(build, seconds, elf, phases))
    click.echo(json.dumps(record(found), indent=1) if as_json else "\n".join(words(found)))
    return found.exit_code


@cli.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Inputs to run (x, optional dt and reset).  [default: generated sequences]")
@click.option("--steps", type=STEPS, default=1000, show_default=True, metavar="N",
              help="Steps to run where no inputs are given.")
@click.option("--out", "-o", type=NewFile(), metavar="FILE.npz",
              help="Write outputs, states, cycles and instructions of every step.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def simulate(build: Path, inputs: Path | None, steps: int, out: Path | None, as_json: bool) -> None:
    """Run the deployed binary: outputs, cycles, profile.

    \b
    Examples:
      ncpc simulate build/
      ncpc simulate build/ --inputs log.npz -o outputs.npz
    """
    from ncpc.inspect.runs import run_record, run_tables, write_run

    result, data = watch(as_json, lambda phases: simulate_build(build, inputs, steps=steps, phases=phases))
    if out is not None:
        write_run(result, data, out)
    if as_json:
        click.echo(json.dumps(run_record(result, data), indent=1))
        return
    for table in run_tables(run_record(result, data)):
        Console().print(table)


@cli.command()
@click.option("--boards", is_flag=True, help="The boards that 'ncpc compile --board NAME' knows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def targets(boards: bool, as_json: bool) -> None:
    """Show what can be compiled to, and what is needed and installed for each."""
    from ncpc.inspect.targets import board_records, board_table, target_records, target_table

    records = board_records() if boards else target_records()
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    Console().print(board_table(records) if boards else target_table(records))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def consumers(as_json: bool) -> None:
    """Show which simulators of NIR files are installed, and what each makes of a recurrent graph, by running one."""
    from ncpc.inspect.targets import consumer_notes, consumer_records, consumer_table

    records = consumer_records()
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    Console().print(consumer_table(records))
    for note in consumer_notes(records):
        click.echo(note)


cli.add_command(import_command)
cli.add_command(quantize_command)
cli.add_command(tune_command)
