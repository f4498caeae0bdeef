"""From words to objects: what a run is configured with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from dotflow_like.declare.signature import accepts
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import ConfigError, DeclarationError
from dotflow_like.execute.workers.settings import WorkerSettings
from dotflow_like.model.policy import non_negative
from dotflow_like.model.status import Mode, OnChange
from dotflow_like.plan.resume import OnChanges
from dotflow_like.record.journal import Journal
from dotflow_like.record.memory import MemoryJournal
from dotflow_like.record.storage.base import Storage
from dotflow_like.report.observers import Metrics, Tracer, check_provider

if TYPE_CHECKING:  # what is only named in annotations is not worth its time to import
    from pathlib import Path
    from uuid import UUID

    from dotflow_like.record.codec import JsonCodec
    from dotflow_like.record.sqlite import Database
    from dotflow_like.record.types import TypeRegistry

__all__ = ["Config", "Order", "RunOptions", "open_journal"]


@dataclass(frozen=True, slots=True)
class Config:
    """What a run works with, beside its tasks.

    Args:
        storage: where results are kept: a `Storage`, a folder, or a URL such as `sqlite:///runs.db` or `file:///abs/dir`.
            Default: in memory, as long as the process lives.
        tracer: a `Tracer`, or any object with one of its methods.
        metrics: a `Metrics`, or any object with one of its methods.
        grace: seconds that running tasks have to end when the run is asked to stop. Default 10.
        max_workers: how many tasks run at once in parallel mode; a run's own `max_workers=` wins. Default: see
            `Manager`.
        start_method: how worker processes begin. `spawn` (default): as fresh interpreters, which later runs use
            again. `fork`: as copies of this process, with its modules as of that moment (functions of a script are
            sent all the same); refused while other threads run, and never kept for later runs.
        worker_init: called without arguments once in each worker process before its first task. What it
            raises fails the tasks that worker was to run. Default: nothing.
        max_tasks_per_worker: after so many tasks a worker process is replaced. Default: never.
        contextvars: context variables that have in worker processes the values they have where the run is
            started; the values have to be picklable. In threads every variable has. Default: none.
        codec: how results are stored. `json` (default): exactly, as tagged JSON, what that has a form for. `pickle`:
            the same, and any other object that can be pickled as a signed pickle, which is loaded only if the
            signature is right.
        key_file: where the key lies that signs pickles; made when it is needed first, readable for its owner
            alone. Keep it outside of the store. Default: `dotflow_like/key` in `$XDG_CONFIG_HOME` or `~/.config`.
        max_crashes: a run whose process died so many times in a row, each time after a body had begun and with
            no task completed in between, fails when it is resumed, without running anything. Default 3; None
            for no limit.

    Raises:
        ConfigError: a value that cannot work.
    """

    storage: Storage | str | Path | None = None
    tracer: object | None = None
    metrics: object | None = None
    grace: float = 10.0
    max_workers: int | None = None
    start_method: Literal["spawn", "fork"] = "spawn"
    worker_init: Callable[[], object] | None = None
    max_tasks_per_worker: int | None = None
    contextvars: Iterable[ContextVar[Any]] = ()
    codec: Literal["json", "pickle"] = "json"
    key_file: str | Path | None = None
    max_crashes: int | None = 3

    def __post_init__(self) -> None:
        if self.storage == "" or not isinstance(self.storage, Storage | str | os.PathLike | None):
            raise ConfigError(
                f"storage is {self.storage!r}; give a folder, a URL such as 'sqlite:///runs.db', or a Storage"
            )
        check_provider(self.tracer, Tracer, "tracer")
        check_provider(self.metrics, Metrics, "metrics")
        try:
            non_negative(self.grace, "grace")
        except DeclarationError as error:
            raise ConfigError(str(error)) from None
        _check_count(self.max_workers, "max_workers")
        _check_count(self.max_tasks_per_worker, "max_tasks_per_worker")
        _check_count(self.max_crashes, "max_crashes")
        if self.start_method not in ("spawn", "fork"):
            raise ConfigError(f"start_method is {self.start_method!r}; there are 'spawn' and 'fork'")
        if self.start_method == "fork" and not hasattr(os, "fork"):
            raise ConfigError("start_method is 'fork', which this system has not; there is 'spawn'")
        if self.worker_init is not None and not _is_plain_call(self.worker_init):
            raise ConfigError(
                f"worker_init is {self.worker_init!r}; give a function that is called without arguments, not an async one"
            )
        object.__setattr__(self, "contextvars", _variables(self.contextvars))
        if self.codec not in ("json", "pickle"):
            raise ConfigError(f"codec is {self.codec!r}; there are 'json' and 'pickle'")
        if self.key_file is not None:
            path = os.fspath(self.key_file) if isinstance(self.key_file, str | os.PathLike) else ""
            if not isinstance(path, str) or not path or "\0" in path:
                raise ConfigError(f"key_file is {self.key_file!r}; give the path of a file")
            if self.codec != "pickle":
                raise ConfigError("key_file= goes with codec='pickle': nothing else is signed")

    @property
    def workers(self) -> WorkerSettings:
        """What it says about worker processes."""
        return WorkerSettings(
            self.start_method, self.worker_init, self.max_tasks_per_worker, tuple(self.contextvars)
        )

    @property
    def keeps(self) -> bool:
        """Whether results outlive the run."""
        place = self.storage
        return place is not None and not (isinstance(place, str) and place.lower() == "memory://")


class RunOptions(TypedDict, total=False):
    """What `Workflow.run`, `.start` and `.plan` take; `Manager` describes each."""

    on_success: Callable[..., Any] | None
    on_failure: Callable[..., Any] | None
    mode: str
    keep_going: bool
    workflow_id: str | UUID | None
    resume: bool
    on_input_change: str
    fingerprint: str | None
    config: Config | None
    params: Mapping[str, Any] | None
    storage: Storage | str | Path | None
    executor: Literal["process", "thread", "inline"] | None
    max_workers: int | None
    timeout: float | None
    on_code_change: str
    idempotency_key: str | None


@dataclass(slots=True)
class Order:
    """The options of a run, checked; the order of the fields is that of `Manager`'s arguments."""

    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    mode: str = "sequential"
    keep_going: bool = False
    workflow_id: Any = None
    resume: bool = False
    on_input_change: str = "reuse"
    fingerprint: str | None = None
    config: Any = None
    params: Any = None
    storage: Any = None
    executor: str | None = None
    max_workers: int | None = None
    timeout: float | None = None
    on_code_change: str = "reuse"
    idempotency_key: str | None = None
    # what the testing kit asks for:
    isolates: bool = field(default=True, init=False)  # False: all of it runs in this process
    steps: int | None = field(default=None, init=False)  # so many tasks begin; then the run is left as paused
    journal: Journal | None = field(default=None, init=False)  # instead of that of the config

    def __post_init__(self) -> None:
        self._check_callbacks()
        self._check_config()
        self._check_resume()
        if self.params is None:
            self.params = {}
        if not isinstance(self.params, Mapping) or not all(isinstance(name, str) for name in self.params):
            raise ConfigError(f"params is {self.params!r}; give a dict from parameter names to values")
        self.params = dict(self.params)  # the run's own: what its caller does to theirs later is not its
        if self.executor is not None and self.mode != Mode.PARALLEL:
            raise ConfigError(
                f"executor={self.executor!r} goes with mode='parallel', not with mode={self.mode!r}"
            )
        if self.executor not in (None, "process", "thread", "inline"):
            raise ConfigError(f"executor is {self.executor!r}; there are 'process', 'thread' and 'inline'")
        _check_count(self.max_workers, "max_workers")
        if self.timeout is not None:
            try:
                if non_negative(self.timeout, "timeout") == 0:
                    raise ConfigError("timeout is 0; give more than 0 seconds, or None for no limit")
            except DeclarationError as error:
                raise ConfigError(str(error)) from None

    @property
    def policies(self) -> OnChanges:
        """What to do about changed inputs and code."""
        return OnChanges(OnChange(self.on_input_change), OnChange(self.on_code_change))

    def _check_callbacks(self) -> None:
        for word in ("on_success", "on_failure"):
            callback = getattr(self, word)
            if callback is not None and not (callable(callback) and accepts(callback, "tasks")):
                raise ConfigError(f"{word} is {callback!r}; give a function that takes tasks=")

    def _check_config(self) -> None:
        if self.config is not None and not isinstance(self.config, Config):
            raise ConfigError(f"config is {self.config!r}; give a Config(...)")
        config = self.config or Config()
        if self.storage is not None:
            if config.storage is not None:
                raise ConfigError("storage= and config=Config(storage=...) both say where; give one of them")
            config = replace(config, storage=self.storage)
        self.config = config

    def _check_resume(self) -> None:
        if self.workflow_id is not None:
            if not (isinstance(self.workflow_id, str) or _is_uuid(self.workflow_id)) or not str(
                self.workflow_id
            ):
                raise ConfigError(
                    f"workflow_id is {self.workflow_id!r}; give a text that is not empty, or a UUID"
                )
            self.workflow_id = str(self.workflow_id)
        if self.fingerprint is not None and not isinstance(self.fingerprint, str):
            raise ConfigError(
                f"fingerprint is {self.fingerprint!r}; give a text that changes when the inputs do"
            )
        for word, allowed in (
            ("on_input_change", ("reuse", "reset", "raise")),
            ("on_code_change", ("reuse", "rerun", "raise")),
        ):
            if getattr(self, word) not in allowed:
                raise ConfigError(
                    f"{word} is {getattr(self, word)!r}; there are {', '.join(map(repr, allowed))}"
                )
        key = self.idempotency_key
        if key is not None and (not isinstance(key, str) or not key):
            raise ConfigError(f"idempotency_key is {key!r}; give a text that is not empty")
        if key is not None and not self.config.keeps:
            raise ConfigError(
                "idempotency_key= needs a storage that outlives the run: storage='sqlite:///runs.db', or any other"
            )
        if self.resume and self.workflow_id is None and key is None:
            raise ConfigError("resume=True needs workflow_id=: the name of the run to go on with")
        if self.resume and not self.config.keeps:
            raise ConfigError(
                "resume=True needs a storage that outlives the process: storage='a-folder', or any other; "
                "the default keeps results in memory"
            )


