"""Who a task is: what its result was computed from, and by what code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dotflow_like.declare.task import Task
from dotflow_like.errors import FingerprintError
from dotflow_like.plan.inputs import Input, Need, Source, gathered
from dotflow_like.plan.node import Node

__all__ = ["Identities", "Identity"]


class Identity(NamedTuple):
    """The fingerprints of a task.

    Attributes:
        inputs: one for each input, by name; None when one could not be taken.
        code: that of its version or source; None when there is neither.
    """

    inputs: Mapping[str, str] | None
    code: str | None


_NO_INPUTS: Mapping[str, str] = {}


class Identities:
    """Takes the fingerprints of the tasks of one plan.

    Args:
        fingerprint: the caller's own for the whole run, which stands in for those of the inputs.
        strict: raise for an input that has none, instead of recording that it has none.
    """

    def __init__(self, fingerprint: str | None, *, strict: bool) -> None:
        self._whole = (
            None if fingerprint is None else {"fingerprint": _of_value(fingerprint, where="fingerprint=")}
        )
        self.strict = strict
        # of tasks without inputs of their own, by function and version; the plan holds the functions
        self._plain: dict[tuple[int, str | None], Identity] = {}

    def of(self, node: Node) -> Identity:
        """Return the fingerprints of a task, or of an item of a map.

        Raises:
            FingerprintError: an input has none, and this is strict.
        """
        task = node.task
        key = id(task.fn), task.version
        plain = self._plain.get(key)
        if plain is None:
            code = f"version {task.version}" if task.version is not None else _of_code(task)
            plain = self._plain[key] = Identity(self._whole or _NO_INPUTS, code)
        if self._whole is not None or (not node.inputs and task.initial_context is None):
            return plain
        code = plain.code
        try:
            inputs = {
                each.name: _of_input(each, node.key) for each in node.counted if each.source in _COUNTED
            }
            if task.initial_context is not None:
                inputs["initial_context"] = _of_value(
                    task.initial_context, where=f"task {node.key!r}, initial_context"
                )
            return Identity(inputs, code)
        except FingerprintError:
            if self.strict:
                raise
            return Identity(None, code)


_COUNTED = frozenset({Source.CONSTANT, Source.PARAM, Source.RESULT, Source.GATHER})


def _of_input(each: Input, key: str) -> str:
    where = f"task {key!r}, parameter {each.name!r}"
    if each.source is Source.RESULT:
        return f"task {each.payload.key}"
    if each.source is Source.GATHER:
        # which task fills which place is an input; what that task returned is not
        return _of_value(
            gathered(each.payload, lambda one: ("task", one.key) if type(one) is Need else ("value", one)),
            where=where,
        )
    return _of_value(each.payload, where=where)


def _of_value(value: object, *, where: str) -> str:
    """Return `fingerprint.of_value`, loaded when a run is recorded for the first time."""
    from dotflow_like.plan import fingerprint

    return fingerprint.of_value(value, where=where)


def _of_code(task: Task[..., Any]) -> str | None:
    """Return `source.of_code` of a task's function, loaded likewise."""
    from dotflow_like.plan import source

    return source.of_code(task.fn)
