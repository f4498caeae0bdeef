"""Fingerprints of code: what a function's source says, without how it is laid out."""

from __future__ import annotations

import linecache
import os
import sys
import types
import weakref
from bisect import bisect
from collections.abc import Callable, Collection, Iterator
from functools import partial
from hashlib import blake2b
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

__all__ = ["is_stdlib", "name_of", "of_code"]

_OWN = __name__.partition(".")[0]
_DESCRIPTORS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_LAMBDA = "<lambda>"


def of_code(fn: Callable[..., object] | type) -> str | None:
    """Return the fingerprint of a function's, or class's, source.

    The source counts by its tokens: comments, blank lines, line breaks inside brackets and the width
    of indentation do not, nor do docstrings (they are documentation) and the decorators above the
    function or class (`@task(retry=3)` is policy; what a wrapping decorator does counts through
    `__wrapped__`). A `partial` or method counts as its function, a callable object as its class, a
    class with its bases from the same top-level package, a lambda as its own expression. What is
    built in or from the standard library counts by name, so that Python may be upgraded. Values that
    the code reads from outside, globals and closures, are no part of it.

    Args:
        fn: anything that can be called.

    Returns:
        32 hexadecimal digits, or None where there is no source: then its author has to give a version.
    """
    layers = list(_layers(fn))
    digests = [_digest(layer) for layer in layers]
    if digests[-1] is None or len(digests) == 1:
        return digests[-1]
    # A wrapper without source, such as a compiled one, still counts by name.
    named = [digest or name_of(layer) for layer, digest in zip(layers, digests, strict=True)]
    return _hex("\0".join(named))


def name_of(thing: Any) -> str:
    """Return `module:qualname` of a function or type, the same from every process and Python version.

    A script's `__main__` goes by the script's own name, so that running and importing it agree.
    """
    module = getattr(thing, "__module__", None) or "builtins"
    if module in {"__main__", "__mp_main__"}:
        module = _main_name()
    elif module == "pathlib._local":  # where 3.13 alone keeps it
        module = "pathlib"
    return f"{module}:{thing.__qualname__}"


def is_stdlib(module: str | None) -> bool:
    """Return whether a module of that name is Python's own; None is the module of builtins."""
    return module is None or module.partition(".")[0] in sys.stdlib_module_names


def _main_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":  # started with -m
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"  # noqa: PTH119, PTH122  # pathlib is slow to import


def _layers(fn: Any) -> Iterator[Any]:
    """Yield what makes up a callable, from the outermost wrapper to the function inside."""
    seen: set[int] = set()
    while id(fn) not in seen:
        seen.add(id(fn))
        if isinstance(fn, partial):
            fn = fn.func
            continue
        if isinstance(fn, types.MethodType | staticmethod | classmethod):
            fn = fn.__func__
            continue
        # A class inherits its base's `__wrapped__`, which says nothing about it.
        inner = vars(fn).get("__wrapped__") if isinstance(fn, type) else getattr(fn, "__wrapped__", None)
        if inner is None:
            yield fn
            return
        if type(fn).__module__.partition(".")[0] != _OWN:  # a Task is policy around the code
            yield fn
        fn = inner
    yield fn  # wrapped in itself


def _digest(fn: Any) -> str | None:
    if isinstance(fn, types.FunctionType):
        if is_stdlib(fn.__globals__.get("__name__")):
            return _hex(f"{fn.__globals__.get('__name__')}:{fn.__code__.co_qualname}")
        return _remembered(fn.__code__, lambda: _of_function(fn))
    if isinstance(fn, _DESCRIPTORS):
        return _hex(name_of(fn))
    cls = fn if isinstance(fn, type) else type(fn)
    if is_stdlib(cls.__module__):
        return _hex(name_of(cls))
    return _remembered(cls, lambda: _of_class(cls))


_known: dict[int, tuple[weakref.ref[Any], str | None]] = {}


