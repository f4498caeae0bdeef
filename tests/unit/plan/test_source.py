"""Fingerprints of code: what a function's source says counts, how it is laid out does not."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.util
import itertools
import json
import linecache
import math
import operator
import os
import pathlib
import subprocess
import sys
import timeit
import types
import typing
from collections.abc import Callable

import numpy as np
import pytest

import dotflow_like
from dotflow_like.plan import source
from dotflow_like.plan.source import name_of, of_code

ROOT = pathlib.Path(dotflow_like.__file__).parent.parent

Load = Callable[..., types.ModuleType]


@pytest.fixture
def load(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a text as a module of its own."""
    numbers = itertools.count()

    def load(text: str, name: str = "") -> types.ModuleType:
        name = name or f"loaded{next(numbers)}"
        file = tmp_path / f"{name}_{next(numbers)}.py"
        file.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def code(load: Load, text: str, name: str = "f") -> str:
    digest = of_code(operator.attrgetter(name)(load(text)))
    assert digest is not None
    assert len(digest) == 32
    return digest


BASE = """
def f(a, b=1):
    if a:
        return [a, b]
    return f"{a!r:>{b}} é {{}}"
"""


@pytest.mark.parametrize(
    "text",
    [
        "# before\n\n\n" + BASE + "\n# after\n",
        BASE.replace("    ", "\t"),
        BASE.replace("    ", "  "),
        BASE.replace("if a:", "if a:  # a comment\n\n        # another\n"),
        BASE.replace("\n    if", '\n    """Documented."""\n    if'),
        BASE.replace("\n    if", '\n    """Documented.\n\n  At\nlength: é.\n    """  # so it is\n\n    if'),
        BASE.replace("\n    if", "\n    ('one' \"two\")\n    if"),
        BASE.replace("[a, b]", "[\n  a,  # first\n\nb]"),
        BASE.replace("[a, b]", "[a,\\\n b]"),
        BASE.replace("(a, b=1)", "( a,b = 1 )"),
        "import functools\n@functools.lru_cache\n@functools.lru_cache(\n  maxsize=3,\n)\n" + BASE.strip(),
        BASE.rstrip(),
        BASE.replace("\n", "\r\n"),
        "\ufeff" + BASE,
        "# -*- coding: utf-8 -*-\n" + BASE,
    ],
)
def test_layout_comments_docstrings_and_decorators_do_not_count(load: Load, text: str) -> None:
    made = load(text).f
    assert of_code(inner_of(made)) == code(load, BASE)


def inner_of(fn: typing.Any) -> typing.Any:
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    return fn


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("b=1", "b=2"),
        BASE.replace("a, b=1", "a: int, b=1"),
        BASE.replace("[a, b]", "[a, b,]"),
        BASE.replace("[a, b]", "(a, b)"),
        BASE.replace("é {{}}", "é  {{}}"),
        BASE.replace("!r", "!s"),
        BASE.replace('f"', 'rf"'),
        BASE.replace("    return f", "        return f"),
        BASE.replace("return [", "yield ["),
        BASE.replace("def", "async def"),
        BASE.replace("\n    if", '\n    b"""No docstring."""\n    if'),
        BASE.replace("\n    if", '\n    f"""No docstring."""\n    if'),
        BASE.replace("\n    if", "\n    pass\n    '''No docstring.'''\n    if"),
    ],
)
def test_every_other_token_counts(load: Load, text: str) -> None:
    assert code(load, text) != code(load, BASE)


def test_what_is_docstring_only(load: Load) -> None:
    assert code(load, "def f():\n    '''One.'''\n") == code(load, "def f():\n    '''Two.'''\n")
    assert code(load, "def f(): 'One.'\n") == code(load, "def f(): 'Two.'\n")
    assert code(load, "def f():\n    'One.'\n") != code(load, "def f():\n    pass\n")


def test_the_form_is_pinned(load: Load) -> None:
    """A change here makes every recorded run's code look changed: mean it."""
    assert code(load, BASE) == "526d9cc35e5a5deb9edab547aa065a7e"
    assert code(load, "f = lambda x: x + 1") == "bbbbd28027ea33e7a1936a6153189763"


@pytest.mark.parametrize(
    "literal",
    [
        'f"{a}"',
        'f"{a}" "b" f\'{a}\'',
        'rf"\\d{a}"',
        'f"{a:>{b}}"',
        "f'''{a}\n  {b}\n'''",
        "f'{{{a}}}'",
        "f\"{a + f'{b}'}\"",
        "f''",
        'f"é{a}" + f"日本{a}" + "é"',
        'f"{a=}"',
    ],
)
def test_f_strings_are_their_text(load: Load, literal: str) -> None:
    other = literal.replace("a", "b") if "a" in literal else literal.removeprefix("f")
    first = code(load, f"def f(a, b):\n    return {literal}\n")
    assert first == code(load, f"def f(a,b):\n  return {literal}  # so\n")
    assert first != code(load, f"def f(a, b):\n    return {other}\n")


