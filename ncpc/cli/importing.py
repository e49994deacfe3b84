"""``ncpc import``: a policy file from an ONNX file, a Keras file, a checkpoint, or the user's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ncpc.cli.carrying import carried, carry_option, head_option
from ncpc.cli.option_types import FixedSolver, NewFile
from ncpc.ir.gated import ACTIVATIONS


@click.command("import")
@click.argument("source")
@click.option("--weights", "--checkpoint", "weights", type=click.Path(path_type=Path), metavar="FILE",
              help="Checkpoint to load into what the factory returns, or the class makes; tensors and values only.")
@click.option("--out", "-o", type=NewFile(), default=Path("policy.safetensors"), show_default=True,
              metavar="FILE", help="The policy file to write.")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="FILE.npz", help="Typical inputs (x).")
@click.option("--input-range", nargs=2, type=float, metavar="LO HI", help="Range of every input, instead of data.")
@click.option("--dt", nargs=2, type=float, metavar="LO HI",
              help="Timespans the policy may meet, in the unit of training.  [default: those of the calibration; "
                   "without any 1.0, and the policy says that this is assumed]")
@click.option("--clip-negative", is_flag=True, help="Clip negative w, cm and gleak to 0.")
@click.option("--trust-pickle", is_flag=True, help="Unpickle the weights file. This runs code that the file contains.")
@carry_option
@head_option
@click.option("--key", metavar="NAME", help="Which dictionary of a checkpoint, where it holds several: agent.actor.")
@click.option("--prefix", metavar="P", help="How names of weights begin, where others stand beside them: model.")
@click.option("--unfolds", type=click.IntRange(1), metavar="N", help="For weights alone: solver steps (ncps: 6).")
@click.option("--constraints", type=click.Choice(["implicit", "explicit"]),
              help="For a checkpoint alone: softplus on its weights (ncps: implicit for LTC) or not (LTCCell).")
@click.option("--epsilon", type=click.FloatRange(0), metavar="E", help="For weights alone (ncps: 1e-8).")
@click.option("--outputs", type=click.IntRange(1), metavar="N",
              help="For weights alone that have no output mapping: how many neurons are outputs.")
@click.option("--mode", type=click.Choice(["default", "no_gate"]), help="For weights of a CfC alone (ncps: default).")
@click.option("--activation", type=click.Choice(ACTIVATIONS),
              help="For weights of a CfC alone: in its backbone (ncps: lecun_tanh).")
@click.option("--nonlinearity", type=click.Choice(["tanh", "relu"]), help="For weights of an RNN alone (torch: tanh).")
@click.option("--layers", metavar="A,B,...",
              help="For weights of several modules alone: their order, with the functions between: fc,tanh,rnn,head.")
@click.option("--architecture", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="For weights of a whole Keras network alone (.h5): its layers in order, and how each is run.")
@click.option("--solver", type=FixedSolver(), metavar="METHOD:N",
              help="For an --architecture with an adaptive solver: N steps of euler, heun, rk38 or rk4 instead.")
@click.option("--draft", type=NewFile(), metavar="FILE.toml",
              help="Write what such weights tell of it into this file, to be completed; import nothing.")
def import_command(
    source: str, weights: Path | None, out: Path, calibrate: Path | None, input_range: tuple[float, float] | None,
    dt: tuple[float, float] | None, clip_negative: bool, trust_pickle: bool, key: str | None, prefix: str | None,
    draft: Path | None, carry: tuple[str, ...], heads: tuple[str, ...], **unsaid: Any,
) -> None:
    """Make a policy file from an ONNX file, a Keras file, a checkpoint, or your own code.

    SOURCE is an ONNX file of any framework, of one step or of sequences: each state that it takes and gives is named by
    --carry, and the policy is compared with ONNX Runtime on that file. Or it is a model.keras or model.h5 file, or a
    checkpoint (.pt, .safetensors) of LTC, CfC, LSTM, GRU, RNN and Linear modules, of which nothing is
    executed; what it does not say is asked for. Or it is package.module:function, without arguments. That function is
    run; it returns the module (or an ordered list of modules), and --weights are loaded into it, under whatever names a
    trainer or torch.compile has put them. A class, package.module:Class, is made of the hyper_parameters that stand in
    the checkpoint, as Lightning writes them.

    \b
    Examples:
      ncpc import model.onnx --carry hidden=hidden_out --carry cell=cell_out --calibrate data.npz
      ncpc import model.keras --calibrate data.npz -o policy.safetensors
      ncpc import training.model:make --weights checkpoint.pt --calibrate data.npz -o policy.safetensors
      ncpc import training.model:RobotPolicy --weights last.ckpt --calibrate data.npz -o policy.safetensors
      ncpc import cfc.pt --mode default --activation lecun_tanh --layers fc,tanh,rnn,head --calibrate data.npz
      ncpc import weights.hdf5 --architecture drone.toml --input-range 0 255
      ncpc import weights.hdf5 --architecture ctrnn.toml --solver rk4:8 --input-range 0 255
      ncpc import ltc.pt --constraints implicit --unfolds 6 --epsilon 1e-8 --calibrate data.npz
    """
    from ncpc.cli.display import watch
    from ncpc.frontend.api import save
    from ncpc.frontend.checkpoints import CheckpointPart
    from ncpc.frontend.data import require_data
    from ncpc.frontend.source import Unsaid, read_source

    if draft is not None:
        _write_draft(source, draft)
        return
    require_data(calibrate, input_range, source)
    found = read_source(source, weights=weights, trust_pickle=trust_pickle, unsaid=Unsaid(**unsaid),
                        part=CheckpointPart(key, prefix))
    policy = watch(False, lambda phases: save(
        found.model, out, like=found.like, calibration=calibrate, input_range=input_range or None, dt=dt or None,
        clip_negative=clip_negative, carry=carried(carry), head=heads, phases=phases), least=1.0)
    click.echo(f"{out}: {policy.inputs} inputs, {policy.outputs} outputs, "
               f"layers {', '.join(layer.kind for layer in policy.layers)}")
    if unsaid["solver"] is not None:
        from ncpc.inspect.policies import record_steps

        click.echo(record_steps(policy, out, *unsaid["solver"]))


def _write_draft(source: str, path: Path) -> None:
    from ncpc.frontend.keras.draft import draft
    from ncpc.system.files import write_atomically

    write_atomically(path, draft(source).encode())
    click.echo(f"{path}: complete it, then give it with --architecture")
