"""Files of weights of whole Keras networks: each policy is what the authors' equations say, and misfits are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import ncpc
from ncpc.cli.commands import cli
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput
from ncpc.frontend.container import Container
from ncpc.frontend.validate import check_policy
from ncpc.ir.cells import RECURRENT
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

h5py = pytest.importorskip("h5py")
pytest.importorskip("ncps")

from ncpc.frontend.keras.draft import draft  # noqa: E402
from ncpc.frontend.keras.network import import_network  # noqa: E402
from tests.weights_files import (  # noqa: E402
    CELLS,
    FRAME,
    WIRING,
    Drawn,
    network,
    stepped_lstm,
    toml,
    trunk,
    write_weights,
)

Tables = list[dict[str, Any]]
UNIT = DtRange()


def written(folder: Path, name: str, tables: Tables | None = None) -> tuple[Path, Path]:
    """The file of weights and its architecture."""
    held, own, _ = network(name)
    write_weights(folder / "net.hdf5", held)
    (folder / "net.toml").write_text(toml(tables or own, FRAME))
    return folder / "net.hdf5", folder / "net.toml"


def frames(steps: int) -> np.ndarray:
    """Noise under a light that changes from step to step."""
    rng = np.random.default_rng(3)
    return np.floor(rng.uniform(0, 256, (steps, *FRAME)) * rng.uniform(0, 1, (steps, 1, 1, 3)))


def policy_of(files: tuple[Path, Path]) -> Policy:
    layers = import_network(*files).layers
    found = Policy("net", layers, np.tile([0.0, 255.0], (int(np.prod(FRAME)), 1)), UNIT)
    check_policy(found, "net")
    return found


@pytest.mark.parametrize("name", CELLS)
def test_a_network_is_what_its_authors_equations_say(name: str, tmp_path: Path) -> None:
    policy, x = policy_of(written(tmp_path, name)), frames(30)
    expected = network(name)[2](x)
    assert np.ptp(expected, axis=0).min() > 1e-3
    found = run(lower(policy), Sequences(x.reshape(1, 30, -1))).y[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1.0, np.abs(expected).max()))


def test_weights_in_a_whole_model_file_may_be_told_too(tmp_path: Path) -> None:
    """Of classes that no config describes: the architecture says how they run."""
    files = written(tmp_path, "cfc")
    with h5py.File(files[0]) as old, h5py.File(tmp_path / "whole.h5", "w") as new:
        group = new.create_group("model_weights")
        group.attrs["layer_names"] = old.attrs["layer_names"]
        for name in old:
            old.copy(name, group)
    layers = import_network(tmp_path / "whole.h5", files[1]).layers
    assert [layer.kind for layer in layers] == [layer.kind for layer in import_network(*files).layers]


def test_long_lists_of_names_lie_in_parts(tmp_path: Path) -> None:
    """HDF5 holds no attribute above 64 kB: Keras cuts the list."""
    files = written(tmp_path, "lstm")
    with h5py.File(files[0], "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:5], names[5:]
    assert policy_of(files).outputs == 2


def changed(name: str, changing: str, /, **options: Any) -> Tables:
    """The network's own tables with options of the first of a kind changed; None leaves one out."""
    tables = network(name)[1]
    i = next(i for i, table in enumerate(tables) if table["kind"] == changing)
    merged = {**tables[i], **options}
    return [*tables[:i], {key: value for key, value in merged.items() if value is not None}, *tables[i + 1 :]]


def without(name: str, kind: str) -> Tables:
    tables = network(name)[1]
    i = next(i for i, table in enumerate(tables) if table["kind"] == kind)
    return tables[:i] + tables[i + 1 :]