def test_kinds_of_functions(load: Load) -> None:
    module = load(
        "import functools\n"
        "class C:\n"
        "    def m(self): return 1\n"
        "    @classmethod\n"
        "    def c(cls): return 2\n"
        "    @staticmethod\n"
        "    def s(): return 3\n"
        "    def __call__(self): return 4\n"
        "async def a(): return 5\n"
        "def g(): yield 6\n"
        "def outer(n):\n"
        "    def inner():\n"
        "        return n\n"
        "    return inner\n"
        "p = functools.partial(functools.partial(g, 1), 2)\n"
    )
    cls = module.C
    digests = [
        of_code(fn) for fn in (cls.m, cls.c, cls.s, module.a, module.g, module.outer, cls, module.outer(1))
    ]
    assert None not in digests
    assert len(set(digests)) == len(digests)
    assert of_code(cls().m) == of_code(cls.m)
    assert of_code(vars(cls)["c"]) == of_code(cls.c)
    assert of_code(vars(cls)["s"]) == of_code(cls.s)
    assert of_code(cls()) == of_code(cls)
    assert of_code(module.p) == of_code(module.g)
    assert of_code(module.outer(1)) == of_code(module.outer(2))


def test_a_function_is_the_same_wherever_it_stands(load: Load) -> None:
    nested = "class A:\n    class B:\n        def f(self):\n            # c\n            return 1\n"
    assert code(load, nested, "A.B.f") == code(load, "def f(self):\n    return 1\n")


def test_wrappers_count_with_what_they_wrap(load: Load) -> None:
    text = (
        "import functools\n"
        "def twice(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(*args):\n"
        "        return fn(*args) * 2\n"
        "    return wrapper\n"
        "@twice\n"
        "def f(x):\n"
        "    return x\n"
    )
    first = code(load, text)
    assert first == code(load, text.replace("@twice", "@twice  # twice"))
    assert first != code(load, text.replace("* 2", "* 3"))
    assert first != code(load, text.replace("return x", "return -x"))
    assert first != code(load, text.replace("@twice", "@twice\n@twice"))
    assert first != of_code(load(text).f.__wrapped__)


def test_wrappers_of_the_standard_library_count_by_name(load: Load) -> None:
    text = "import contextlib, functools\n@{}\ndef f():\n    yield 1\n"
    made = [
        code(load, text.format(wrapper))
        for wrapper in ("contextlib.contextmanager", "contextlib.asynccontextmanager", "functools.lru_cache")
    ]
    assert len({*made, code(load, "def f():\n    yield 1\n")}) == 4


def test_a_wrapper_without_source_counts_by_name(load: Load) -> None:
    inner = load("def f(): return 1\n").f
    space: dict[str, typing.Any] = {"__name__": "made"}
    exec("def wrapper(): return 2", space)
    wrapper = space["wrapper"]
    wrapper.__wrapped__ = inner
    assert of_code(wrapper) not in {None, of_code(inner)}
    wrapper.__wrapped__ = eval("lambda: 0", {"__name__": "made"})
    assert of_code(wrapper) is None


def test_a_task_adds_nothing_to_its_function(load: Load) -> None:
    """Its policies are no code; the type stands in for `Task` by where it lives."""
    made = type("Task", (), {"__module__": "dotflow_like.declare.task", "__call__": lambda self: 1})()
    made.__wrapped__ = load(BASE).f
    assert of_code(made) == code(load, BASE)


def test_a_function_that_wraps_itself() -> None:
    def f() -> None: ...

    f.__wrapped__ = f  # type: ignore[attr-defined]
    assert of_code(f) is not None


LAMBDAS = "fs = [lambda: 1, lambda: 2, lambda x: x, lambda x: x + 1, lambda: (lambda: 3), (lambda y: lambda: y)(5)]\n"