def _remembered(thing: Any, compute: Callable[[], str | None]) -> str | None:
    """Compute once per code object or class: by identity, for equal code may stem from other source."""
    key = id(thing)
    known = _known.get(key)
    if known is None:
        known = _known[key] = weakref.ref(thing, lambda _: _known.pop(key, None)), compute()
    return known[1]


def _of_function(fn: types.FunctionType) -> str | None:
    code = fn.__code__
    source = _read(code.co_filename, fn.__globals__)
    if source is None:
        return None
    nodes = source.functions.get((code.co_firstlineno, code.co_name), [])
    if len(nodes) > 1:
        nodes = _pick(nodes, code)
    # Lambdas nothing tells apart serve as one if they read the same.
    texts = {source.tokens(node) for node in nodes}
    return _hex(texts.pop()) if len(texts) == 1 else None


def _pick(nodes: list[Any], code: types.CodeType) -> list[Any]:
    """Return those of several lambdas beginning on one line that a code object may come from."""
    spots = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and end_line is not None and column is not None and end_column  # else no place
    ]
    if not spots:  # 3.12 gives a constant's no place; without debug ranges nothing has one
        return [node for node in nodes if _compiles_to(node, code)]
    first, last = min(spot[0] for spot in spots), max(spot[1] for spot in spots)
    holding = [
        node
        for node in nodes
        if (node.body.lineno, node.body.col_offset) <= first
        and last <= (node.body.end_lineno, node.body.end_col_offset)
    ]
    # A lambda inside a lambda lies in both bodies: it is the one that begins last.
    return sorted(holding, key=lambda node: (node.lineno, node.col_offset))[-1:]


def _compiles_to(node: Any, code: types.CodeType) -> bool:
    import ast

    made = next(
        const
        for const in compile(ast.Expression(node), code.co_filename, "eval").co_consts
        if isinstance(const, types.CodeType)
    )
    # By repr too, since 1 == True and 0.0 == -0.0; both sides are this interpreter's own constants.
    return (made.co_code, made.co_varnames, made.co_names, repr(made.co_consts)) == (
        code.co_code,
        code.co_varnames,
        code.co_names,
        repr(code.co_consts),
    )


def _of_class(cls: type) -> str | None:
    texts = [_class_tokens(cls)]
    if texts[0] is None:
        return None
    package = cls.__module__.partition(".")[0]
    bases = [base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] == package]
    return _hex("\0\0".join(filter(None, [*texts, *map(_class_tokens, bases)])))


def _class_tokens(cls: type) -> str | None:
    module = sys.modules.get(cls.__module__)
    codes = [member.__code__ for member in vars(cls).values() if isinstance(member, types.FunctionType)]
    # In a notebook the module has no file, but its methods know their cell.
    for file in dict.fromkeys([getattr(module, "__file__", None), *(code.co_filename for code in codes)]):
        source = _read(file, vars(module) if module else {}) if file else None
        nodes = source.classes.get(cls.__qualname__, []) if source else []
        if source and nodes:
            lines = {getattr(cls, "__firstlineno__", None), *(code.co_firstlineno for code in codes)}
            # Of several of one name, in an if and its else, the one its methods stand in.
            mine = [
                node for node in nodes if any(_top(node) <= line <= node.end_lineno for line in lines if line)
            ]
            return source.tokens(mine[-1] if mine else nodes[-1], policies=_policies(cls))
    return None


def _policies(cls: type) -> set[str]:
    """Return the methods whose outermost decorator made them a task of this library."""
    return {name for name, member in vars(cls).items() if type(member).__module__.partition(".")[0] == _OWN}


