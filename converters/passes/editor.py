"""Questions about a graph, and the edits that rewrites of it are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from zeroskip.converters.ir import Graph, Op, Tensor


class Editor:
    """Questions about a graph, and the edits that rewrites are made of."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producer = {op.output: op for op in graph.ops}
        self.readers: dict[str, list[Op]] = {}
        for op in graph.ops:
            for name in set(op.inputs):
                self.readers.setdefault(name, []).append(op)

    def tensor(self, name: str) -> Tensor:
        return self.graph.tensors[name]

    def only_reader(self, name: str) -> Op | None:
        """The one op that reads `name`, unless the caller of the graph reads it, too."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.graph.outputs else None

    def fresh(self, name: str) -> str:
        return self.graph.fresh(name)

    def edit(
        self,
        changes: dict[str, Op | None],
        tensors: Iterable[Tensor] = (),
        after: dict[str, Op] | None = None,
    ) -> Graph:
        """Ops by name of their output: replaced, dropped (None), or followed by another."""
        ops: list[Op] = []
        for op in self.graph.ops:
            changed = changes.get(op.output, op)
            if changed is not None:
                ops.append(changed)
            if after and op.output in after:
                ops.append(after[op.output])
        return self.graph.with_ops(ops, tensors)

    def bypass(self, op: Op) -> Graph | None:
        """Drop an op that hands on its first input; None if the result must stay a tensor."""
        source = op.inputs[0]
        if op.output not in self.graph.outputs:
            changes: dict[str, Op | None] = {op.output: None}
            for reader in self.readers.get(op.output, []):
                changes[reader.output] = renamed(reader, op.output, source)
            return self.edit(changes)
        writer = self.producer.get(source)
        if writer is None or source in self.graph.outputs:
            return None
        changes = {op.output: None, source: replace(writer, output=op.output)}
        for reader in self.readers[source]:
            if reader.output != op.output:
                changes[reader.output] = renamed(reader, source, op.output)
        return self.edit(changes)


def renamed(op: Op, old: str, new: str) -> Op:
    """The op with another input."""
    return replace(op, inputs=tuple(new if name == old else name for name in op.inputs))