def test_lambdas_on_one_line_are_told_apart(load: Load) -> None:
    digests = [of_code(f) for f in load(LAMBDAS).fs]
    assert None not in digests
    assert len(set(digests)) == 6
    assert of_code(load(LAMBDAS).fs[4]()) not in {None, digests[4]}
    # Editing one leaves the others as they were.
    for at, (old, new) in enumerate(
        [
            (": 1,", ": 9,"),
            (": 2,", ": 9,"),
            ("x: x,", "x: -x,"),
            ("x + 1", "x - 1"),
            ("(lambda: 3)", "(lambda: 9)"),
        ]
    ):
        edited = [of_code(f) for f in load(LAMBDAS.replace(old, new)).fs]
        assert [a == b for a, b in zip(digests, edited, strict=True)] == [other != at for other in range(6)]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("f = (lambda x:\n     x\n   + 1)\n", True),
        ("f = (\n  lambda x: (x +  # c\n  1\n ))\n", False),  # its parentheses are tokens
        ("é = 'é'; f = lambda x: x + 1\n", True),
        ("f = [lambda x:x+1, 1][0]\n", True),
        ("f = dict(a=lambda x: x + 1, b=lambda x: x + 2)['a']\n", True),
        ("f = dict(é=lambda x: x + 2, b=lambda x: x + 1)['b']\n", True),
        ("def g(h):\n    return h\n@g\ndef k(): ...\nf = g(lambda x: x + 1)\n", True),
        ("f = lambda x: x + 2\n", False),
        ("f = lambda x=1: x + 1\n", False),
    ],
)
def test_a_lambda_is_its_own_expression(load: Load, text: str, same: bool) -> None:
    assert (code(load, text) == code(load, "f = lambda x: x + 1\n")) is same


def test_lambdas_that_read_the_same_need_not_be_told_apart(load: Load) -> None:
    a, b = load("fs = [lambda: 1, lambda: 1]\n").fs
    assert of_code(a) == of_code(b) is not None


def test_without_columns_a_lambda_is_known_by_what_it_compiles_to(load: Load) -> None:
    def stripped(fn: types.FunctionType) -> types.FunctionType:
        made = fn.__code__.replace(co_linetable=b"")
        return types.FunctionType(made, fn.__globals__)

    text = "fs = [lambda: 1, lambda: True, lambda x: x, lambda x: -x, lambda a=1: 7, lambda a=2: 7]\n"
    whole = load(text).fs
    bare = [of_code(stripped(fn)) for fn in whole]
    assert bare[:4] == [of_code(fn) for fn in whole[:4]]
    assert bare[4:] == [None, None]  # these differ in nothing the code knows: their author has to say


def test_classes(load: Load) -> None:
    text = (
        "class Base:\n"
        "    def one(self): return 1\n"
        "class f(Base):\n"
        "    '''Documented.'''\n"
        "    limit = 3\n"
        "    def two(self):\n"
        "        '''Documented.'''\n"
        "        return 2\n"
        "    @property\n"
        "    def three(self): return 3\n"
    )
    first = code(load, text)
    for old, new in (
        ("Documented", "Described"),
        ("return 2", "return 2  # two"),
        ("class f", "@repr\n@type\nclass f"),
    ):
        if old != "class f":
            assert code(load, text.replace(old, new)) == first
    for old, new in (
        ("limit = 3", "limit = 4"),
        ("return 2", "return 3"),
        ("@property", "@staticmethod"),
        ("return 1", "return 2"),  # in its base, of the same package
        ("(Base)", ""),
    ):
        assert code(load, text.replace(old, new)) != first


def test_decorators_of_a_class_and_of_its_tasks_do_not_count(load: Load) -> None:
    text = (
        "class Task:\n"
        "    __module__ = 'dotflow_like.declare.task'\n"
        "def task(**options):\n"
        "    def decorate(fn):\n"
        "        made = Task()\n"
        "        made.fn = fn\n"
        "        return made\n"
        "    return decorate\n"
        "def other(fn): return fn\n"
        "def mark(number): return lambda cls: cls\n"
        "@mark(1)\n"
        "class f:\n"
        "    @task(\n"
        "        retry=1,\n"
        "    )\n"
        "    @other\n"
        "    def one(self): return 1\n"
        "    @other\n"
        "    def two(self): return 2\n"
    )
    first = code(load, text)
    assert first == code(load, text.replace("retry=1", "retry=2"))
    assert first == code(load, text.replace("mark(1)", "mark(2)"))
    assert first != code(load, text.replace("    @other\n    def one", "    def one"))
    assert first != code(load, text.replace("    @other\n    def two", "    def two"))


def test_of_two_classes_of_one_name_the_living_one_counts(load: Load) -> None:
    text = "if {}:\n    class f:\n        def m(self): return 1\nelse:\n    class f:\n        def m(self): return 2\n"
    assert code(load, text.format("True")) != code(load, text.format("False"))
    assert code(load, text.format("True")) == code(load, "class f:\n    def m(self): return 1\n")


def test_bases_of_other_packages_do_not_count(load: Load) -> None:
    text = "import json\nclass f(json.JSONEncoder):\n    x = 1\n"
    assert code(load, text) == code(load, text.replace("import json\n", "import json  # so\n"))


