"""Which form a synapse axis should take in an ONNX graph: measures the three, and fits the cost model's prices to them.

    python -m benchmarks.onnx_forms -o benchmarks/onnx_forms.json           # needs the extra onnx, and scipy

Random LTC networks of several sizes and densities are exported in every form and timed in ONNX Runtime at batch 1,
fully optimized, one thread. The prices minimize the relative error of the predicted latency; they are copied by hand
into targets/onnx/cost.json, because a compiler that measured would not give equal files. Beside it: six unfolds as
a Loop and unrolled.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import nnls

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Ltc, Policy, Synapses
from ncpc.ir.program import Program
from ncpc.targets.base import CompileOptions
from ncpc.targets.onnx.cost import FORMS, Work, choose, prices, work
from ncpc.targets.onnx.emit import files, step_graph
from ncpc.targets.onnx.grid import synapse_axes
from ncpc.worker.onnx_runtime import make_session

NETS = [(8, 4, 1.0), (8, 4, 0.3), (19, 20, 0.12), (19, 20, 0.5), (32, 8, 1.0), (64, 16, 0.1), (64, 16, 0.4),
        (64, 16, 1.0), (128, 16, 0.05), (128, 16, 0.3), (128, 16, 1.0), (256, 16, 0.03)]
"""(neurons, inputs, share of the possible synapses)."""
UNFOLDS = 6


@dataclass(frozen=True)
class Measured:
    """One network in one form: what the model says it takes, and what it took."""

    neurons: int
    inputs: int
    density: float
    form: str
    work: Work
    file_bytes: int
    latency_us: float


def random_policy(neurons: int, inputs: int, density: float) -> Policy:
    """An LTC with random synapses, so many from inputs and from neurons alike."""
    rng = np.random.default_rng(0)
    layer = Ltc(
        _synapses(rng, inputs, neurons, density), _synapses(rng, neurons, neurons, density),
        cm=rng.uniform(0.4, 0.6, neurons), gleak=rng.uniform(0.1, 1, neurons), vleak=rng.uniform(-0.2, 0.2, neurons),
        input_w=np.ones(inputs), input_b=np.zeros(inputs), output_w=np.ones(1), output_b=np.zeros(1),
        roles=("motor",) + ("inter",) * (neurons - 1), names=tuple(f"n{i}" for i in range(neurons)), unfolds=UNFOLDS)
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (inputs, 1)), DtRange())


def _synapses(rng: np.random.Generator, sources: int, neurons: int, density: float) -> Synapses:
    count = max(1, round(sources * neurons * density))
    chosen = np.sort(rng.choice(sources * neurons, count, replace=False))
    post, pre = np.divmod(chosen, sources)
    w, mu, sigma = rng.uniform(0.01, 1, count), rng.uniform(0.3, 0.8, count), rng.uniform(3, 8, count)
    return Synapses(pre, post, w, sigma, mu, rng.choice([-1.0, 1.0], count))


def measure(neurons: int, inputs: int, density: float) -> list[Measured]:
    """The network in each form; the forms take turns, so that a busy machine disturbs them alike."""
    policy = random_policy(neurons, inputs, density)
    built = {form: _export(policy, form) for form in FORMS}
    feeds = {"x": np.zeros((1, inputs), np.float32), "state": np.zeros((1, neurons), np.float32)}
    seconds = fastest({form: make_session(model, "ORT_ENABLE_ALL") for form, (model, _) in built.items()}, feeds)
    return [Measured(neurons, inputs, density, form, _total(program, form), len(model), 1e6 * seconds[form])
            for form, (model, program) in built.items()]


def _export(policy: Policy, form: str) -> tuple[bytes, Program]:
    options = CompileOptions("float32", extra={"form": form})
    lowered = lower_for(Container(policy), options).lowered
    step = step_graph(lowered, options)
    return files(lowered, step)["net.onnx"], step.program


def _total(program: Program, form: str) -> Work:
    parts = [asdict(work(axis, form)) for axis in synapse_axes(program).values()]
    return Work(**{key: sum(part[key] for part in parts) for key in parts[0]})


def fastest(sessions: dict[str, Any], feeds: dict[str, Any], rounds: int = 7) -> dict[str, float]:
    """Seconds per run of each session: the median of a round, the best round."""
    best = dict.fromkeys(sessions, np.inf)
    for _ in range(rounds):
        for name, session in sessions.items():
            best[name] = min(best[name], _median(session, feeds))
    return best


def _median(session: Any, feeds: dict[str, Any], least: float = 0.03) -> float:
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < least or len(times) < 5:
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def fit(rows: list[Measured]) -> dict[str, float]:
    """Prices in nanoseconds, and what is left over for everything that all forms share."""
    columns = np.array([[r.work.nodes, r.work.macs, r.work.elements, r.work.gathered, 1.0] for r in rows])
    target = np.array([1000 * r.latency_us for r in rows])
    found, _ = nnls(columns / target[:, None], np.ones(len(rows)))
    names = ("node_ns", "mac_ns", "element_ns", "gather_ns", "shared_ns")
    return {name: float(f"{value:.3g}") for name, value in zip(names, found, strict=True)}


def unfolds_as(kind: str, neurons: int = 19, synapses: int = 60) -> bytes:
    """Six unfolds in the matrix form, alone: ``unrolled`` or as a ``Loop``."""
    rng = np.random.default_rng(0)
    data = {"Z": rng.normal(size=(neurons, synapses)), "z0": rng.normal(size=synapses),
            "W": rng.uniform(0, 1, (synapses, 2 * neurons)), "c": rng.uniform(1, 2, 2 * neurons)}
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in data.items()]
    constants += [numpy_helper.from_array(np.array(UNFOLDS), "count"), numpy_helper.from_array(np.array(True), "go")]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", neurons]) for n in ("state", "out")]
    if kind == "unrolled":
        nodes = [n for k in range(UNFOLDS) for n in _unfold("state" if not k else f"v{k - 1}", str(k))]
        nodes[-1].output[0] = "out"
    else:
        scalars = [helper.make_tensor_value_info("i", TensorProto.INT64, []),
                   helper.make_tensor_value_info("on", TensorProto.BOOL, [])]
        still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
        inner = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", neurons]) for n in ("v", "v0")]
        body = helper.make_graph([*_unfold("v", "0"), helper.make_node("Identity", ["on"], ["still"])], "unfold",
                                 [*scalars, inner[0]], [still, inner[1]])
        nodes = [helper.make_node("Loop", ["count", "go", "state"], ["out"], body=body)]
    graph = helper.make_graph(nodes, kind, info[:1], info[1:], constants)
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)],
                                     ir_version=10).SerializeToString()
    return model


def _unfold(v: str, k: str) -> list[Any]:
    n = helper.make_node
    return [n("Gemm", [v, "Z", "z0"], [f"z{k}_"]), n("Sigmoid", [f"z{k}_"], [f"s{k}"]),
            n("Gemm", [f"s{k}", "W", "c"], [f"nd{k}"]), n("Split", [f"nd{k}"], [f"n{k}", f"d{k}"], axis=-1,
                                                          num_outputs=2),
            n("Add", [f"n{k}", v], [f"a{k}"]), n("Div", [f"a{k}", f"d{k}"], [f"v{k}"])]


def loop_against_unrolled() -> dict[str, Any]:
    models = {kind: unfolds_as(kind) for kind in ("unrolled", "Loop")}
    seconds = fastest({k: make_session(m, "ORT_ENABLE_ALL") for k, m in models.items()},
                      {"state": np.zeros((1, 19), np.float32)})
    return {kind: {"latency_us": round(1e6 * seconds[kind], 1), "file_bytes": len(models[kind])} for kind in models}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, help="write the measurements as JSON")
    rows = [row for net in NETS for row in measure(*net)]
    arguments, found, used = parser.parse_args(), fit(rows), prices()
    for row in rows:
        predicted = (row.work.price(used) - used.byte_ns * row.work.size + found["shared_ns"]) / 1000
        print(f"{row.neurons:4} neurons {row.inputs:3} inputs density {row.density:4} {row.form:7} "
              f"{row.latency_us:8.1f} us (predicted {predicted:8.1f}) {row.file_bytes:9,} bytes")
    record = {"runtime": f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, ORT_ENABLE_ALL, 1 thread",
              "fitted": found, "unfolds": loop_against_unrolled(),
              "chosen": {f"{n}x{i}@{d}": choose(_export(random_policy(n, i, d), "matrix")[1], "auto", used)
                         for n, i, d in NETS},
              "rows": [{**asdict(row), "latency_us": round(row.latency_us, 1)} for row in rows]}
    print(json.dumps({k: v for k, v in record.items() if k != "rows"}, indent=1))
    if arguments.o:
        arguments.o.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
