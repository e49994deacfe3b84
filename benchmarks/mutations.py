"""Files changed at random: bytes alone, or the structure that a format has (JSON, zip, HDF5, ONNX, pickles in a zip).

Every function draws from the ``random.Random`` it is given and from nothing else.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import onnx
import onnx.defs

Mutation = Callable[[bytes, random.Random], bytes]

MARK = "hostile-mark"
"""A file in the current folder, which code in a hostile file would make."""
NUMBERS = (0, -1, 1, 2, 2**31, -2**31 - 1, 2**63, 2**64, 10**30, 10**400, 1e308, -1e308, 5e-324, 1e-30, 0.5, -0.0,
           float("nan"), float("inf"), -float("inf"))
VALUES = (None, True, False, "", "x", "\x00", "\ud800", "../../x", "a" * 400, [], {}, [[]], [None], {"": None})
RAW = {'"@long"': "9" * 5000, '"@deep"': "[" * 20_000 + "]" * 20_000, '"@deeper"': '{"a":' * 2000 + "0" + "}" * 2000}
"""What json.dumps does not write."""
CODE = b"cos\nsystem\n(S'touch " + MARK.encode() + b"'\ntR."
PICKLES = (CODE, b"\x80\x02" + CODE, b"\x80\x02cbuiltins\neval\n(S'open(\"" + MARK.encode() + b"\",\"w\")'\ntR.",
           b"\x80\x02c__builtin__\nexec\n(S'open(\"" + MARK.encode() + b"\",\"w\")'\ntR.",
           b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x12touch " + MARK.encode() + b"\x85R.", b"(" * 50_000 + b".",
           b"\x80\x02]" * 20_000 + b".", b"\x80\x02J\xff\xff\xff\x7f.", b"\x80\x04\x8d" + b"\xff" * 8 + b".")

OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})


def any_bytes(seed: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled, or the end lost."""
    data = bytearray(seed)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at, length = rng.randrange(len(data)), rng.choice([1, 2, 4, 8, 64])
        way = rng.randrange(6)
        if way <= 2:
            data[at] = rng.choice([rng.randrange(256), 0, 255, data[at] ^ 1 << rng.randrange(8)])
        elif way == 3:
            data[at : at + length] = rng.choice([b"\x00", b"\xff", b"9", b"[", b"-"]) * length
        elif way == 4:
            data[at:at] = data[at : at + length]
        else:
            del data[at : at + rng.choice([length, len(data)])]
        data = data or bytearray(1)
    return bytes(data)


def any_json(seed: bytes, rng: random.Random) -> bytes:
    """Members of a JSON text replaced, removed, exchanged, renamed, doubled, nested; or its bytes changed."""
    try:
        whole = [json.loads(seed)]
    except (ValueError, RecursionError):  # changed before
        return any_bytes(seed, rng)
    if rng.random() < 0.2:
        return any_bytes(seed, rng)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        _edit(*rng.choice(_places(whole)), rng)
    try:
        text = json.dumps(whole[0])
    except ValueError:  # exchanged with what it lies in
        return any_bytes(seed, rng)
    for word, raw in RAW.items():
        text = text.replace(word, raw)
    if rng.random() < 0.1 and '": ' in text:  # a key twice
        key = rng.choice([part.rpartition('"')[2] for part in text.split('": ')[:-1]])
        text = text.replace("{", f'{{"{key}": 0, ', 1)
    return text.encode("utf-8", "surrogatepass")


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every member of nested lists and objects: what holds it, and its index or key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [place for key in keys for place in [(node, key), *_places(node[key])]]


def _edit(holder: Any, key: Any, rng: random.Random) -> None:
    if not (key in holder if isinstance(holder, dict) else key < len(holder)):
        return  # an edit before has taken it away
    way, old = rng.randrange(10), holder[key]
    if way <= 2:
        holder[key] = rng.choice(NUMBERS)
    elif way <= 4:
        holder[key] = rng.choice(VALUES)
    elif way == 5:
        holder[key] = rng.choice(["@long", "@deep", "@deeper"])
    elif way == 6 and key != 0:
        del holder[key]
    elif way == 7:
        holder[key] = [old] * rng.choice([1, 2, 1000])
    elif way == 8 and isinstance(holder, dict):
        holder[rng.choice(["x", "", str(key).upper(), f"{key} "])] = holder.pop(key)
    else:
        others = list(holder.values()) if isinstance(holder, dict) else holder
        holder[key] = rng.choice(others)


def within(begin: bytes, end: bytes, mutation: Mutation) -> Mutation:
    """``mutation`` of what stands between two marks."""
    def mutate(seed: bytes, rng: random.Random) -> bytes:
        at = seed.index(begin) + len(begin)
        to = seed.index(end, at)
        return seed[:at] + mutation(seed[at:to], rng) + seed[to:]
    return mutate