def test_what_is_built_in_or_standard_goes_by_name() -> None:
    fns: list[typing.Any] = [
        len, math.sin, str.upper, json.dumps, os.path.join, operator.itemgetter(1), int, dict,
        contextlib.suppress, np.array,
    ]  # fmt: skip
    digests = [of_code(fn) for fn in fns]
    assert None not in digests
    assert len(set(digests)) == len(fns)


def test_no_source_is_none(load: Load, tmp_path: pathlib.Path) -> None:
    space: dict[str, typing.Any] = {"__name__": "made"}
    exec("def f(): return 1\ng = lambda: 1\nclass C: pass", space)
    assert [of_code(space[name]) for name in ("f", "g", "C")] == [None] * 3
    module = load("def f(): return 1\n")
    pathlib.Path(module.__file__ or "").unlink()
    assert of_code(module.f) is None
    assert of_code(np.sin) is None


def test_a_file_that_is_no_longer_what_was_imported_gives_none_not_an_error(load: Load) -> None:
    module = load("def f(): return 1\n")
    pathlib.Path(module.__file__ or "").write_text("def f(: no python\n")
    assert of_code(module.f) is None
    module = load("def f(): return 1\n")
    pathlib.Path(module.__file__ or "").write_text("\n\n\n")
    assert of_code(module.f) is None


def test_source_that_warns_when_parsed(load: Load) -> None:
    """Warnings are errors here, and an invalid escape warns in every version."""
    with pytest.warns((DeprecationWarning, SyntaxWarning)):
        module = load("def f():\n    return '\\d'\n")
    assert of_code(module.f) is not None


def test_cells_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their source is only in `linecache`, and their module has no file."""
    text = "def f(): return 1\nclass C:\n    def m(self): return [lambda: 2]\n"
    name = "<ipython-input-1-abc>"
    monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
    space: dict[str, typing.Any] = {"__name__": "a_notebook"}
    exec(compile(text, name, "exec"), space)
    digests = [of_code(fn) for fn in (space["f"], space["C"], space["C"]().m()[0])]
    assert None not in digests
    assert len(set(digests)) == 3


def test_reloading_an_edited_module_is_seen(load: Load) -> None:
    module = load("def f(): return 1\n")
    before = of_code(module.f)
    file = pathlib.Path(module.__file__ or "")
    file.write_text("# moved\ndef f(): return 22\n")
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    assert of_code(module.f) not in {None, before}


def test_deeply_nested_expressions(load: Load) -> None:
    assert code(load, "def f(x):\n    return " + "+".join(["x"] * 900) + "\n")


def test_of_one_function_it_is_computed_once(load: Load) -> None:
    module = load("def outer(n):\n    def inner(): return n\n    return inner\n")
    fns = [module.outer(n) for n in range(20_000)]
    took = timeit.timeit(lambda: [of_code(fn) for fn in fns], number=1)
    assert took < 1  # seconds; 40 ms on an idle machine, some minutes if each were read
    assert len({of_code(fn) for fn in fns[:10]}) == 1


def test_what_is_remembered_goes_with_the_function(load: Load) -> None:
    module = load("def f(): return 1\n")
    before = len(source._known)
    of_code(module.f)
    assert len(source._known) == before + 1
    del module.f
    gc.collect()
    assert len(source._known) <= before


def test_many_files_do_not_stay_in_memory(load: Load) -> None:
    for number in range(40):
        assert of_code(load(f"def f(): return {number}\n").f) is not None
    assert len(source._sources) <= 16


def test_names(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_of(dict) == "builtins:dict"
    assert name_of(len) == "builtins:len"
    assert name_of(pathlib.PurePath) == "pathlib:PurePath"
    assert name_of(load("class A:\n    class B: pass\n", "named").A.B) == "named:A.B"
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    fn = type("C", (), {"__module__": "__main__"})
    assert name_of(fn) == "__main__:C"
    main.__file__ = "/somewhere/my_script.py"
    assert name_of(fn) == "my_script:C"
    main.__spec__ = importlib.util.spec_from_loader("package.tool", None)
    assert name_of(fn) == "package.tool:C"
    assert name_of(type("C", (), {"__module__": "__mp_main__"})) == "package.tool:C"


def test_a_spawned_process_agrees_with_the_script_that_started_it(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "spawning.py"
    script.write_text(
        "import multiprocessing\n"
        "from dotflow_like.plan.fingerprint import of_value\n"
        "def f(): return 1\n"
        "def report(): return of_value(f, where='x')\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(report) == report())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_a_signature_keeps_functools_wraps_harmless() -> None:
    @functools.wraps(len)
    def wrapper() -> None: ...

    assert of_code(wrapper) is not None
