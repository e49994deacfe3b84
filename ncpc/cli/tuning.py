"""``ncpc tune``: the options, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from ncpc.cli.display import watch
from ncpc.cli.option_types import ShareOfRange
from ncpc.cli.own_options import OwnOptionsCommand, given_options
from ncpc.driver.job import MOST_STEPS, Request, to_json
from ncpc.errors import BadInput, Interrupted
from ncpc.targets import registry
from ncpc.tuning.budgets import parse_budgets
from ncpc.tuning.choice import Demands, Search
from ncpc.verification.data import Counting


@click.command("tune", cls=OwnOptionsCommand)
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--target", "-t", default="host", show_default=True, metavar="NAME", help="See 'ncpc targets'.")
@click.option("--tolerance", type=ShareOfRange(), required=True, metavar="X",
              help="Largest error allowed against POLICY in float64, a share of its output range: 0.5% or 0.005.")
@click.option("--budget", default="", metavar="NAME=N,...",
              help="The most that a build may cost: flash and ram in bytes (k: 1024; ram: static state and the deepest "
                   "stack of a step), cycles of a step (k: 1000; the upper bound of the largest seen). Of a graph: "
                   "bytes of the emitted files.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default=Path("build"), show_default=True, metavar="DIR",
              help="The folder of the study and of what was chosen. A study of the same that is there is gone on with.")
@click.option("--trials", type=click.IntRange(1), default=Search().trials, show_default=True, metavar="N",
              help="Points to measure, those of earlier runs among them. Where there are no more, all are, in order.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS",
              help="Begin no point after so long; the same command goes on.")
@click.option("--seed", type=click.IntRange(0, 10**6), default=0, show_default=True, metavar="N",
              help="Of what is sampled: the same seed, the same points.")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Calibration data (x, optional dt and reset) instead of the policy's own.")
@click.option("--dt", type=click.Choice(("fixed", "runtime")), help="As 'ncpc compile' has it.")
@click.option("--cc", default=Request.cc, show_default=True, metavar="zig|PATH", help="The C compiler.")
@click.option("--verdict", type=click.Choice(get_args(Counting)), default=Request.verdict,
              show_default=True, help="What counts, as 'ncpc compile' has it.")
@click.option("--steps", type=click.IntRange(1, MOST_STEPS), metavar="N",
              help="Generated steps run for every link.  [default: the target's]")
@click.option("--json", "as_json", is_flag=True, help="Print tune.json instead of phases and tables.")
def tune_command(
    policy: Path, target: str, tolerance: float, budget: str, out: Path, trials: int, timeout: float | None, seed: int,
    calibrate: Path | None, dt: Any, cc: str, verdict: Any, steps: int | None, as_json: bool, **own: Any,
) -> int:
    """Find the number scheme, the unfolds and the synapses that a budget allows; 0 only if it is met.

    Every point is compiled for the target, run as it would run there, and compared with POLICY as it was given. The
    options of a target are held at what is given here; those of them that only lay code out otherwise are tried.

    \b
    Examples:
      ncpc tune policy.safetensors --target cortex-m4 --tolerance 0.5% --budget flash=8k,cycles=12k,ram=2k -o build/
      ncpc tune policy.safetensors --target cortex-m4 --tolerance 0.5% --trials 200 --timeout 3600 -o build/
      ncpc tune policy.safetensors --target onnx --tolerance 1% --json > tune.json
    """
    from ncpc.tuning import tables
    from ncpc.tuning.study import JOURNAL
    from ncpc.tuning.tune import tune_policy

    registry.load(target)
    request = Request(target, None, dt, cc, tolerance, verdict, steps, extra=given_options(own, [target]))
    if "rate-hz" in request.extra:
        raise BadInput("--rate-hz: 'ncpc tune' holds cycles instead: --budget cycles=N, N being the clock by the rate")
    demands, search = Demands(tolerance, parse_budgets(budget)), Search(trials, timeout, seed)
    try:
        found = watch(as_json, lambda phases: tune_policy(policy, out, request, demands, search, calibrate, phases))
    except KeyboardInterrupt:
        kept = "the points measured so far are kept, and the same command goes on"
        raise Interrupted(f"interrupted; {kept if (out / JOURNAL).exists() else 'nothing was written'}") from None
    if as_json:
        click.echo(to_json(found.record).decode(), nl=False)
        return found.exit_code
    console = Console()
    for table in (*tables.sensitivity_tables(found.record), tables.front_table(found.record)):
        console.print(table)
    for line in tables.lines(found.record, str(out)):
        console.print(line, highlight=False, soft_wrap=True)
    return found.exit_code
