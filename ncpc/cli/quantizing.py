"""``ncpc quantize``: the options, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ncpc.cli.display import watch
from ncpc.cli.option_types import NewFile, PositiveNumber, SchemeName
from ncpc.driver.job import Request, to_json
from ncpc.errors import BadInput, Interrupted
from ncpc.ir.schemes import SCHEMES
from ncpc.report.record import Json
from ncpc.report.terminal import share
from ncpc.targets import registry

TRAINING = ("epochs", "batch", "window", "rate", "patience", "seed")


@click.command("quantize")
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=NewFile(), required=True, metavar="FILE", help="The policy file to write.")
@click.option("--quant", type=SchemeName("integer"), default="w8a16", show_default=True,
              help="Which integers, as 'ncpc compile' has them.")
@click.option("--target", "-t", default="host", show_default=True, metavar="NAME",
              help="What it is for: a scheme that the target cannot run is refused. See 'ncpc targets'.")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Calibration data (x, optional dt) instead of the policy's own.")
@click.option("--fine-tune", is_flag=True,
              help="Train on the grids to do what POLICY, a single LTC, does over the reals on its calibration data.")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="With --fine-tune: passes over the data.  [20]")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="With --fine-tune: sequences at a time.  [16]")
@click.option("--window", type=click.IntRange(1), metavar="N", help="With --fine-tune: steps of an update.  [32]")
@click.option("--rate", type=PositiveNumber(), metavar="X",
              help="With --fine-tune: how fast.  [0.0005]")
@click.option("--patience", type=click.IntRange(1), metavar="N",
              help="With --fine-tune: epochs without a smaller error after which it ends.  [10]")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="With --fine-tune: the same seed, the same weights.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of phases and tables.")
def quantize_command(policy: Path, out: Path, quant: Any, target: str, calibrate: Path | None, fine_tune: bool,
                     as_json: bool, **options: Any) -> None:
    """Choose the integers of a policy, fine-tune it on their grids, and write it as a policy file.

    The table says of every weight tensor what it is held in and what rounding it alone costs, as shares of the output
    range. Compiling the file for the same scheme gives the integers that were chosen. Of a training that is interrupted
    FILE.tuning.pt stays, from which the same command goes on and ends with the same file.

    \b
    Examples:
      ncpc quantize policy.safetensors -o small.safetensors --quant w8a16 --target cortex-m4
      ncpc quantize policy.safetensors -o small.safetensors --quant w4a16 --fine-tune --epochs 30
      ncpc quantize policy.safetensors -o small.safetensors --calibrate log.npz --quant w8a8 --json > record.json
      ncpc compile small.safetensors --target cortex-m4 -o build/
    """
    from ncpc.driver.quantizing import quantize_policy

    given = {name: options[name] for name in TRAINING if options[name] is not None}
    if given and not fine_tune:
        raise BadInput(f"--{next(iter(given))}: it goes with --fine-tune; give that too, or leave it out")
    registry.load(target)
    request, checkpoint = Request(target, quant), out.with_name(f"{out.name}.tuning.pt")
    try:
        found = watch(as_json, lambda phases: quantize_policy(
            policy, out, request, calibrate=calibrate, training=given if fine_tune else None, checkpoint=checkpoint,
            phases=phases))
    except KeyboardInterrupt:
        kept = f"{checkpoint} is kept, and the same command goes on" if checkpoint.exists() else "nothing was written"
        raise Interrupted(f"interrupted; {kept}") from None
    checkpoint.unlink(missing_ok=True)
    if as_json:
        click.echo(to_json(found.record).decode(), nl=False)
        return
    console = Console()
    console.print(tensor_table(found.record))
    for line in lines(found.record, out, target):
        console.print(line, highlight=False, soft_wrap=True)


def tensor_table(record: Json) -> Table:
    """Every weight tensor: bits, scale, and what rounding it alone costs, before training and after."""
    table = Table("layer", "tensor", "bits", "fraction", "max", "rms", "tuned: max", "rms",
                  title=f"{record['scheme']}: one rounding at a time, of the output range", title_justify="left")
    after = record["fine_tuned"]
    tuned = {(one["layer"], one["tensor"]): one for one in after["tensors"]} if after else {}
    for one in record["rounded"]["tensors"]:
        low, high = (f"{one[end]:.4g}" for end in ("coarsest", "finest"))
        other = tuned.get((one["layer"], one["tensor"]), {})
        table.add_row(str(one["layer"]), one["tensor"], str(one["bits"]), low if low == high else f"{low} to {high}",
                      *(_share(found.get(name)) for found in (one, other) for name in ("max_range", "rms_range")))
    if SCHEMES[record["scheme"]].together:
        table.caption = "weights are rounded together: alone, what makes up for others costs more than all do"
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3%}"


def lines(record: Json, out: Path, target: str) -> list[str]:
    """What all roundings together cost, which of both was kept, and the command that compiles it."""
    said = [f"{words}: {share(found['max_range'])} largest, {share(found['rms_range'])} rms, {record['steps']:,} steps"
            for words, found in (("rounded", record["rounded"]), ("fine-tuned", record["fine_tuned"])) if found]
    if record["training"] is not None and record["kept"] == "rounded":
        said.append("training found nothing better on what it holds out: the policy is kept as it was rounded")
    return [*said, f"ncpc compile {out} --target {target} --quant {record['scheme']}"]