MISFITS: dict[str, tuple[str, Tables, str]] = {
    "strides": ("cfc", changed("cfc", "Conv2D", strides=1),
                r"layer 'time_distributed_5' \(Dense\): weight 'kernel' has shape \(16, 5\), expected \(48, 5\)"),
    "no flatten": ("cfc", without("cfc", "Flatten"),
                   r"layer 'time_distributed_5' \(Dense\): weight 'kernel' has shape \(16, 5\), expected \(2, 5\)"),
    "too few": ("cfc", without("cfc", "Dense"), r"holds 6 layers with weights \(time_distributed, .*names 5 \(Norm"),
    "order": ("cfc", changed("cfc", "CfcCell", kind="LSTM", backbone_activation=None, mode=None),
              r"layer 'rnn' \(LSTM\): its weights look like those of kind CfcCell, rnn \(kernel 11x7"),
    "name": ("cfc", changed("cfc", "Normalization", name="dense"),
             r"table 2 \(Normalization\) is to be layer 'dense', but in the order of the file comes 'time"),
    "unknown kind": ("cfc", changed("cfc", "Flatten", kind="Flaten"), r"table 5: kind is 'Flaten'; known are Conv"),
    "unknown option": ("cfc", changed("cfc", "Flatten", order=1), r"\(Flatten\): 'order' is not known; known are"),
    "not told": ("cfc", changed("cfc", "Conv2D", padding=None), r"table 3 \(Conv2D\): lacks padding; give one of"),
    "question mark": ("cfc", changed("cfc", "Conv2D", strides="?"), r"\(Conv2D\): strides is '\?'; give a whole"),
    "activation": ("cfc", changed("cfc", "Dense", activation="hard_sigmoid"), "activation 'hard_sigmoid'; known"),
    "scale": ("cfc", changed("cfc", "Rescaling", scale=[0.1, 0.2]), r"\(Rescaling\): scale is \[0.1, 0.2\]; give a"),
    "seed": ("ncp", changed("ncp", "LTCCell", wiring={**WIRING, "seed": 1}),
             r"layer 'rnn' \(LTCCell\): weight 'erev' has \d+ synapses .* and not the same; give the wiring and seed"),
    "wiring": ("wired_cfc", changed("wired_cfc", "WiredCfcCell", wiring={**WIRING, "inter_neurons": 5}),
               r"layer 'rnn' \(WiredCfcCell\): weight 'ff1_weight' of the wiring's layer 0 has shape \(11, 6\)"),
    "layers of neurons": ("wired_cfc", changed("wired_cfc", "WiredCfcCell", wiring={"kind": "FullyConnected",
                          "units": 12}), r"holds 3 cells, but its wiring has 1 layers of neurons"),
    "no wiring": ("wired_cfc", changed("wired_cfc", "WiredCfcCell", wiring={"kind": "os.system"}),
                  r"its wiring is of kind 'os.system'; known are NCP, AutoNCP"),
    "huge wiring": ("wired_cfc", changed("wired_cfc", "WiredCfcCell", wiring={**WIRING, "inter_neurons": 10**9}),
                    r"inter_neurons of its wiring is 1000000000; give a number of 0 to 8192"),
    "argument": ("wired_cfc", changed("wired_cfc", "WiredCfcCell", wiring={**WIRING, "fanout": 2}),
                 r"no wiring of kind NCP \(.*fanout"),
    "impossible wiring": ("wired_cfc", changed("wired_cfc", "WiredCfcCell", wiring={**WIRING, "motor_fanin": 99}),
                          r"no wiring of kind NCP \("),
    "solver": ("ctrnn", changed("ctrnn", "CTRNNCell", solver="rk5"), r"solver is 'rk5'; give one of euler, heun"),
    "adaptive": ("ctrnn", changed("ctrnn", "CTRNNCell", solver="dopri5"),
                 r"\(CTRNNCell\): dopri5 chooses its steps as it runs.*--solver rk4:8"),
    "no steps": ("ctrnn", changed("ctrnn", "CTRNNCell", unfolds=None), "lacks unfolds; give a whole number"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_one_line_that_names_layer_and_weight(case: str, tmp_path: Path) -> None:
    name, tables, words = MISFITS[case]
    with pytest.raises(BadInput, match=words) as caught:
        policy_of(written(tmp_path, name, tables))
    assert "\n" not in str(caught.value)


def test_fixed_steps_stand_for_an_adaptive_solver(tmp_path: Path) -> None:
    """As the command is told: measured against the ODE, printed and recorded."""
    own = policy_of(written(tmp_path, "ctrnn"))
    files = written(tmp_path, "ctrnn", changed("ctrnn", "CTRNNCell", solver="dopri5", unfolds=None))
    given = [str(files[0]), "--architecture", str(files[1]), "--input-range", "0", "255", "--dt", "1", "1"]
    out = tmp_path / "p.safetensors"
    shown = CliRunner().invoke(cli, ["import", *given, "--solver", "rk4:4", "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "4 steps of rk4 are at most" in shown.output
    assert "twice as many steps divide that by" in shown.output
    policy, x = ncpc.load(out), Sequences(frames(10).reshape(1, 10, -1))
    np.testing.assert_array_equal(run(lower(policy), x).y, run(lower(own), x).y)
    recorded = policy.provenance["solver"]
    assert isinstance(recorded, dict)
    assert (recorded["method"], recorded["steps"], recorded["data"]) == ("rk4", 4, "random walk")
    assert 0 < recorded["error"] < 1e-3
    assert 11 < recorded["halved"] < 22


@pytest.mark.parametrize(("solver", "words"), [("rk4:8", "no layer has an adaptive solver; leave out --solver"),
                                               ("rk4", "no method and number of steps; give one of euler"),
                                               ("rk4:0", "no method and number"), ("dopri5:8", "no method and number")])
def test_a_solver_that_nothing_asks_for_is_refused(solver: str, words: str, tmp_path: Path) -> None:
    files = written(tmp_path, "ctrnn")
    shown = CliRunner().invoke(cli, ["import", str(files[0]), "--architecture", str(files[1]), "--solver", solver,
                                     "--input-range", "-1", "1"])
    assert shown.exit_code != 0
    assert words in shown.output + str(shown.exception)


def test_a_frame_before_a_cell_is_told(tmp_path: Path) -> None:
    held, tables, _ = network("lstm")
    write_weights(tmp_path / "net.hdf5", [layer for layer in held if layer[0] != "time_distributed_5"])
    (tmp_path / "net.toml").write_text(toml(tables[:4] + tables[-2:], FRAME))
    with pytest.raises(BadInput, match=r"'rnn' \(LSTM\) reads a vector, .* a frame of \(2, 4, 2\); put a Flatten"):
        import_network(tmp_path / "net.hdf5", tmp_path / "net.toml")


def test_a_network_without_a_state_is_read(tmp_path: Path) -> None:
    held, tables, _ = network("lstm")
    write_weights(tmp_path / "net.hdf5", held[:8])
    (tmp_path / "net.toml").write_text(toml(tables[:6], FRAME))
    layers = import_network(tmp_path / "net.hdf5", tmp_path / "net.toml").layers
    assert not RECURRENT & {layer.kind for layer in layers}


def damage(path: Path, how: str) -> None:
    with h5py.File(path, "a") as file:
        weights = file["rnn"].attrs["weight_names"]
        if how == "no weight":
            del file["rnn"][weights[0]]
        elif how == "no group":
            del file["rnn"]
        elif how == "no names":
            del file.attrs["layer_names"]
        elif how == "another shape":
            del file["rnn"][weights[1]]
            file["rnn"][weights[1]] = np.zeros((6, 20), np.float32)
        elif how == "a vector":
            del file["rnn"][weights[0]]
            file["rnn"][weights[0]] = np.zeros(24, np.float32)


DAMAGES = {
    "no weight": r"layer 'rnn' lacks the weight 'lstm/kernel:0' that weight_names names; the file is damaged",
    "no group": "lacks the group 'rnn' that layer_names names; the file is damaged",
    "no names": "has no layer_names; give weights that save_weights wrote as .h5 in Keras 2",
    "another shape": r"layer 'rnn' \(LSTM\): weight 'recurrent_kernel' has shape \(6, 20\), expected \(6, 24\)",
    "a vector": r"layer 'rnn' \(LSTM\): weight 'kernel' has shape \(24,\), expected \(5, 24\) behind an input of 5",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    files = written(tmp_path, "lstm")
    damage(files[0], how)
    with pytest.raises(BadInput, match=DAMAGES[how]) as caught:
        policy_of(files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [
    ("", "names no layers; write a"), ("layers = 3", "layers is 3; write"), ("layers = [1]", r"layers is \[1\]; write"),
    ("[[layers]", "is not TOML"), ("\0", "is not TOML"), ("shape = [1]", "'shape' is not known; known are input_shape"),
    ("input_shape = [0]\n[[layers]]\nkind = 'Flatten'", r"input_shape is \[0\]; give that of one step"),
    ("[[layers]]\nname = 1\nkind = 'Flatten'", "name is 1; give the layer's name in the file as a text"),
    ("[[layers]]\nkind = 'LTCCell'\nunfolds = true", "unfolds is True; give a whole number of 1 or more"),
    ("[[layers]]\nkind = 'LTCCell'\nunfolds = 6\nepsilon = nan", "epsilon is nan; give a number of 0 or more"),
])
def test_what_is_no_architecture_is_refused(text: str, words: str, tmp_path: Path) -> None:
    files = written(tmp_path, "lstm")
    files[1].write_text(text)
    with pytest.raises(BadInput, match=words):
        import_network(*files)
    with pytest.raises(BadInput, match="cannot be read"):
        import_network(files[0], tmp_path / "nowhere.toml")


def two_inputs(folder: Path) -> tuple[Path, Path]:
    """A frame and a vector, each through layers of its own, joined before a cell."""
    held, tables, _ = network("lstm")
    draw = Drawn(5)
    beside = ("time_distributed_10", {"t/kernel": draw(3, 2), "t/bias": draw(2)})
    cell = ("lstm", {"lstm/kernel": draw(7, 24), "lstm/recurrent_kernel": draw(6, 24), "lstm/bias": draw(24)})
    write_weights(folder / "net.hdf5", [*held[:9], beside, cell, held[-1]])
    image = toml(tables[:7], None).replace("[[layers]]", "[[branches.layers]]")
    text = f'[[branches]]\nname = "image"\ninput_shape = {list(FRAME)}\n{image}'
    text += '[[branches]]\nname = "speed"\ninput_shape = [3]\n'
    text += toml([{"kind": "Dense", "activation": "relu"}], None).replace("[[layers]]", "[[branches.layers]]")
    (folder / "net.toml").write_text(text + toml(tables[-2:], None))
    return folder / "net.hdf5", folder / "net.toml"


def test_branches_of_two_inputs_join(tmp_path: Path) -> None:
    """As the runner models of drone_causality have them: a picture and a vector."""
    weights, architecture = two_inputs(tmp_path)
    x, speed = frames(20), np.random.default_rng(4).uniform(-1, 1, (20, 3))
    out = tmp_path / "p.safetensors"
    made = CliRunner().invoke(cli, ["import", str(weights), "--architecture", str(architecture), "--input-range", "-1",
                                    "255", "-o", str(out)])
    assert made.exit_code == 0, made.output
    policy = ncpc.load(out)
    assert [(group.name, group.shape) for group in policy.input_groups] == [("image", FRAME), ("speed", (3,))]
    with h5py.File(weights) as file:
        kernel, bias = (file[f"time_distributed_10/t/{name}:0"][...].astype(np.float64) for name in ("kernel", "bias"))
        cell = [file[f"lstm/lstm/{name}:0"][...].astype(np.float64) for name in ("kernel", "recurrent_kernel", "bias")]
        last = [file[f"dense_9/dense_9/{name}:0"][...].astype(np.float64) for name in ("kernel", "bias")]
    features = np.concatenate([trunk(Drawn(1))[2](x), np.maximum(speed @ kernel + bias, 0)], axis=1)
    expected = stepped_lstm(cell, features) @ last[0] + last[1]
    data = Sequences(np.concatenate([x.reshape(20, -1), speed], axis=1)[None])
    found = run(lower(policy), data).y[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("input_shape = [3]", "", r"branches table 2: lacks input_shape; give each branch a name"),
    ('name = "speed"', "", r"branches table 2: lacks name"),
    ("input_shape = [3]", "input_shape = [4]", r"weight 'kernel' has shape \(3, 2\), expected \(4, 2\)"),
    ('name = "speed"', 'name = "image"', ".image. is given twice"),
    ("[[branches.layers]]", "[branches.layers]", "is not TOML|layers is {"),
])
def test_wrong_branches_are_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    weights, architecture = two_inputs(tmp_path)
    architecture.write_text(architecture.read_text().replace(old, new))
    command = ["import", str(weights), "--architecture", str(architecture), "--input-range", "-1", "255", "-o",
               str(tmp_path / "p.safetensors")]
    refused = CliRunner().invoke(cli, command).exception
    assert isinstance(refused, BadInput)
    assert re.search(words, str(refused))


@pytest.mark.parametrize("name", CELLS)
def test_a_draft_tells_what_names_and_shapes_tell(name: str, tmp_path: Path) -> None:
    """Completed, it is the architecture: kinds, order and Flatten stand in it already."""
    weights, architecture = written(tmp_path, name)
    text = draft(weights)
    kinds = re.findall(r'^kind = "(\w+)"', text, re.MULTILINE)
    assert kinds == [table["kind"] for table in network(name)[1] if table["kind"] not in ("Rescaling", "Dropout")]
    assert "# rescaling (without weights)" in text
    (tmp_path / "draft.toml").write_text(text)
    with pytest.raises(BadInput, match=r"is .*\?"):
        import_network(weights, tmp_path / "draft.toml")
    assert import_network(weights, architecture).layers


def imported(source: Path, out: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["import", str(source), "--input-range", "0", "255", "-o", str(out), *words])


def test_the_command_makes_a_policy_that_says_it_was_compared_with_nothing(tmp_path: Path) -> None:
    weights, architecture = written(tmp_path, "mixed_cfc")
    out = tmp_path / "p.safetensors"
    asked = imported(weights, out)
    assert "weights of 6 layers, which do not say how they are run: time_distributed (mean 3" in str(asked.exception)
    assert "--draft architecture.toml" in str(asked.exception)
    written_draft = imported(weights, out, "--draft", str(tmp_path / "draft.toml"))
    assert written_draft.exit_code == 0
    assert 'kind = "MixedCfcCell"' in (tmp_path / "draft.toml").read_text()
    assert not out.exists()
    made = imported(weights, out, "--architecture", str(architecture), "--dt", "1", "1")
    assert made.exit_code == 0, made.output
    assert made.output.endswith("297 inputs, 2 outputs, layers conv2d, conv2d, dense, mixed_memory, dense\n")
    policy = ncpc.load(out)
    assert policy.compared == "nothing"
    assert policy.provenance == {"source": "keras weights", "architecture": "net.toml"}


@pytest.mark.parametrize(("source", "words", "message"), [
    ("net.hdf5", ("--architecture", "net.toml", "--unfolds", "6"), "the architecture says --unfolds too; leave it out"),
    ("net.keras", ("--architecture", "net.toml"), "a whole model takes no --architecture; leave it out"),
    ("net.pt", ("--architecture", "net.toml"), "--architecture is for weights of Keras"),
])
def test_options_that_say_nothing_are_refused(source: str, words: tuple[str, ...], message: str, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "lstm")
    monkeypatch.chdir(tmp_path)
    assert message in str(imported(Path(source), tmp_path / "p.safetensors", *words).exception)


@pytest.mark.parametrize("name", ["cfc", "mixed_cfc"])
def test_heads_by_lecuns_tanh_are_bounded_as_integers(name: str, tmp_path: Path) -> None:
    policy = policy_of(written(tmp_path, name))
    x = frames(40).reshape(1, 40, -1)
    calibrated = Policy(policy.name, policy.layers, policy.input_range, UNIT, calibration=Sequences(x))
    lowered = lower_for(Container(calibrated, None), CompileOptions(quant="int16")).lowered
    want, got = run(lowered.real, Sequences(x)), run(lowered.program, Sequences(x))
    assert lowered.proved
    assert not got.flags.any()
    assert np.abs(got.y - want.y).max() <= 4e-3 * np.ptp(want.y)