def _check_count(value: object, word: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{word} is {value!r}; give a whole number, 1 or more")


def _is_plain_call(function: object) -> bool:
    """Return whether it can be called without arguments, and is done when it returns."""
    return callable(function) and accepts(function) and not iscoroutinefunction(function)


def _variables(given: object) -> tuple[ContextVar[Any], ...]:
    found = tuple(given) if isinstance(given, Iterable) else (None,)
    if not all(isinstance(each, ContextVar) for each in found):
        raise ConfigError(
            f"contextvars is {given!r}; give the variables themselves, in a list: contextvars=[var]"
        )
    return found


def _is_uuid(value: object) -> bool:
    uuid = sys.modules.get("uuid")  # whoever has one has imported it
    return uuid is not None and isinstance(value, uuid.UUID)


def open_journal(config: Config, definition: Definition) -> Journal:
    """Return the journal runs of `definition` are recorded in.

    Raises:
        ConfigError: there is no such storage.
        MissingExtra: it needs a package that is not installed.
    """
    if not config.keeps:
        return MemoryJournal()
    from dotflow_like.record.keyvalue import KeyValueJournal
    from dotflow_like.record.storage.urls import open_place
    from dotflow_like.record.types import TypeRegistry

    assert config.storage is not None
    place = open_place(config.storage)
    types = TypeRegistry()
    for function in dict.fromkeys(each.fn for task in definition.tasks for each in (task, *task.methods)):
        types.collect_from(function)
    codec = _open_codec(config, types, place)
    if isinstance(place, Storage):
        return KeyValueJournal(place, codec)
    from dotflow_like.record.sql import SqlJournal

    return SqlJournal(place, codec)


def _open_codec(config: Config, types: TypeRegistry, place: Storage | Database) -> JsonCodec:
    from dotflow_like.record.codec import JsonCodec

    if config.codec == "json":
        return JsonCodec(types)
    from dotflow_like.record.codec_key import KeyFile
    from dotflow_like.record.codec_pickle import PickleCodec
    from dotflow_like.record.storage.files import FileStorage

    key_file = KeyFile(config.key_file)
    if isinstance(place, FileStorage):
        key_file.check([place._root])
    elif isinstance(place, Storage):
        key_file.check()  # where it keeps its bytes only its author knows
    else:
        beside = [place.path + ending for ending in ("", "-wal", "-shm", "-journal")]
        key_file.check([*beside, place.locks])
    return PickleCodec(types, key_file)