def safetensors(seed: bytes, rng: random.Random) -> bytes:
    """The header edited as JSON, its own JSON within it too, its length put right; or bytes changed."""
    if rng.random() < 0.3:
        return any_bytes(seed, rng)
    size = int.from_bytes(seed[:8], "little")
    header, body = seed[8 : 8 + size], seed[8 + size :]
    inner = json.loads(header).get("__metadata__", {}).get("ncpc")
    if inner is not None and rng.random() < 0.7:
        changed = json.loads(header)
        changed["__metadata__"]["ncpc"] = any_json(inner.encode(), rng).decode(errors="replace")
        header = json.dumps(changed).encode()
    else:
        header = any_json(header, rng)
    return len(header).to_bytes(8, "little") + header + body


def zipped(**mutations: Mutation) -> Mutation:
    """A mutation of the members of an archive, by the ends of their names (``.`` is ``_``): of one member in each file,
    packed again with a right checksum; or of the archive's own bytes.
    """
    def mutate(seed: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return any_bytes(seed, rng)
        with zipfile.ZipFile(io.BytesIO(seed)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
        chosen = rng.randrange(len(members))
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for i, (info, content) in enumerate(members):
                name = info.filename.replace(".", "_")
                how = next((m for end, m in mutations.items() if name.endswith(end)), any_bytes)
                archive.writestr(info, how(content, rng) if i == chosen and content else content)
        return target.getvalue()
    return mutate


def pickled(seed: bytes, rng: random.Random) -> bytes:
    """A pickle with other bytes, cut and joined anew, or with code in its place, its middle or at its end."""
    way, at = rng.randrange(5), rng.randrange(len(seed))
    if way <= 1:
        return any_bytes(seed, rng)
    code = rng.choice(PICKLES)
    return [code, seed[:at] + code, seed[:-1] + code.removeprefix(b"\x80\x02")][way - 2]


def npy(seed: bytes, rng: random.Random) -> bytes:
    """An array with another head: types, shapes, orders; or other bytes."""
    if rng.random() < 0.3:
        return any_bytes(seed, rng)
    types = ("<f8", "|O", "<U9", "<M8[s]", "|V8", "<c16", "|b1", ">f2", "[('a', '<f8')]", "<f1", "x", "|S0")
    shapes = ("(2, 5, 3)", "()", "(0,)", "(-1,)", "(10**9,)", "(99999999999, 3)", "(2**70,)", "(1,)" * 3, "2", "(2, 5)",
              "[2]", "(" * 90 + ")" * 90, "(" + "1, " * 90 + ")")
    head = (f"{{'descr': {rng.choice(types)!r}, 'fortran_order': {rng.choice(['True', 'False', '0'])}, "
            f"'shape': {rng.choice(shapes)}, }}").encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + seed[128:]


def hdf5(seed: bytes, rng: random.Random) -> bytes:
    """Groups, arrays, attributes and links of an HDF5 file removed, exchanged, or made into others; or its bytes."""
    if rng.random() < 0.3:
        return any_bytes(seed, rng)
    content = io.BytesIO(seed)
    with h5py.File(content, "r+") as file:
        for _ in range(rng.choice([1, 1, 2])):
            _edit_hdf5(file, rng)
    data = content.getvalue()
    return any_bytes(data, rng) if rng.random() < 0.1 else data


def onnx_graph(seed: bytes, rng: random.Random) -> bytes:
    """Nodes, attributes, tensors and ports of an ONNX model changed, exchanged or removed; or its bytes."""
    if rng.random() < 0.3:
        return any_bytes(seed, rng)
    model = onnx.load_from_string(seed)
    for _ in range(rng.choice([1, 1, 2, 4])):
        rng.choice([_edit_node, _edit_node, _edit_tensor, _edit_port, _edit_model])(model, rng)
    return bytes(model.SerializeToString())


def _edit_node(model: Any, rng: random.Random) -> None:
    nodes = model.graph.node
    node, way = rng.choice(nodes), rng.randrange(8)
    names = [name for other in nodes for name in (*other.input, *other.output)] + [""]
    if way <= 1:
        node.op_type = rng.choice([other.op_type for other in nodes] + OPERATORS)
    elif way == 2 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif way == 3:
        node.output[:] = rng.sample(names, rng.randrange(4))
    elif way == 4:
        nodes.remove(node)
        if rng.random() < 0.5:
            nodes.insert(rng.randrange(len(nodes) + 1), node)
    elif way == 5:
        node.input.extend(rng.sample(names, rng.randrange(1, 4)))
    elif way == 6 and node.attribute:
        node.attribute.remove(rng.choice(node.attribute))
    else:
        name = rng.choice([a.name for other in nodes for a in other.attribute] + ["axis", "axes", "perm", "pads"])
        values = (0, -1, 3, 2**31, -2**62, 1.5, float("nan"), 1e300, "x", [0], [3, -9], [2**40], [0.5], [1] * 70)
        node.attribute.append(onnx.helper.make_attribute(name, rng.choice(values)))


def _edit_tensor(model: Any, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor, way = rng.choice(model.graph.initializer), rng.randrange(6)
    if way == 0:
        tensor.data_type = rng.randrange(30)
    elif way == 1:
        tensor.dims[:] = rng.choice([[], [0], [-1], [2**40], [2**62, 4], [1] * 70, [7, 3], [*tensor.dims, 1]])
    elif way == 2:
        shape = [rng.choice([n, 0, 1, 2 * n]) for n in tensor.dims]
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(shape, rng.choice(NUMBERS[-9:]), np.float32), tensor.name))
    elif way == 3:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(rng.choice([-9, 0, 1, 2**40]), np.int64), tensor.name))
    elif way == 4:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", rng.choice(["../x", "/dev/zero", "net.onnx"])), ("length", "99999999999")):
            tensor.external_data.add(key=key, value=value)
    else:
        tensor.name = rng.choice([other.name for other in model.graph.initializer] + ["", "obs", "hidden"])


