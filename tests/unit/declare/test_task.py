"""A task: a decorated function that is still the function, and a value."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from dotflow_like import DeclarationError, RetryPolicy, Task, Workflow, task
from dotflow_like.testing import run_inline

MakeModule = Callable[[str], ModuleType]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    """Make a text a module that can be imported by its name."""

    def make(text: str, name: str = "made_for_a_test") -> ModuleType:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = __import__(name)
        monkeypatch.setitem(sys.modules, name, module)  # taken out again afterwards
        return module

    return make


@task
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


sub = task(lambda a: -a, name="sub")


class TestForms:
    def test_bare(self) -> None:
        assert isinstance(add, Task)
        assert add.name == "add"

    def test_called_without_options(self) -> None:
        @task()
        def one() -> int:
            return 1

        assert isinstance(one, Task)
        assert one() == 1

    def test_called_with_options(self) -> None:
        @task(retry=3, name="other")
        def one() -> int:
            return 1

        assert (one.name, one.policy.max_attempts) == ("other", 3)

    def test_the_decorator_called_on_a_function(self) -> None:
        def one() -> int:
            return 1

        assert task(one).name == "one"
        assert task(one, name="x").name == "x"

    def test_a_task_is_given_back_as_it_is(self) -> None:
        assert task(add) is add

    def test_a_task_with_options_is_a_new_one(self) -> None:
        other = task(add, name="other")
        assert (other.name, add.name) == ("other", "add")
        assert other.origin is add

    def test_a_lambda_is_called_lambda(self) -> None:
        assert task(lambda: 1).name == "lambda"
        assert run_inline([task(lambda: 1)])["lambda"].result == 1

    def test_a_closure(self) -> None:
        def outer(n: int) -> Callable[[], int]:
            def inner() -> int:
                return n

            return inner

        run = run_inline([task(outer(1)), task(outer(2))])
        assert dict(run.results) == {"inner": 1, "inner#2": 2}

    def test_an_async_function(self) -> None:
        @task
        async def one() -> int:
            return 1

        assert run_inline([one])[one].result == 1
        awaitable = one()
        assert inspect.iscoroutine(awaitable)
        awaitable.close()

    def test_a_partial_is_named_after_its_function(self) -> None:
        made = task(functools.partial(add.fn, 1, b=5))
        assert made.name == "add"
        assert run_inline([made])["add"].result == 6

    def test_what_a_partial_has_filled_may_be_bound_again(self) -> None:
        made = task(functools.partial(add.fn, a=1)).bind(b=10)
        assert run_inline([made])["add"].result == 11
        assert run_inline([made.bind(a=2)])["add"].result == 12

    def test_a_partial_of_a_task(self) -> None:
        assert run_inline([task(functools.partial(add, 1))])["add"].result == 3

    def test_a_callable_object_is_named_after_its_class(self) -> None:
        class Adder:
            def __init__(self, n: int) -> None:
                self.n = n

            def __call__(self, x: int) -> int:
                return self.n + x

        made = task(Adder(3)).bind(x=4)
        assert made.name == "Adder"
        assert run_inline([made])["Adder"].result == 7

    def test_a_callable_object_that_is_async(self) -> None:
        class Adder:
            async def __call__(self, x: int) -> int:
                return x + 1

        assert run_inline([task(Adder()).bind(x=4)])["Adder"].result == 5

    def test_a_bound_method(self) -> None:
        class Adder:
            def __init__(self, n: int) -> None:
                self.n = n

            def more(self, x: int) -> int:
                return self.n + x

        made = task(Adder(3).more).bind(x=4)
        assert made.name == "more"
        assert run_inline([made])["more"].result == 7

    def test_an_unbound_method_has_its_self_bound(self) -> None:
        class Adder:
            def more(self, x: int) -> int:
                return x + 1

        assert run_inline([task(Adder.more).bind(self=Adder(), x=4)])["more"].result == 5

    def test_a_decorated_method_of_a_plain_class_stays_a_method(self) -> None:
        class Adder:
            n = 3

            @task
            def more(self, x: int) -> int:
                return self.n + x

        assert Adder().more(4) == 7
        assert isinstance(Adder.more, Task)
        assert run_inline([task(Adder().more).bind(x=4)])["more"].result == 7

    def test_a_builtin(self) -> None:
        assert run_inline([task(len).bind(obj="four")])["len"].result == 4

    def test_a_builtin_that_does_not_tell_its_parameters(self) -> None:
        with pytest.raises(ValueError, match="no signature"):
            inspect.signature(max)
        assert task(max).signature.open_ended

    def test_a_wrapped_function_keeps_its_parameters(self) -> None:
        def twice(fn: Callable[..., int]) -> Callable[..., int]:
            @functools.wraps(fn)
            def wrapper(*args: int, **kwargs: int) -> int:
                return 2 * fn(*args, **kwargs)

            return wrapper

        @task
        @twice
        def more(x: int) -> int:
            return x + 1

        assert run_inline([more.bind(x=1)])[more].result == 4
        with pytest.raises(TypeError, match="no parameter 'y'"):
            more.bind(y=1)

    @pytest.mark.parametrize("thing", [3, [1], object(), property(lambda self: 1)])
    def test_what_cannot_be_called_is_refused(self, thing: object) -> None:
        with pytest.raises(DeclarationError, match="not callable; give a function or a class"):
            task(thing)  # type: ignore[call-overload]


class TestAsTheFunction:
    def test_it_is_called_as_the_function(self) -> None:
        assert add(1) == 3
        assert add(1, b=3) == 4
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            add()  # type: ignore[call-arg]

    def test_bound_values_do_not_change_a_plain_call(self) -> None:
        assert add.bind(a=5)(1) == 3

    def test_an_exception_passes_through(self) -> None:
        @task
        def fail() -> None:
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            fail()

    def test_it_looks_like_the_function(self) -> None:
        assert (add.__name__, add.__doc__) == ("add", "Add two numbers.")  # type: ignore[attr-defined]
        assert add.__module__ == __name__
        assert add.__qualname__ == "add"  # type: ignore[attr-defined]
        assert add.__wrapped__ is add.fn  # type: ignore[attr-defined]
        assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = 2) -> 'int'"

    def test_its_annotations_are_the_functions(self) -> None:
        assert typing.get_type_hints(add) == {"a": int, "b": int, "return": int}

    def test_nothing_of_the_task_shows_through_where_there_are_no_annotations(self) -> None:
        assert inspect.get_annotations(task(functools.partial(print, 1))) == {}
        assert typing.get_type_hints(task(lambda: 1)) == {}

    def test_repr_says_the_id(self) -> None:
        assert repr(add) == "<task 'add'>"
        assert repr(add.with_options(task_id="sum")) == "<task 'sum'>"


class TestValue:
    def test_attributes_cannot_be_set(self) -> None:
        with pytest.raises(AttributeError, match=r"use \.with_options\(name=\.\.\.\)"):
            add.name = "x"
        with pytest.raises(AttributeError, match="with_options"):
            add.anything = 1  # type: ignore[attr-defined]

    def test_attributes_cannot_be_deleted(self) -> None:
        with pytest.raises(AttributeError, match="name stays"):
            del add.name

    def test_what_is_bound_cannot_be_changed(self) -> None:
        with pytest.raises(TypeError, match="does not support item assignment"):
            add.bound["a"] = 1  # type: ignore[index]
        bound = add.bind(a=1)
        with pytest.raises(TypeError, match="does not support item assignment"):
            bound.bound["a"] = 2  # type: ignore[index]
        assert add.bound == {}

    def test_it_is_hashable_and_equal_to_itself_only(self) -> None:
        assert add == add.__copy__()
        assert len({add, add, add.bind(a=1), add.bind(a=1)}) == 3

    def test_a_run_leaves_no_trace_on_it(self) -> None:
        bound = add.bind(a=1)
        before = {name: value for name, value in vars(bound).items() if name != "_signature"}
        run_inline([bound])
        assert {name: value for name, value in vars(bound).items() if name != "_signature"} == before

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_is_the_task_itself(self, copied: Callable[[object], object]) -> None:
        assert copied(add) is add
        tasks = copied([add.bind(a=1), sub.bind(a=add)])
        assert Workflow(tasks).plan().graph["sub"].needs == ["add"]  # type: ignore[arg-type]


MODULE = """
    import functools

    from dotflow_like import Workflow, task

    names = []

    @task(retry=3, timeout=5)
    def load(n: int = 1) -> int:
        names.append(n)
        return n

    @task
    @functools.lru_cache
    def cached(n: int = 1) -> int:
        return n

    more = load.bind(n=7)
    keyed = load.with_options(task_id="k", group_name="g")

    @task
    class Steps:
        @task
        def first(self) -> int:
            return 1

    class Plain:
        @task
        def method(self) -> int:
            return 4

    class Callable:
        def __call__(self) -> int:
            return 9

    called = task(Callable())
    workflow = Workflow([load.bind(n=2), cached.bind(n=load)], name="w")