class _Source:
    """A file's text and where its functions and classes stand in it."""

    def __init__(self, lines: list[str]) -> None:
        import ast

        self.lines = lines
        self._encoded = [line.encode() for line in lines]  # ast counts columns in bytes of UTF-8
        self._starts = [0, *accumulate(map(len, self._encoded))]
        self.functions: dict[tuple[int, str], list[Any]] = {}
        self.classes: dict[str, list[Any]] = {}
        pending: list[tuple[ast.AST, str]] = [(ast.parse("".join(lines)), "")]
        while pending:
            node, scope = pending.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions.setdefault((_top(node), node.name), []).append(node)
                scope += f"{node.name}.<locals>."
            elif isinstance(node, ast.Lambda):
                self.functions.setdefault((node.lineno, _LAMBDA), []).append(node)
            elif isinstance(node, ast.ClassDef):
                self.classes.setdefault(scope + node.name, []).append(node)
                scope += f"{node.name}."
            pending += [(child, scope) for child in reversed(list(ast.iter_child_nodes(node)))]

    def tokens(self, node: Any, policies: Collection[str] = ()) -> str:
        """Return a node's tokens as one text, without docstrings and the decorators of `policies`."""
        import ast

        start, end = self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)
        cuts = []
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = inner.body[0]
                if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                    ends = first.end_lineno or 0, first.end_col_offset or 0
                    cuts.append((self._at(first.lineno, first.col_offset), self._at(*ends)))
        for method in node.body if policies else []:
            if getattr(method, "name", "") in policies and getattr(method, "decorator_list", None):
                rows = [*(decorator.lineno for decorator in method.decorator_list), method.lineno]
                cuts.append((self._at(rows[0], 0), self._at(rows[1], 0)))
        edges = [start, *(edge for cut in sorted(cuts) for edge in cut), end]
        text = "".join(self._slice(*kept) for kept in list(pairwise(edges))[::2])
        # In parentheses a lambda may break its lines here as it may where it stands.
        return _tokens(f"({text})" if isinstance(node, ast.Lambda) else text)

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _slice(self, start: int, end: int) -> str:
        first, last = bisect(self._starts, start) - 1, bisect(self._starts, end)
        whole = b"".join(self._encoded[first:last])
        return whole[start - self._starts[first] : end - self._starts[first]].decode()


_sources: dict[str, _Source | None] = {}


def _read(file: str, module_globals: dict[str, Any]) -> _Source | None:
    linecache.checkcache(file)
    lines = linecache.getlines(file, module_globals)
    known = _sources.get(file)
    if known is not None and known.lines is lines:
        return known
    if len(_sources) >= 16:  # files; a syntax tree is large, and is needed once per function
        _sources.clear()
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the import has warned already
            _sources[file] = _Source(lines) if lines else None
    except (SyntaxError, ValueError):  # no Python, or changed on disk since it was imported
        _sources[file] = None
    return _sources[file]


def _top(node: Any) -> int:
    """Return the line a function or class begins on as the interpreter counts: its first decorator's."""
    return int(min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]))


def _tokens(text: str) -> str:
    import io
    import tokenize as tk

    lines = text.split("\n")
    dropped = {tk.COMMENT, tk.NL, tk.ENCODING, tk.ENDMARKER}
    markers = {tk.NEWLINE: "\n", tk.INDENT: "\1", tk.DEDENT: "\2"}  # no token reads like these
    # Before 3.12 an f-string was one token: so it is here, as it stands in the source.
    opening = {getattr(tk, name, None) for name in ("FSTRING_START", "TSTRING_START")}
    closing = {getattr(tk, name, None) for name in ("FSTRING_END", "TSTRING_END")}
    kept: list[str] = []
    begins: list[tuple[int, int]] = []
    for token in tk.generate_tokens(io.StringIO(text + "\n").readline):
        if token.type in opening:
            begins.append(token.start)
        elif token.type in closing:
            (row, column), (end_row, end_column) = begins.pop(), token.end
            if not begins:
                rows = lines[row - 1 : end_row]
                rows[-1] = rows[-1][:end_column]
                rows[0] = rows[0][column:]
                kept.append("\n".join(rows))
        elif not begins and token.type not in dropped:
            kept.append(markers.get(token.type, token.string))
    return "\0".join(kept)


def _hex(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
