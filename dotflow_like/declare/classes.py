"""A decorated class: the methods it runs, and what they want to be given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from dotflow_like.declare.signature import Signature, signature_of, united
from dotflow_like.errors import DeclarationError

__all__ = ["methods_of", "signature_of_class"]


class _Method(Protocol):
    fn: Callable[..., Any]
    name: str

    def _own_options(self) -> list[str]: ...


M = TypeVar("M", bound=_Method)


def methods_of(cls: type, kind: type[M]) -> tuple[M, ...]:
    """Return the tasks among the methods of a class, inherited ones first, in the order in which they are defined.

    Args:
        cls: the class.
        kind: what a task is.

    Raises:
        DeclarationError: there is none, or one that cannot be run so.
    """
    found: dict[str, Any] = {}
    for ancestor in reversed(cls.__mro__):
        found.update(
            {
                name: value
                for name, value in vars(ancestor).items()
                if name in found or isinstance(value, kind)
            }
        )
    methods = tuple(value for value in found.values() if isinstance(value, kind))
    if not methods:
        raise DeclarationError(
            f"class {cls.__name__!r} has no task to run: decorate methods of it with @task"
        )
    for method in methods:
        if isinstance(method.fn, staticmethod):
            raise DeclarationError(
                f"method {method.name!r} of class {cls.__name__!r} is a staticmethod: a decorated class runs its "
                "methods on one instance; give it a self, or take @task from it"
            )
        if method._own_options():
            raise DeclarationError(
                f"method {method.name!r} of class {cls.__name__!r} has options of its own "
                f"({', '.join(method._own_options())}): a decorated class is one task, give them to the class"
            )
    return methods


def signature_of_class(cls: Callable[..., Any], methods: Iterable[Callable[..., Any]]) -> Signature:
    """Return the signature of a class of which one instance is made, and these methods are called on it."""
    made_by = vars(cls).get("__init__") or cls.__init__
    own = signature_of(made_by, method=True) if made_by is not object.__init__ else Signature((), False)
    return united([own, *(signature_of(method, method=True) for method in methods)])