"""

PICKLERS = pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
Dumps = Callable[[object], bytes]


class TestPickle:
    @PICKLERS
    def test_a_modules_task_comes_back_as_itself(self, make_module: MakeModule, dumps: Dumps) -> None:
        module = make_module(MODULE)
        assert pickle.loads(dumps(module.load)) is module.load
        assert pickle.loads(dumps(module.Steps)) is module.Steps
        assert pickle.loads(dumps(module.cached)) is module.cached
        assert pickle.loads(dumps(module.Plain.method)) is module.Plain.method

    @PICKLERS
    def test_a_derived_task_keeps_all_it_says(self, make_module: MakeModule, dumps: Dumps) -> None:
        module = make_module(MODULE)
        back = pickle.loads(dumps(module.more))
        assert back.fn is module.load.fn
        assert back.origin is module.load
        assert (back.bound, back.policy, back.timeout) == ({"n": 7}, RetryPolicy(3), 5)
        assert run_inline([back])["load"].result == 7
        assert module.names == [7]
        keyed = pickle.loads(dumps(module.keyed))
        assert (keyed.task_id, keyed.group_name) == ("k", "g")
        assert pickle.loads(dumps(module.called))() == 9
        assert pickle.loads(dumps(module.Steps.with_options(retry=2))).methods == module.Steps.methods

    @PICKLERS
    def test_what_comes_back_is_as_immutable(self, make_module: MakeModule, dumps: Dumps) -> None:
        back = pickle.loads(dumps(make_module(MODULE).more))
        assert (back.__name__, back.__wrapped__) == ("load", back.fn)
        assert typing.get_type_hints(back) == {"n": int, "return": int}
        with pytest.raises(AttributeError):
            back.name = "x"
        with pytest.raises(TypeError):
            back.bound["n"] = 8

    @PICKLERS
    def test_a_workflow_finds_its_dependencies_again(self, make_module: MakeModule, dumps: Dumps) -> None:
        back = pickle.loads(dumps(make_module(MODULE).workflow))
        assert back.name == "w"
        assert dict(run_inline(back).results) == {"load": 2, "cached": 2}

    def test_lambdas_and_closures_go_by_cloudpickle(self) -> None:
        n = 3
        made = task(lambda x: x + n).bind(x=4)
        back = cloudpickle.loads(cloudpickle.dumps(made))
        assert run_inline([back])["lambda"].result == 7

    def test_a_scripts_task_goes_by_value(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent("""
            import sys, cloudpickle
            from dotflow_like import task

            unit = 10

            @task(retry=2)
            def load(n=1):
                return n * unit

            sys.stdout.buffer.write(cloudpickle.dumps(load.bind(n=4)))
            """),
            encoding="utf-8",
        )
        made = subprocess.run([sys.executable, str(script)], capture_output=True, check=True).stdout
        back = pickle.loads(made)
        assert back.policy.max_attempts == 2
        assert run_inline([back])["load"].result == 40
