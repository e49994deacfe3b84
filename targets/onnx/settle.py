"""Linear forms become tensors: Gemm where a matrix is, Mul and Add where it is diagonal.

Forms that are needed together and read the same tensor through matrices share one Gemm and are split afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ncpc.targets.onnx import linear
from ncpc.targets.onnx.graph import Writer
from ncpc.targets.onnx.linear import F64, Linear


@dataclass
class Settler:
    """Writes forms; remembers which tensors are stacks of several values, and their parts once they were split."""

    writer: Writer
    _stacks: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    _parts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def settle(self, form: Linear, name: str) -> str:
        """The name of a tensor that holds ``form``."""
        found = self._existing(form, name)
        return found if found is not None else self._sum(form, name)

    def together(self, forms: Mapping[str, Linear]) -> dict[str, str]:
        """A tensor for each form of a group that one op reads; forms with a common matrix share its Gemm."""
        groups, single = _groups(forms)
        done = {name: self.settle(form, name) for name, form in single.items()}
        for group in groups:
            done.update(self._shared(group))
        return done

    def bundle(self, forms: Mapping[str, Linear]) -> dict[str, Linear]:
        """The forms again, as parts of one tensor that stacks them, where that takes no matrix that is mostly zeros."""
        whole = linear.stack(list(forms.values()))
        if whole.constant:
            return dict(forms)
        name = "_".join(forms)
        if all(_shared_by_all(t, forms) or _cheap(m) for t, m in whole.terms.items()):
            tensor = self._sum(whole, name)
        elif any(f.constant for f in forms.values()):
            return dict(forms)
        else:
            parts = [self.settle(f, n) for n, f in forms.items()]
            tensor = self.writer.node("Concat", parts, name, [whole.rows], axis=-1)
        self._remember(tensor, forms)
        return _members(tensor, forms)

    def unpack(self, tensor: str, sizes: Mapping[str, int]) -> dict[str, Linear]:
        """The values that an input holds one after another, split at once where they are several."""
        if len(sizes) == 1:
            return {name: linear.of_tensor(tensor, size) for name, size in sizes.items()}
        self._stacks[tensor] = tuple(sizes.items())
        parts = zip(sizes.items(), self._split(tensor), strict=True)
        return {name: linear.of_tensor(part, size) for (name, size), part in parts}

    def _existing(self, form: Linear, name: str) -> str | None:
        """The tensor that already is this form: itself, or a part of a stack."""
        if len(form.terms) != 1 or form.const.any():
            return None
        (tensor, matrix), = form.terms.items()
        if matrix.ndim == 1:
            return tensor if bool((matrix == 1.0).all()) else None
        part = self._part(tensor, matrix)
        return part if part is not None else self._selection(tensor, matrix, name)

    def _selection(self, tensor: str, matrix: F64, name: str) -> str | None:
        """Some numbers of a tensor, unchanged."""
        if not (np.count_nonzero(matrix, axis=1) == 1).all() or not (matrix.sum(axis=1) == 1.0).all():
            return None
        index = matrix.argmax(axis=1).astype(np.int32)
        return self.writer.node("Gather", [tensor, self.writer.const(f"{name}_of", index)], name, index.shape, axis=1)

    def _part(self, tensor: str, matrix: F64) -> str | None:
        start = 0
        for k, (_, rows) in enumerate(self._stacks.get(tensor, ())):
            if np.array_equal(matrix, np.eye(rows, matrix.shape[1], start)):
                return self._split(tensor)[k]
            start += rows
        return None

    def _split(self, tensor: str) -> tuple[str, ...]:
        if tensor not in self._parts:
            members = self._stacks[tensor]
            sizes = self.writer.const("split_" + "_".join(str(n) for _, n in members),
                                      np.array([n for _, n in members], np.int64))
            self._parts[tensor] = self.writer.node_n("Split", [tensor, sizes], [(n, [w]) for n, w in members], axis=-1)
        return self._parts[tensor]

    def _remember(self, tensor: str, forms: Mapping[str, Linear]) -> None:
        self._stacks[tensor] = tuple((name, form.rows) for name, form in forms.items())

    def _shared(self, group: Mapping[str, Linear]) -> dict[str, str]:
        """One Gemm for the group; a diagonal term that only some members have is added after the split."""
        own = {n: {t: m for t, m in f.terms.items() if m.ndim == 1 and not _everywhere(t, group)}
               for n, f in group.items()}
        common = {n: Linear({t: m for t, m in f.terms.items() if t not in own[n]}, f.const) for n, f in group.items()}
        tensor = self._sum(linear.stack(list(common.values())), "_".join(group))
        self._remember(tensor, {f"{n}_sum" if own[n] else n: f for n, f in common.items()})
        parts = dict(zip(group, self._split(tensor), strict=True))
        return {n: self._add_terms(own[n], parts[n], n, group[n].rows) for n in group}

    def _sum(self, form: Linear, name: str) -> str:
        """Constant, then diagonal terms, then a Gemm for each matrix, its bias being the sum so far."""
        # one number times a column, added to a constant, is one Gemm instead of Mul and Add
        thin = {t: m for t, m in form.terms.items() if m.ndim == 1 or (_cheap(m) and not form.const.any())}
        thick = {t: m for t, m in form.terms.items() if t not in thin}
        total = self.writer.const(f"{name}_b", form.const) if form.const.any() else None
        total = self._add_terms(thin, total, name, form.rows)
        for tensor, matrix in thick.items():
            weight = self.writer.const(f"{name}_W", np.ascontiguousarray(matrix.T))
            total = self.writer.node("Gemm", [tensor, weight, *([total] if total else [])], name, [form.rows])
        if total is None or not form.terms:
            raise AssertionError(f"{name}: a constant is no tensor")
        return total

    def _add_terms(self, terms: Mapping[str, F64], total: str | None, name: str, rows: int) -> str:
        for tensor, matrix in terms.items():
            factor = matrix if matrix.ndim == 1 else matrix[:, 0]
            product = tensor
            if not (factor == 1.0).all() or self.writer.shapes[tensor] != (rows,):
                weight = self.writer.const(f"{name}_w", factor)
                alone = total is None and len(terms) == 1
                product = self.writer.node("Mul", [tensor, weight], name if alone else f"{name}_{tensor}", [rows])
            total = product if total is None else self.writer.node("Add", [total, product], name, [rows])
        return total or ""


def _cheap(matrix: F64) -> bool:
    """Diagonal, or one number for all rows: a Mul does."""
    return matrix.ndim == 1 or matrix.shape[1] == 1


def _everywhere(tensor: str, group: Mapping[str, Linear]) -> bool:
    return all(tensor in f.terms for f in group.values())


def _shared_by_all(tensor: str, forms: Mapping[str, Linear]) -> bool:
    return all(tensor in f.terms and not _cheap(f.terms[tensor]) for f in forms.values())


def _groups(forms: Mapping[str, Linear]) -> tuple[list[dict[str, Linear]], dict[str, Linear]]:
    """Forms that read one tensor through matrices, grouped by it; and the rest."""
    rest, groups = dict(forms), []
    for tensor in dict.fromkeys(t for f in forms.values() for t in f.terms):
        group = {n: f for n, f in rest.items() if tensor in f.terms and not linear.sparse_rows(_only(f, tensor))}
        if len(group) > 1:
            groups.append(group)
            rest = {n: f for n, f in rest.items() if n not in group}
    return groups, rest


def _only(form: Linear, tensor: str) -> Linear:
    return Linear({tensor: form.terms[tensor]}, form.const)


def _members(tensor: str, forms: Mapping[str, Linear]) -> dict[str, Linear]:
    width, start, found = sum(f.rows for f in forms.values()), 0, {}
    for name, form in forms.items():
        found[name] = Linear({tensor: linear.thin(np.eye(form.rows, width, start))}, np.zeros(form.rows))
        start += form.rows
    return found
