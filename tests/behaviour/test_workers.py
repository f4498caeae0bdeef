"""What happens to a worker, and what cannot cross, stays with the task it happened to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    AttemptOutcome,
    Manager,
    NotSerializable,
    RetryPolicy,
    RunFailed,
    TaskRun,
    TaskStatus,
    WorkerDied,
    task,
)


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (lambda: os._exit(3), "exit code 3"),
        (lambda: os._exit(0), "exit code 0"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal SIGKILL"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "signal SIGTERM"),
        (lambda: __import__("ctypes").string_at(0), "signal SIGSEGV"),
    ],
    ids=["os._exit(3)", "os._exit(0)", "SIGKILL", "SIGTERM", "segfault"],
)
def test_the_death_of_a_worker_fails_its_own_task_only(death: Callable[[], object], words: str) -> None:
    tasks = [task(lambda i=i: i, name=f"before{i}") for i in range(2)]
    tasks += [task(death, name="dies", retry=3)]
    tasks += [task(lambda i=i: i, name=f"after{i}") for i in range(3)]
    run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None)
    dead = run["dies"]
    assert dead.status is TaskStatus.FAILED
    assert [each.status for each in run.tasks if each is not dead] == [TaskStatus.COMPLETED] * 5
    (error,) = dead.errors
    assert error.exception == "WorkerDied"
    assert isinstance(error.error, WorkerDied)
    assert words in error.message
    (attempt,) = dead.attempts
    assert attempt.outcome is AttemptOutcome.FAILED
    assert attempt.worker is not None
    assert attempt.worker in error.message
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert [type(each) for each in raised.value.exceptions] == [WorkerDied]


def test_deaths_are_tried_again_as_often_as_the_policy_allows(tmp_path: Path) -> None:
    deaths = tmp_path / "deaths"

    @task(retry=RetryPolicy(max_attempts=5, worker_deaths=2))
    def dies_twice() -> str:
        with deaths.open("a") as file:
            file.write("x")
        if len(deaths.read_text()) < 3:
            os._exit(1)
        return "alive"

    run = Manager([dies_twice], mode="parallel", max_workers=1).raise_for_failure()
    assert run[dies_twice].result == "alive"
    assert [each.outcome for each in run.attempts] == ["retried", "retried", "success"]


def test_one_death_more_than_the_policy_allows_fails_the_task(tmp_path: Path) -> None:
    @task(retry=RetryPolicy(max_attempts=5, worker_deaths=1))
    def dies() -> None:
        os._exit(1)

    run = Manager([dies], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    assert [each.outcome for each in run.attempts] == ["retried", "failed"]


def test_a_death_is_no_case_for_retry_on_alone() -> None:
    dies = task(lambda: os._exit(1), name="dies", retry=4, retry_on=BaseException)
    run = Manager([dies], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    assert run[dies].retry_count == 0


def test_other_errors_do_not_use_up_the_deaths_that_are_allowed(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    @task(retry=RetryPolicy(max_attempts=4, worker_deaths=1))
    def mixed() -> str:
        with tries.open("a") as file:
            file.write("x")
        match len(tries.read_text()):
            case 1 | 2:
                raise ValueError("an error")
            case 3:
                os._exit(9)
        return "done"

    run = Manager([mixed], mode="parallel", max_workers=1)
    assert [each.exception for each in run[mixed].errors] == ["ValueError", "ValueError", "WorkerDied"]
    assert run[mixed].result == "done"


def test_a_worker_that_died_while_it_was_idle_fails_no_task(until: Callable[..., None]) -> None:
    def kill(task: TaskRun) -> None:
        pid = task.result
        os.kill(pid, signal.SIGKILL)
        status = Path(f"/proc/{pid}/status")
        until(lambda: not status.exists() or "State:\tZ" in status.read_text(), "its death")

    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    tasks = [
        task(os.getpid, name="first", callback=kill),
        task(os.getpid, name="second", callback=kill),
        task(os.getpid, name="third"),
    ]
    run = Manager(tasks, mode="parallel", max_workers=1).raise_for_failure()
    assert len(set(run.results.values())) >= 2


def test_an_argument_that_cannot_cross_fails_its_task_and_names_it() -> None:
    import threading

    @task
    def take(lock: Any) -> None: ...

    run = Manager(
        [take.bind(lock=threading.Lock()), task(lambda: 1, name="other")],
        mode="parallel",
        max_workers=1,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    (error,) = run["take"].errors
    assert isinstance(error.error, NotSerializable)
    assert "'take'" in error.message
    assert "lock" in error.message
    assert run["other"].result == 1


def test_an_open_file_is_refused_as_an_argument_and_as_a_result(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("content")

    @task
    def take(file: Any) -> str:
        return str(file.read())

    @task
    def give() -> Any:
        return path.open()

    with path.open() as text, path.open("rb") as binary:
        tasks = [take.bind(file=text), take.bind(file=binary), give]
        run = Manager(tasks, mode="parallel", max_workers=1, keep_going=True, on_failure=lambda tasks: None)
    for each in run.tasks:
        assert each.status is TaskStatus.FAILED
        assert each.errors[0].exception == "NotSerializable"
        assert "open file" in each.errors[0].message


def test_a_result_that_cannot_cross_fails_its_task_only() -> None:
    import threading

    run = Manager(
        [task(lambda: threading.Lock(), name="lock"), task(lambda: 1, name="other")],
        mode="parallel",
        max_workers=1,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    (error,) = run["lock"].errors
    assert error.exception == "NotSerializable"
    assert isinstance(error.error, NotSerializable)
    assert "lock" in error.message
    assert run["other"].result == 1


def test_a_result_that_cannot_be_loaded_fails_in_the_worker() -> None:
    @task
    def give() -> Any:
        class Local:
            def __reduce__(self) -> Any:
                return int, ("no number",)

        return Local()

    run = Manager([give], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    assert run[give].errors[0].exception == "NotSerializable"
    assert "no number" in run[give].errors[0].message


def test_an_exception_that_does_not_pickle_arrives_as_its_record() -> None:
    @task
    def bad() -> None:
        import threading

        class Holding(ValueError):
            def __init__(self) -> None:
                super().__init__("held")
                self.lock = threading.Lock()

        raise Holding

    run = Manager([bad], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    (error,) = run[bad].errors
    assert (error.exception, error.message, error.error) == ("Holding", "held", None)
    assert "raise Holding" in error.traceback
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    (stand_in,) = raised.value.exceptions
    assert type(stand_in).__name__ == "TaskFailure"
    assert "Holding: held" in str(stand_in)


def test_an_exception_that_does_not_load_arrives_as_its_record() -> None:
    @task
    def bad() -> None:
        class Two(Exception):
            def __init__(self, a: int, b: int) -> None:
                super().__init__(f"{a} and {b}")

        raise Two(1, 2)

    run = Manager([bad], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    (error,) = run[bad].errors
    assert (error.exception, error.message, error.error) == ("Two", "1 and 2", None)


def test_an_exception_that_does_not_cross_is_still_retried_by_its_class(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    @task(retry=3, retry_on=LookupError)
    def bad() -> int:
        class Two(KeyError):
            def __init__(self, a: int, b: int) -> None:
                super().__init__(f"{a} and {b}")

        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 3:
            raise Two(1, 2)
        return 3

    assert Manager([bad], mode="parallel", max_workers=1)[bad].result == 3


def test_causes_contexts_and_notes_arrive() -> None:
    @task
    def bad() -> None:
        try:
            try:
                1 / 0
            except ZeroDivisionError as first:
                raise KeyError("second") from first
        except KeyError:
            error = ValueError("third")
            error.add_note("a note")
            raise error  # noqa: B904  # the context, not the cause, is what shall arrive

    run = Manager([bad], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    (record,) = run[bad].errors
    error = record.error
    assert isinstance(error, ValueError)
    assert error.__notes__ == ["a note"]
    assert isinstance(error.__context__, KeyError)
    assert isinstance(error.__context__.__cause__, ZeroDivisionError)
    assert "a note" in record.traceback
    assert "ZeroDivisionError" in record.traceback


def test_code_that_cannot_be_loaded_in_the_worker_fails_its_task_only() -> None:
    @task
    def take(value: Any) -> None: ...

    class Local:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    run = Manager(
        [take.bind(value=Local()), task(lambda: 1, name="other")],
        mode="parallel",
        max_workers=1,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    assert run["take"].errors[0].exception == "ValueError"
    assert run["other"].result == 1


def test_a_body_that_closes_its_output_does_no_harm() -> None:
    import sys

    def close() -> int:
        sys.stdout.close()
        sys.stderr = None
        return 1

    run = Manager([task(close, name="close"), task(lambda: 2, name="two")], mode="parallel", max_workers=1)
    assert run.raise_for_failure().results == {"close": 1, "two": 2}


def test_workers_die_with_their_parent(tmp_path: Path, until: Callable[..., None]) -> None:
    import subprocess
    import sys

    (tmp_path / "script.py").write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from dotflow_like import Manager, task\n"
        "@task\n"
        "def long():\n"
        "    Path('pid.new').write_text(str(os.getpid()))\n"
        "    os.rename('pid.new', 'pid')\n"
        "    time.sleep(600)\n"
        "Manager([long], mode='parallel', max_workers=1)\n"
    )
    parent = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path)
    try:
        until((tmp_path / "pid").exists, "the worker")
        pid = int((tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()

    def gone() -> bool:
        try:
            return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

    until(gone, "the worker's end")


def noting_loads(ledger: Path) -> Callable[[], Any]:
    """Return a function that makes values that note which process loads them."""

    def note(pid_that_made_it: int) -> int:
        with ledger.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return pid_that_made_it

    class Noting:
        def __reduce__(self) -> Any:
            return note, (os.getpid(),)

    return Noting


def test_a_result_is_not_loaded_in_the_parent_before_somebody_asks(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    noting = noting_loads(ledger)
    make = task(lambda: noting(), name="make")
    use = task(lambda value: value, name="use").bind(value=make)
    run = Manager([make, use], mode="parallel", max_workers=2).raise_for_failure()
    assert run["use"].result != os.getpid()  # it went from worker to worker
    assert str(os.getpid()) not in ledger.read_text().split()
    assert run["make"].result != os.getpid()
    assert ledger.read_text().split()[-1] == str(os.getpid())


def test_an_error_is_not_loaded_in_the_parent_before_somebody_asks(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    noting = noting_loads(ledger)

    @task(retry=2)
    def bad() -> None:
        raise ValueError("bad", noting())

    run = Manager([bad], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    error = run[bad].errors[0]
    assert (error.exception, error.attempt) == ("ValueError", 1)
    assert "bad" in error.message
    assert "ValueError" in error.traceback
    assert str(os.getpid()) not in ledger.read_text().split()
    assert isinstance(error.error, ValueError)
    assert ledger.read_text().split()[-1] == str(os.getpid())


def test_an_argument_that_ends_the_worker_when_it_is_loaded_fails_its_task_only() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os._exit, (9,)

    trapped = task(lambda value: value, name="trapped").bind(value=Trap())
    tasks = [task(lambda i=i: i, name=f"t{i}") for i in range(4)]
    tasks.insert(2, trapped)
    run = Manager(tasks, mode="parallel", max_workers=1, keep_going=True, on_failure=lambda tasks: None)
    assert run["trapped"].errors[0].exception == "WorkerDied"
    assert "exit code 9" in run["trapped"].errors[0].message
    assert [run[f"t{i}"].result for i in range(4)] == [0, 1, 2, 3]


def test_deaths_between_large_arguments_and_results_lose_none_of_them() -> None:
    def give(data: bytes, i: int) -> tuple[int, bytes]:
        return i, data[::-1]

    data = bytes(range(256)) * 8_000
    tasks = []
    for i in range(8):
        tasks.append(task(give, name=f"t{i}").bind(data=data, i=i))
        tasks.append(task(lambda data: os._exit(3), name=f"dies{i}").bind(data=data))
    run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None)
    for i in range(8):
        assert run[f"t{i}"].result == (i, data[::-1])
        assert "exit code 3" in run[f"dies{i}"].errors[0].message


def test_a_death_is_seen_when_somebody_else_waits_for_all_children(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "script.py").write_text(
        "import os, signal\n"
        "from dotflow_like import Manager, task\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "tasks = [task(lambda i=i: i, name=f't{i}') for i in range(4)]\n"
        "tasks.insert(2, task(lambda: os._exit(3), name='dies'))\n"
        "run = Manager(tasks, mode='parallel', max_workers=1, keep_going=True, on_failure=lambda tasks: None)\n"
        "print([each.status.value for each in run.tasks], run['dies'].errors[0].message)\n"
    )
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    statuses, message = ended.stdout.split("]")
    assert statuses == "['completed', 'completed', 'failed', 'completed', 'completed'"
    assert "exit code 0" not in message  # nobody knows
