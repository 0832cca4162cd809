"""Chains of ops that run for a few channels at a time, where that lowers the arena.

Activations are planes (C, H, W). What a convolution computes with some of its filters, and what
padding, pooling, depthwise and element-wise ops make of those channels, needs no others; so a
chain of such ops is cut into parts, and of what lies between them only a part exists at a time.
It is the row-wise execution of MCUNetV2 ("patch-based inference", Lin et al. 2021, section 3.1),
turned to the axis along which tensors in channel order are contiguous: nothing is computed
twice, the results are the same, and the runtime needs no code for it. The parts are ops of their
own on slices, which memory.py joins without copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from zeroskip.converters.ir import (
    Array,
    Binary,
    Concat,
    Conv2D,
    Graph,
    Op,
    Pad,
    Pool2D,
    Quantize,
    Slice,
    Tensor,
    Unary,
)
from zeroskip.converters.passes import memory
from zeroskip.converters.passes.padding import without_padding
from zeroskip.converters.scratch import most_scratch

LEAST_GAIN: Final = 0.95  # of the bytes that live before: what a change must come down to
OP_BYTES: Final = 64  # of a container, about, for an op more; the arena must gain as much
MULTIPLE: Final = 4
"""Of channels in a part: parts begin at multiples of 4 bytes, and kernels take filters in pairs."""

_COUNTS: Final = (2, 4, 8, 16)  # parts to try
_NEAR: Final = 1.03


@dataclass(frozen=True)
class _Change:
    """A graph with the ops from `begin` to `end` in place of a chain."""

    graph: Graph
    begin: int
    end: int
    parts: int  # 1 for a padding undone


def stream(graph: Graph) -> Graph:
    """The graph with chains cut into parts where that lowers the arena; the outputs stay."""
    return _lowered(graph, undo_padding=False)


def stream_most(graph: Graph) -> Graph:
    """As `stream`, and the padding before convolutions (passes/padding.py) left to their slower
    kernels where that lowers the arena further."""
    return _lowered(graph, undo_padding=True)


def _lowered(graph: Graph, *, undo_padding: bool) -> Graph:
    """The graph, changed if it is worth it."""
    before = max(memory.live_bytes(graph, most_scratch(graph)))
    target = _descend(graph, 0, undo_padding)[1]
    lowered, after = _descend(graph, target, undo_padding)
    added = len(lowered.ops) - len(graph.ops)
    worth_it = after <= LEAST_GAIN * before and before - after >= OP_BYTES * added
    return lowered if worth_it else graph


def _descend(graph: Graph, target: int, undo_padding: bool) -> tuple[Graph, int]:
    """Change the graph where the most bytes live, until it has no more than `target` or nothing
    helps; with a target, by the fewest ops that reach it."""
    final: set[str] = set()  # outputs of ops that are parts already
    while True:
        live = memory.live_bytes(graph, most_scratch(graph))
        most = max(live)
        if most <= target or not graph.ops:
            return graph, most
        op = graph.ops[live.index(most)]
        found = _best(list(_cuts_near(graph, op, final)), op, most, target)
        if found is None and undo_padding:
            found = _best(list(_without_padding(graph, op)), op, most, target)
        if found is None:
            return graph, most
        graph = found.graph
        if found.parts > 1:
            final.update(o.output for o in graph.ops[found.begin : found.end])


def _best(changes: Sequence[_Change], op: Op, most: int, target: int) -> _Change | None:
    """The change after which the fewest bytes live during `op` and what is new, or of those that
    reach the target the one with the fewest ops; None if all gain too little."""
    measured = []
    for change in changes:
        live = memory.live_bytes(change.graph, most_scratch(change.graph))
        new = range(change.begin, change.end)
        local = max(b for i, b in enumerate(live) if i in new or change.graph.ops[i] is op)
        if local <= LEAST_GAIN * most and max(live) <= most:
            measured.append((local, len(change.graph.ops), change))
    if not measured:
        return None
    limit = max(target, _NEAR * min(local for local, _, _ in measured))
    near = [m for m in measured if m[0] <= limit]
    return min(near, key=lambda m: (m[1], m[0]))[2]


def _without_padding(graph: Graph, op: Op) -> Iterator[_Change]:
    """The padding before a convolution left to its kernel."""
    names = {op.output, *op.inputs}
    for pad in graph.ops:
        if isinstance(pad.attributes, Pad) and pad.output in names:
            for conv in graph.consumers(pad.output):
                undone = without_padding(graph, conv)
                if undone is not None:
                    at = undone.ops.index(undone.producer(conv.output))
                    yield _Change(undone, at, at + 1, 1)


def _cuts_near(graph: Graph, op: Op, final: set[str]) -> Iterator[_Change]:
    """Every way to cut a chain that computes or reads what lives while `op` runs."""
    index = {o.output: i for i, o in enumerate(graph.ops)}
    at = index[op.output]
    seen: set[str] = set()
    for name, tensor in graph.tensors.items():
        if tensor.data is not None or index.get(name, -1) > at:
            continue
        readers = [o for o in graph.consumers(name) if index[o.output] >= at]
        if readers:
            writer = [graph.ops[index[name]]] if name in index else []
            seen.update(o.output for o in (*writer, *readers))
    chains: dict[tuple[Op, ...], None] = {}
    for name in sorted(seen | {op.output}, key=lambda n: index[n]):
        if name not in final:
            chains.update(dict.fromkeys(_chains(graph, graph.ops[index[name]], final)))
    for chain in chains:
        yield from _cut_chain(graph, chain)


def _chains(graph: Graph, op: Op, final: set[str]) -> Iterator[tuple[Op, ...]]:
    """The chains with `op` in them that could be cut."""
    heads = [op]
    while (before := _before(graph, heads[0], final)) is not None:
        heads.insert(0, before)
    chain = list(heads)
    while (after := _after(graph, chain[-1], final)) is not None:
        chain.append(after)
    at = heads.index(op)
    for begin in range(at + 1):
        for end in range(at + 1, len(chain) + 1):
            if end - begin >= 2:
                yield tuple(chain[begin:end])


def _before(graph: Graph, op: Op, final: set[str]) -> Op | None:
    """The op whose output `op` takes channel by channel and nothing else does."""
    if not _is_channel_wise(graph, op):
        return None
    for name in op.inputs:
        before = graph.producer(name)
        if before is not None and _after(graph, before, final) is op and name not in final:
            return before
    return None


def _after(graph: Graph, op: Op, final: set[str]) -> Op | None:
    consumers = list(graph.consumers(op.output))
    if op.output in graph.outputs or len(consumers) != 1 or not _can_begin(graph, op):
        return None
    after = consumers[0]
    alone = after.inputs.count(op.output) == 1 and after.output not in final
    return after if alone and _is_channel_wise(graph, after) else None


def _can_begin(graph: Graph, op: Op) -> bool:
    a = op.attributes
    whole = isinstance(a, Conv2D) and a.groups == 1
    return whole or _is_channel_wise(graph, op)


def _is_channel_wise(graph: Graph, op: Op) -> bool:
    """Whether each channel of the output comes from the same channel of the inputs alone."""
    output = graph.output_tensor(op)
    if len(output.shape) != 3:
        return False
    channels = output.shape[0]
    match op.attributes:
        case Conv2D(groups=groups):
            return groups == channels == graph.tensors[op.inputs[0]].shape[0]
        case Pad(padding=padding):
            return padding[0] == (0, 0)
        case Pool2D() | Unary() | Quantize():
            return True
        case Binary():
            inputs = graph.input_tensors(op)
            return all(t.shape == output.shape or _is_constant(t, channels) for t in inputs)
        case _:
            return False


def _is_constant(tensor: Tensor, channels: int) -> bool:
    return tensor.data is not None and tensor.shape in ((channels, 1, 1), (1,))


def _cut_chain(graph: Graph, chain: Sequence[Op]) -> Iterator[_Change]:
    channels = graph.output_tensor(chain[0]).shape[0]
    sizes = dict.fromkeys(-(-channels // (n * MULTIPLE)) * MULTIPLE for n in _COUNTS)
    for size in sizes:
        if size < channels:
            yield _Cutting(graph, chain, size, {}).change()
            padded = _padded_forms(graph, chain)
            if padded:
                yield _Cutting(graph, chain, size, padded).change()


def _padded_forms(graph: Graph, chain: Sequence[Op]) -> dict[str, Op]:
    """The paddings of what the chain reads from outside, by what they pad: it could be cut out
    of its padded form, and need not live until then."""
    inside = {op.output for op in chain}
    first = graph.ops.index(chain[0])
    outside = {name for op in chain[1:] for name in op.inputs if name not in inside}
    return {
        pad.inputs[0]: pad
        for pad in graph.ops[:first]
        if isinstance(pad.attributes, Pad)
        and pad.inputs[0] in outside
        and _is_channel_wise(graph, pad)
    }


class _Cutting:
    """A chain of ops cut into parts of `size` channels, the last perhaps smaller.

    What comes from outside is sliced, and if `padded` has it, cut out of its padded form.
    """

    def __init__(
        self, graph: Graph, chain: Sequence[Op], size: int, padded: Mapping[str, Op]
    ) -> None:
        self._graph = graph
        self._chain = chain
        self._size = size
        self._padded = padded  # of what comes from outside, the op that pads it
        self._tensors: dict[str, Tensor] = {}
        self._slices: list[Op] = []

    def change(self) -> _Change:
        last = self._chain[-1]
        channels = self._graph.output_tensor(last).shape[0]
        parts: list[Op] = []
        outputs = []
        begins = range(0, channels, self._size)
        for begin in begins:
            parts += self._part(begin, min(begin + self._size, channels))
            outputs.append(parts[-1].output)
        joined = Op(
            name=last.name,
            attributes=Concat(0),
            inputs=tuple(outputs),
            output=last.output,
        )
        at = self._graph.ops.index(last)
        ops = (*self._graph.ops[:at], *self._slices, *parts, joined, *self._graph.ops[at + 1 :])
        gone = {op.output for op in self._chain[:-1]}
        kept = [op for op in ops if op.output not in gone]
        end = kept.index(joined) + 1
        graph = self._graph.with_ops(kept, self._tensors.values())
        return _Change(graph, end - 1 - len(parts), end, len(begins))

    def _part(self, begin: int, end: int) -> list[Op]:
        inside: dict[str, str] = {}
        ops: list[Op] = []
        for number, op in enumerate(self._chain):
            whole = number == 0 and not _is_channel_wise(self._graph, op)
            rest = op.inputs
            inputs: list[str] = []
            if whole:
                inputs, rest = [op.inputs[0]], op.inputs[1:]
            inputs += [inside.get(n) or self._input(n, begin, end, ops) for n in rest]
            inside[op.output] = self._add(self._graph.output_tensor(op), begin, end)
            attributes = op.attributes
            if isinstance(attributes, Conv2D) and not whole:
                attributes = replace(attributes, groups=end - begin)
            name = f"{op.name} [{begin}:{end}]"
            ops.append(Op(name, attributes, tuple(inputs), inside[op.output]))
        return ops

    def _input(self, name: str, begin: int, end: int, ops: list[Op]) -> str:
        """The channels of a tensor from outside the chain; `ops` gets what they take."""
        tensor = self._graph.tensors[name]
        pad = self._padded.get(name)
        if pad is not None:
            assert isinstance(pad.attributes, Pad)
            before = tuple(pair[0] for pair in pad.attributes.padding)
            source = self._input(pad.output, begin, end, ops)
            part = self._add(tensor, begin, end)
            if all(op.output != part for op in ops):
                ops.append(Op(part, Slice(before), (source,), part))
            return part
        if tensor.data is not None and tensor.shape[0] == 1:
            return name
        part = self._add(tensor, begin, end)
        if tensor.data is None and all(op.output != part for op in self._slices):
            self._slices.append(
                Op(part, Slice((begin, *[0] * (len(tensor.shape) - 1))), (name,), part)
            )
        return part

    def _add(self, tensor: Tensor, begin: int, end: int) -> str:
        name = f"{tensor.name} [{begin}:{end}]"
        while name in self._graph.tensors:
            name += "'"
        data: Array | None = None if tensor.data is None else tensor.data[begin:end].copy()
        quantization = tensor.quantization and tensor.quantization.of_rows(slice(begin, end))
        shape = (end - begin, *tensor.shape[1:])
        self._tensors[name] = replace(
            tensor, name=name, shape=shape, data=data, quantization=quantization
        )
        return name
