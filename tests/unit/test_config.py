"""From words to objects: the options of a run, and their refusals."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import uuid
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Config,
    ConfigError,
    FileStorage,
    Manager,
    MemoryStorage,
    Metrics,
    Run,
    Tracer,
    Workflow,
    task,
)


@task
def one() -> int:
    return 1


def run(**options: Any) -> Run:
    return Manager([one], **options)


class Watch:
    """Neither a tracer nor metrics by its class, but with a method of both."""

    def start_task(self, task: object) -> None: ...

    def task_completed(self, task: object) -> None: ...


VAR: ContextVar[str] = ContextVar("VAR")


def needs_none(level: int = 3, *more: int, **named: int) -> None: ...


def needs_one(level: int) -> None: ...


async def asynchronous() -> None: ...


class TestConfig:
    def test_defaults(self) -> None:
        config = Config()
        assert (config.storage, config.tracer, config.metrics, config.grace) == (None, None, None, 10)
        assert not config.keeps
        assert (config.max_workers, config.start_method, config.worker_init) == (None, "spawn", None)
        assert (config.max_tasks_per_worker, config.contextvars) == (None, ())

    def test_it_is_a_value(self) -> None:
        assert Config(storage="a") == Config(storage="a") != Config(storage="b")
        with pytest.raises(dataclasses.FrozenInstanceError):
            Config().grace = 1  # type: ignore[misc]

    def test_making_one_touches_nothing(self, tmp_path: Path) -> None:
        Config(storage=tmp_path / "runs")
        Config(storage=f"file://{tmp_path}/runs")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("storage", "keeps"),
        [
            (None, False),
            ("memory://", False),
            ("MEMORY://", False),
            ("runs", True),
            (Path("runs"), True),
            ("file:///tmp/runs", True),
            (MemoryStorage(), True),
            (FileStorage("runs"), True),
        ],
    )
    def test_what_outlives_a_run(self, storage: Any, keeps: bool) -> None:
        assert Config(storage=storage).keeps is keeps

    @pytest.mark.parametrize("watch", [Watch(), Tracer(), Metrics()])
    def test_a_provider_has_a_method_of_its_kind(self, watch: Any) -> None:
        if not isinstance(watch, Metrics):
            assert Config(tracer=watch).tracer is watch
        if not isinstance(watch, Tracer):
            assert Config(metrics=watch).metrics is watch

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"storage": 3}, "storage is 3; give a folder, a URL such as 'sqlite:///runs.db', or a Storage"),
            ({"storage": ""}, "storage is ''; give a folder"),
            ({"storage": FileStorage}, "storage is <class .*FileStorage'>; give a folder"),
            ({"grace": -1}, "grace is -1; give a finite number of seconds, 0 or more"),
            ({"grace": math.inf}, "grace is inf"),
            ({"grace": None}, "grace is None"),
            ({"tracer": 3}, "tracer"),
            ({"tracer": Tracer}, "tracer"),
            ({"metrics": object()}, "metrics"),
            ({"max_workers": 0}, "max_workers is 0; give a whole number, 1 or more"),
            ({"max_workers": True}, "max_workers is True"),
            ({"max_workers": 2.0}, r"max_workers is 2\.0"),
            ({"max_tasks_per_worker": 0}, "max_tasks_per_worker is 0; give a whole number, 1 or more"),
            ({"max_tasks_per_worker": "3"}, "max_tasks_per_worker is '3'"),
            ({"start_method": "forkserver"}, "start_method is 'forkserver'; there are 'spawn' and 'fork'"),
            ({"start_method": None}, "start_method is None"),
            ({"worker_init": "setup"}, "worker_init is 'setup'; give a function that is called without argu"),
            ({"worker_init": needs_one}, "worker_init is <function needs_one .*; give a function that is"),
            ({"worker_init": asynchronous}, "worker_init is <function asynchronous .*, not an async one"),
            (
                {"contextvars": VAR},
                r"contextvars is <ContextVar .*give the variables .*: contextvars=\[var\]",
            ),
            ({"contextvars": "request"}, "contextvars is 'request'; give the variables themselves"),
            ({"contextvars": [VAR, "request"]}, r"contextvars is \[<ContextVar .*, 'request'\]; give"),
            ({"contextvars": None}, "contextvars is None"),
        ],
    )
    def test_what_cannot_work(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Config(**options)

    def test_where_a_process_cannot_fork_fork_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "fork")
        with pytest.raises(ConfigError, match="start_method is 'fork', which this system has not; there is"):
            Config(start_method="fork")

    @pytest.mark.parametrize("init", [lambda: None, needs_none, functools.partial(needs_one, 1), print])
    def test_workers_are_initialised_by_whatever_can_be_called_without_arguments(self, init: Any) -> None:
        assert Config(worker_init=init).worker_init is init

    def test_context_variables_are_kept_as_a_tuple(self) -> None:
        other = ContextVar[int]("other")
        for given in ([VAR, other], (each for each in (VAR, other)), {VAR: 1, other: 2}):
            assert Config(contextvars=given).contextvars == (VAR, other)

    def test_what_workers_are_like_is_one_value(self) -> None:
        config = Config(
            start_method="fork", worker_init=needs_none, max_tasks_per_worker=3, contextvars=[VAR]
        )
        assert config.workers == ("fork", needs_none, 3, (VAR,))
        assert Config().workers == ("spawn", None, None, ())

    def test_an_unknown_word_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'log'"):
            Config(log=1)  # type: ignore[call-arg]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"on_success": 3}, "on_success is 3; give a function that takes tasks="),
            ({"on_failure": "print"}, "on_failure is 'print'; give a function"),
            ({"config": {"storage": "a"}}, r"config is \{.*\}; give a Config\(\.\.\.\)"),
            ({"config": Config}, r"config is <class .*; give a Config\(\.\.\.\)"),
            ({"storage": "a", "config": Config(storage="b")}, "both say where; give one of them"),
            ({"storage": 3}, "storage is 3"),
            ({"storage": "nowhere://x"}, "storage scheme 'nowhere' is not known"),
            (
                {"storage": "postgresql://me:secret@host/db"},
                "storage scheme 'postgresql' is not available in this",
            ),
            ({"params": [1]}, r"params is \[1\]; give a dict from parameter names to values"),
            ({"params": {1: 2}}, r"params is \{1: 2\}; give a dict"),
            (
                {"executor": "thread"},
                "executor='thread' goes with mode='parallel', not with mode='sequential'",
            ),
            (
                {"executor": "dask", "mode": "parallel"},
                "executor is 'dask'; there are 'process', 'thread' and",
            ),
            ({"max_workers": 0}, "max_workers is 0; give a whole number, 1 or more"),
            ({"max_workers": True}, "max_workers is True"),
            ({"max_workers": 1.5}, r"max_workers is 1\.5"),
            ({"timeout": 0}, "timeout is 0; give more than 0 seconds, or None for no limit"),
            ({"timeout": -1}, "timeout is -1"),
            ({"timeout": "5"}, "timeout is '5'"),
            ({"workflow_id": ""}, "workflow_id is ''; give a text that is not empty, or a UUID"),
            ({"workflow_id": 5}, "workflow_id is 5"),
            ({"fingerprint": 5}, "fingerprint is 5; give a text that changes when the inputs do"),
            ({"on_input_change": "rerun"}, "on_input_change is 'rerun'; there are 'reuse', 'reset', 'raise'"),
            ({"on_code_change": "reset"}, "on_code_change is 'reset'; there are 'reuse', 'rerun', 'raise'"),
            ({"on_code_change": None}, "on_code_change is None"),
            ({"resume": True, "storage": "a"}, "resume=True needs workflow_id="),
            ({"resume": True, "workflow_id": "w"}, "resume=True needs a storage that outlives the process"),
            ({"resume": True, "workflow_id": "w", "storage": "memory://"}, "needs a storage that outlives"),
            ({"resume": True, "workflow_id": "w", "storage": "Memory://"}, "needs a storage that outlives"),
            ({"resume": True, "workflow_id": "w", "config": Config()}, "needs a storage that outlives"),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_runs(
        self, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ran: list[int] = []
        made = task(lambda: ran.append(1))
        for ask in (Workflow([made]).plan, Workflow([made]).run, Workflow([made]).start):
            with pytest.raises(ConfigError, match=message) as refused:
                ask(**options)
            assert "secret" not in str(refused.value)
        with pytest.raises(ConfigError, match=message):
            Manager([made], **options)
        assert ran == []
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("word", ["isolate", "retry", "scheduler", "on_sucess"])
    def test_an_unknown_word_is_a_type_error(self, word: str) -> None:
        for ask in (run, Workflow([one]).run, Workflow([one]).start, Workflow([one]).plan):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{word}'"):
                ask(**{word: 1})

    def test_storage_is_short_for_a_config(self, tmp_path: Path) -> None:
        found = run(storage=tmp_path / "runs")
        assert found.config.storage == tmp_path / "runs"
        watched = run(storage=tmp_path / "more", config=Config(grace=3))
        assert (watched.config.grace, watched.config.storage) == (3, tmp_path / "more")

    def test_an_id_is_any_text_or_a_uuid(self) -> None:
        given = uuid.uuid4()
        assert run(workflow_id=given).workflow_id == str(given)
        assert run(workflow_id="../any / text\n").workflow_id == "../any / text\n"

    def test_without_an_id_it_is_a_new_uuid(self) -> None:
        found = {run().workflow_id for _ in range(3)}
        assert len({uuid.UUID(each) for each in found}) == 3

    def test_resume_with_a_memory_storage_you_hand_in(self) -> None:
        storage = MemoryStorage()
        run(storage=storage, workflow_id="w")
        assert run(storage=storage, workflow_id="w", resume=True)["one"].restored

    def test_words_may_be_positional_as_far_as_they_go(self) -> None:
        told: list[Any] = []
        Manager([one], lambda tasks: told.append(tasks), None, "sequential", False, "w")
        assert [each.task_id for each in told[0]] == ["one"]
        with pytest.raises(TypeError, match="positional argument"):
            Manager([one], None, None, "sequential", False, "w", False, "reuse", None, None, "name")  # type: ignore[misc]
