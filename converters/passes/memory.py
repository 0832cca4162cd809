"""Which tensors share a buffer, and where every buffer lies in the arena.

Buffers are shared where that costs nothing:

* a reshape or slice is a place in its input's buffer;
* what is joined along the first axis is computed in its place in the whole, and nothing is copied;
* an element-wise op writes over an input that nothing reads later;
* parts of a whole are written over a buffer whose elements are no longer read by then;
* an input that is only padded, reshaped or not, lies at the end of its padded form.

placement.py then finds the offsets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from zeroskip.converters.ir import (
    Binary,
    Concat,
    Graph,
    Op,
    Pad,
    Quantize,
    Reshape,
    Slice,
    Tensor,
    Unary,
)
from zeroskip.converters.passes.placement import ALIGNMENT, Buffer, align, place

WORTH_COPYING: Final = 0.95
"""What the arena must come down to for parts to be copied into their whole."""


@dataclass(frozen=True)
class MemoryPlan:
    """Arena offsets in bytes, multiples of 4: of activations by tensor name, of scratch by
    the name of the op's output; and the size of the arena. `joined` names the outputs of the
    concatenations that need no copying."""

    tensors: Mapping[str, int]
    scratch: Mapping[str, int]
    arena_bytes: int
    joined: frozenset[str]


@dataclass(frozen=True)
class _Place:
    buffer: str
    offset: int


@dataclass(frozen=True)
class _Part:
    """A tensor that the op at `index` computes, `offset` bytes into a whole."""

    tensor: Tensor
    index: int
    offset: int


def plan(graph: Graph, scratch_bytes: Mapping[str, int]) -> MemoryPlan:
    """Place all activations of the graph and the scratch that ops ask for (by output).

    Inputs live from the start, outputs to the end.
    """
    sharing = _Sharing(graph, scratch_bytes, _worth_joining(graph, scratch_bytes))
    buffers = sharing.buffers()
    offsets = place(buffers)
    return MemoryPlan(
        tensors={n: offsets[at.buffer] + at.offset for n, at in sharing.places.items()},
        scratch={op.output: offsets.get(_scratch(op), 0) for op in graph.ops},
        arena_bytes=max(offsets[b.name] + align(b.size) for b in buffers),
        joined=sharing.joined,
    )


def live_bytes(graph: Graph, scratch_bytes: Mapping[str, int]) -> list[int]:
    """Bytes that live during each op, or that inputs take if there is none; the arena is rarely
    larger than the most of them."""
    return _live_bytes(graph, scratch_bytes, _joinable(graph))


def _live_bytes(
    graph: Graph, scratch_bytes: Mapping[str, int], joined: Collection[str]
) -> list[int]:
    buffers = _Sharing(graph, scratch_bytes, joined).buffers()
    changes = [0] * (len(graph.ops) + 3)
    for b in buffers:
        changes[b.first + 1] += align(b.size)
        changes[b.last + 2] -= align(b.size)
    live = 0
    found = []
    for change in changes[:-2]:
        live += change
        found.append(live)
    return found[1:] or found  # inputs alone are no more than with the first op


def is_view(graph: Graph, op: Op) -> bool:
    """Whether the op's output lies within its input, in the same order, and takes no time."""
    if not isinstance(op.attributes, Slice):
        return isinstance(op.attributes, Reshape)
    whole, part = graph.tensors[op.inputs[0]], graph.output_tensor(op)
    aligned = op.attributes.begin[0] * (whole.nbytes // whole.shape[0]) % ALIGNMENT == 0
    return whole.data is None and whole.shape[1:] == part.shape[1:] and aligned


def _joinable(graph: Graph) -> list[str]:
    """The outputs of concatenations whose inputs can be computed in their places."""
    produced = {op.output: op for op in graph.ops}
    taken: set[str] = set()
    found = []
    for op in graph.ops:
        if not isinstance(op.attributes, Concat):
            continue
        parts = graph.input_tensors(op)
        own = len(set(op.inputs)) == len(parts) and all(
            name in produced and name not in taken and not is_view(graph, produced[name])
            for name in op.inputs
        )
        if (
            own
            and math.prod(parts[0].shape[: op.attributes.axis]) == 1
            and all(part.nbytes % ALIGNMENT == 0 for part in parts[:-1])
        ):
            taken.update(op.inputs)
            found.append(op.output)
    return found


def _worth_joining(graph: Graph, scratch_bytes: Mapping[str, int]) -> list[str]:
    """Those to join: a part that comes early would keep the place of the whole for long."""
    joined = _joinable(graph)
    best = max(_live_bytes(graph, scratch_bytes, joined))
    for name in tuple(joined):
        others = [other for other in joined if other != name]
        without = max(_live_bytes(graph, scratch_bytes, others))
        if without <= WORTH_COPYING * best:
            joined, best = others, without
    return joined


class _Sharing:
    """The buffer of each activation and its place there."""

    def __init__(
        self, graph: Graph, scratch_bytes: Mapping[str, int], joined: Collection[str]
    ) -> None:
        self.places: dict[str, _Place] = {}
        self.joined = frozenset(joined)
        self._graph = graph
        self._scratch_bytes = scratch_bytes
        self._index = {op.output: i for i, op in enumerate(graph.ops)}
        self._views: dict[str, list[Op]] = {}
        self._last_use: dict[str, int] = {}
        self._members: dict[str, list[str]] = {}
        self._size: dict[str, int] = {}
        for index, op in enumerate(graph.ops):
            if is_view(graph, op):
                self._views.setdefault(op.inputs[0], []).append(op)
                continue
            for name in op.inputs:
                self._last_use[name] = index
        for name in graph.outputs:
            self._last_use[name] = len(graph.ops)
        self._whole = self._find_wholes()
        self._padded = self._find_padded()
        for name in graph.inputs:
            self._create(name)
        for index, op in enumerate(graph.ops):
            if op.output not in self.places:
                self._settle(op, index)

    def buffers(self) -> list[Buffer]:
        """All activations' buffers and the scratch, with the ops during which they live."""
        found = []
        for buffer, members in self._members.items():
            first = min(self._index.get(name, -1) for name in members)
            last = max(self._dies(name) for name in members)
            found.append(Buffer(buffer, self._size[buffer], first, last))
        for index, op in enumerate(self._graph.ops):
            if self._scratch_bytes.get(op.output, 0):
                found.append(Buffer(_scratch(op), self._scratch_bytes[op.output], index, index))
        return found

    def _dies(self, name: str) -> int:
        return self._last_use.get(name, self._index.get(name, -1))

    def _find_wholes(self) -> dict[str, tuple[str, int]]:
        """Of each tensor that will be part of another: the whole and the offset there."""
        wholes = {}
        for whole in self.joined:
            offset = 0
            for part in self._graph.input_tensors(self._graph.ops[self._index[whole]]):
                wholes[part.name] = whole, offset
                offset += part.nbytes
        return wholes

    def _find_padded(self) -> dict[str, str]:
        """Of each tensor that is only padded, its padded form, unless that would need more
        memory while the tensor is computed than both do later."""
        found = {}
        for op in self._graph.ops:
            name = op.inputs[0]
            if not isinstance(op.attributes, Pad) or self._graph.tensors[name].data is not None:
                continue
            alone = self._is_only_reader(name) and self._last_use[name] == self._index[op.output]
            reshape = self._graph.producer(name)
            while alone and reshape is not None and isinstance(reshape.attributes, Reshape):
                name = reshape.inputs[0]
                alone = self._is_only_reader(name) and name not in self._last_use
                reshape = self._graph.producer(name)
            if alone and name not in self._whole and op.output not in self._whole:
                before = self._scratch_bytes.get(name, 0)
                if name in self._index:
                    inputs = self._graph.input_tensors(self._graph.ops[self._index[name]])
                    before += sum(t.nbytes for t in inputs if self._ends(t, self._index[name]))
                if before < self._graph.tensors[name].nbytes:
                    found[name] = op.output
        return found

    def _is_only_reader(self, name: str) -> bool:
        return len(list(self._graph.consumers(name))) == 1

    def _ends(self, tensor: Tensor, index: int) -> bool:
        """Whether an activation, with its views, is last read by the op at `index`."""
        views = self._views.get(tensor.name, ())
        return (
            tensor.data is None
            and self._last_use.get(tensor.name, -1) <= index
            and all(self._ends(self._graph.output_tensor(op), index) for op in views)
        )

    def _settle(self, op: Op, index: int) -> None:
        """Find a place for the output of an op that is no view."""
        root = op.output
        while root in self._whole:
            root = self._whole[root][0]
        whole = self._graph.tensors[root]
        parts = list(self._parts(root, 0))
        for base in self._candidates(op, parts):
            if self._is_free(base, whole.nbytes, parts):
                self._put(root, base)
                return
        self._create(root)

    def _parts(self, name: str, offset: int) -> Iterator[_Part]:
        """What ops compute of a tensor: itself, or the parts that it will be joined from."""
        op = self._graph.ops[self._index[name]]
        if name in self.joined:
            for part in op.inputs:
                yield from self._parts(part, offset + self._whole[part][1])
        else:
            yield _Part(self._graph.tensors[name], self._index[name], offset)

    def _candidates(self, op: Op, parts: list[_Part]) -> list[_Place]:
        """Places in use that the output, or the whole that it is part of, may take over."""
        if len(parts) == 1:
            names = op.inputs if _is_element_wise(op) else ()
            return [self.places[name] for name in names if name in self.places]
        return list(dict.fromkeys(self.places.values()))

    def _is_free(self, base: _Place, size: int, parts: list[_Part]) -> bool:
        """Whether nothing reads what `parts`, written at `base`, replace; but for element-wise
        ops, whose inputs may lie exactly there."""
        if base.offset + size > self._size[base.buffer]:
            return False
        first = min(part.index for part in parts)
        members = [n for n in self._members[base.buffer] if self._dies(n) >= first]
        for part in parts:
            begin = base.offset + part.offset
            op = self._graph.ops[part.index]
            for name in members:
                other, at = self._graph.tensors[name], self.places[name].offset
                if self._dies(name) < part.index or not _overlap(
                    begin, part.tensor.nbytes, at, other.nbytes
                ):
                    continue
                if not (
                    self._dies(name) == part.index
                    and _is_element_wise(op)
                    and (at, other.shape) == (begin, part.tensor.shape)
                    and other.nbytes == part.tensor.nbytes
                ):
                    return False
        return bool(members)

    def _create(self, name: str) -> None:
        """Give a tensor a buffer, or a place at the end of its padded form's."""
        tensor = self._graph.tensors[name]
        padded = self._padded.get(name)
        if padded is None:
            self._members[name] = []
            self._size[name] = tensor.nbytes
            self._put(name, _Place(name, 0))
            return
        offset = align(self._graph.tensors[padded].nbytes - tensor.nbytes)
        self._members[padded] = []
        self._size[padded] = offset + tensor.nbytes
        self._put(name, _Place(padded, offset))
        self._put(padded, _Place(padded, 0))

    def _put(self, name: str, at: _Place) -> None:
        """A tensor's place, and with it that of its views and parts."""
        self.places[name] = at
        self._members[at.buffer].append(name)
        for op in self._views.get(name, ()):
            begin = op.attributes.begin[0] if isinstance(op.attributes, Slice) else 0
            tensor = self._graph.tensors[name]
            step = tensor.nbytes // tensor.shape[0]
            self._put(op.output, _Place(at.buffer, at.offset + begin * step))
        if name in self.joined:
            for part in self._graph.ops[self._index[name]].inputs:
                self._put(part, _Place(at.buffer, at.offset + self._whole[part][1]))


def _is_element_wise(op: Op) -> bool:
    return isinstance(op.attributes, Binary | Unary | Quantize)


def _overlap(a: int, a_size: int, b: int, b_size: int) -> bool:
    return a < b + b_size and b < a + a_size


def _scratch(op: Op) -> str:
    return f"scratch of {op.output}"