def _edit_port(model: Any, rng: random.Random) -> None:
    ports = rng.choice([model.graph.input, model.graph.output])
    if not ports:
        return
    port, way = rng.choice(ports), rng.randrange(5)
    shape = port.type.tensor_type.shape
    if way == 0:
        ports.remove(port)
    elif way == 1:
        port.type.tensor_type.elem_type = rng.randrange(30)
    elif way == 2 and shape.dim:
        rng.choice(shape.dim).dim_value = rng.choice([0, -1, 1, 2, 7, 2**40])
    elif way == 3:
        del shape.dim[rng.randrange(len(shape.dim) + 1) :]
    else:
        port.name = rng.choice([name for node in model.graph.node for name in node.output] + ["", "a/b", "hidden_out"])


def _edit_model(model: Any, rng: random.Random) -> None:
    way = rng.randrange(4)
    if way == 0:
        model.opset_import[0].version = rng.choice([0, -1, 1, 7, 12, 24, 2**40])
    elif way == 1:
        model.ir_version = rng.choice([0, 1, 3, 99])
    elif way == 2:
        model.opset_import[0].domain = rng.choice(["x", "ai.onnx.ml", "\x00"])
    else:
        model.graph.input.add().CopyFrom(rng.choice(model.graph.output or [onnx.ValueInfoProto()]))


def _edit_hdf5(file: h5py.File, rng: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    if not names:
        return
    if file.attrs and rng.random() < 0.4:
        key = rng.choice(sorted(file.attrs))
        text = file.attrs[key]
        told = isinstance(text, str) and text[:1] == "{"
        changed = any_json(text.encode(errors="surrogateescape"), rng)[:60_000].replace(b"\x00", b"0") if told else b""
        file.attrs[key] = changed or rng.choice([0, "", b"\xff", np.zeros(3)])
        return
    name = rng.choice(names)
    old, way = file[name], rng.randrange(12)
    if old.attrs and way <= 1:
        key = rng.choice(sorted(old.attrs))
        old.attrs[key] = rng.choice([0, "x", [b"a", b"b/c"], np.zeros(0), [b"../x"], np.zeros((2, 2))])
        return
    del file[name]
    ways: list[Callable[[], object]] = [
        lambda: None, lambda: file.create_group(name),
        lambda: file.create_dataset(name, data=rng.choice([0, -1, 2**31, 1e308])),
        lambda: file.create_dataset(name, data="text"), lambda: file.create_dataset(name, data=h5py.Empty("f8")),
        lambda: file.create_dataset(name, (1 << rng.choice([4, 27, 31, 40, 60]),), "f4", chunks=(4,)),
        lambda: file.create_dataset(name, data=np.full(rng.choice([0, 1, 3, 9]), rng.choice(NUMBERS[-9:]))),
        lambda: file.create_dataset(name, (9,), "f8", external=[("/dev/zero", 0, 72)]),
        lambda: file.create_dataset(name, data=np.zeros(3, [("a", "f8"), ("b", "i4")])),
        lambda: file.__setitem__(name, h5py.SoftLink(rng.choice(["/", name, "/nowhere", ".."]))),
        lambda: file.__setitem__(name, h5py.ExternalLink("other.h5", "/")),
        lambda: file.create_dataset(name, data=np.zeros((3, 3), complex)),
    ]
    ways[way]()
