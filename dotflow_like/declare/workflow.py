"""A workflow: named, versioned tasks, as a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dotflow_like.declare.conditions import Condition, condition_from
from dotflow_like.declare.reactions import OnException, Reactions, reactions_from
from dotflow_like.declare.task import Task, as_task
from dotflow_like.errors import DeclarationError

__all__ = ["Definition"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, init=False)
class Definition:
    """Named, versioned tasks in their order.

    Args:
        tasks: the tasks, as `Task` or `"package.module:attr"`.
        name: matches `^[a-z][a-z0-9_]*$`, without `__`. Default `workflow`.
        version: any text; it is recorded with every run. Default none.
        on_exception: what becomes of a task that raises, where the task's own `on_exception=` does not say; see `task`.
        cancel_if: a bool, or a function that returns one, looked at right before each body: if it holds, the run is
            cancelled. Its parameters are filled by name with what that task is given, and from the run's params.

    Raises:
        DeclarationError: a name that does not match, something in the list that is no task, or another bad value.
    """

    tasks: tuple[Task[..., Any], ...]
    name: str
    version: str | None
    reactions: Reactions
    cancel_if: Condition | None

    def __init__(
        self,
        tasks: Iterable[Task[..., Any] | str],
        *,
        name: str = "workflow",
        version: str | None = None,
        on_exception: OnException = None,
        cancel_if: bool | Callable[..., Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or "__" in name:
            raise DeclarationError(
                f"workflow name {name!r} does not do: use small letters, digits and single underscores, "
                "a letter first, as in 'nightly_load'"
            )
        if version is not None and not isinstance(version, str):
            raise DeclarationError(f"workflow {name!r}: version is {version!r}; give a text")
        if isinstance(tasks, str | Task) or not isinstance(tasks, Iterable):
            raise DeclarationError(
                f"workflow {name!r}: tasks is {tasks!r}; give a list of tasks, as in [{tasks!r}]"
            )
        listed = tuple(
            each if type(each) is Task else as_task(each, f"tasks[{i}]") for i, each in enumerate(tasks)
        )
        object.__setattr__(self, "tasks", listed)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "version", version)
        where = f"workflow {name!r}"
        condition = None if cancel_if is None else condition_from("cancel_if", cancel_if, where)
        object.__setattr__(self, "reactions", reactions_from(on_exception, where))
        object.__setattr__(self, "cancel_if", condition)
