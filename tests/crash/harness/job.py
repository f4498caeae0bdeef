"""The work of the tests that kill: one run, in a process that dies where it is told to.

Its one argument is an order in JSON, see `life`. A result holds a number, which is always the same, and a token,
which never is, and the tokens of what it was made of: what was computed again shows. Beside the journal stands what
the bodies have done:

    ledger    a line for each time a body ran, written at once: an effect without a key
    keyed/    a file for each `ctx.idempotency_key` an effect was asked for: nobody makes it twice
    drawn     a line for each call of a step's function
    items     a line for each item that a body has dealt with
    called    a line for each callback of a task that has completed
    told      the results, of a run that has completed
    deaths    a line for each death that was ordered: where, and what it was about to do
"""

import faulthandler
import json
import os
import signal
import sqlite3
import sys
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import dotflow_like
from dotflow_like import Config, Manager, RetryPolicy, task
from dotflow_like.execute import control, kernel, requests
from dotflow_like.record.codec import JsonCodec

ORDER = json.loads(sys.argv[1])
FOLDER, MODE = Path(ORDER["folder"]), ORDER["mode"]
DEATH = ORDER.get("death")  # [where, at the how many-th time there, who dies: the run or a worker]
MAIN = os.getpid()
LARGE = "x" * 70_000


def at(place, about_to=""):
    """Die here, if that is the order."""
    if DEATH is None or DEATH[0] not in (place, f"{place}: {about_to}"):
        return
    if DEATH[2] == "worker" and os.getpid() == MAIN:
        return
    DEATH[1] -= 1
    if DEATH[1] == 0:
        if DEATH[2] == "run":
            append("deaths", f"{place}: {about_to}" if about_to else place)
            os.killpg(MAIN, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        with suppress(FileExistsError), (FOLDER / f"{MAIN} lost a worker").open("x"):
            append("deaths", f"{place}, in a worker alone")
            os.kill(os.getpid(), signal.SIGKILL)


def append(name, line):
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def keyed(name):
    return FOLDER / "keyed" / name.replace("/", " ")


@contextmanager
def work(ctx):
    at("body begins")
    attempt = ctx.attempt
    append("ledger", f"{ctx.task_id} {attempt.number} {attempt.fence} {ctx.idempotency_key} {os.getpid()}")
    with suppress(FileExistsError), keyed(ctx.idempotency_key).open("x") as file:
        file.write(ctx.task_id)
    time.sleep(ORDER["pause"])
    yield
    at("body ends")


def value(number, *given, **more):
    return {"number": number, "token": os.urandom(8).hex(), "of": [each["token"] for each in given], **more}


def called(task):
    at("callback begins")
    if task.status == "completed":
        append("called", task.task_id)
    at("callback ends")


def failed(tasks):
    at("on_failure")


def made(name, *needs, large=False):
    def body(ctx, given):
        with work(ctx):
            if name == "last" and ORDER["fails"]:
                raise ValueError("it was told to fail")
            more = {"pad": LARGE} if large else {}
            return value(1 + sum(each["number"] for each in given), *given, **more)

    return task(body, name=name, callback=called).bind(given=list(needs))


@task
def parts(ctx):
    with work(ctx):
        return [1, 2, 3, 4, 5]


@task
def square(ctx, x, by):
    with work(ctx):
        return value(x * x * by["number"], by)


@task
def flaky(ctx, given):
    with work(ctx):
        if ctx.attempt.number == 1:
            raise ValueError("the first attempt fails")
        return value(1 + given["number"], given)


@task
def gather(ctx, given, squares):
    with work(ctx):
        return value(given["number"] + sum(each["number"] for each in squares), given, *squares)


# Bodies that save something, or say what shall happen next. What is said once is noted before: whatever dies in
# between, nobody says it again.


@task
def walk(ctx, given):
    with work(ctx):
        for item in ctx.iterate([1, 2, 3]):
            at("item begins")
            _, token = ctx.step("draw", draw, ctx.attempt, item)
            note("items", ctx.attempt, item, token)
            at("step is kept")
            kept = dict(ctx.checkpoints.get("kept", []))
            ctx.checkpoints["kept"] = [*{**kept, item: token}.items()]
            ctx.checkpoints["at"] = item
            at("item ends")
        ctx.checkpoints.pop("at", None)
        return value(given["number"] + len(ctx.checkpoints["kept"]), given)


def draw(attempt, item):
    at("step begins")
    token = os.urandom(8).hex()
    note("drawn", attempt, item, token)
    at("step ends")
    return item, token


def note(name, attempt, item, token):
    append(name, f"{attempt.generation} {attempt.number} {item} {token}")


def once(ctx):
    """Return whether the task has not been here, and is about to say something."""
    if ctx.checkpoints.get("was here"):
        return False
    ctx.checkpoints["was here"] = True
    at("signal begins")
    return True


def pause_from_outside(ctx):
    dotflow_like.pause(ctx.workflow_id, storage=ORDER["storage"], reason="asked")
    at("request is made")


@task
def again(ctx, given):
    with work(ctx):
        if once(ctx):
            ctx.retry("once more", after=0.003)
        return value(1 + given["number"], given)


@task
def skips(ctx):
    with work(ctx):
        ctx.skip("there is nothing to do")


@task
def pauses(ctx, given):
    with work(ctx):
        if once(ctx):
            ctx.pause("go on")
        return value(1 + given["number"], given)


@task
def asks(ctx, given):
    with work(ctx):
        if once(ctx):
            pause_from_outside(ctx)
            ctx.sleep(60)
        return value(1 + given["number"], given)


@task
def ends(ctx):
    with work(ctx):
        if once(ctx):  # then the end of the run is refused, until somebody has heard of it
            pause_from_outside(ctx)
        ctx.finish("that is all")


@task
def never(ctx):
    with work(ctx):
        raise AssertionError("the run was finished before")


def speaking(given):
    walking = walk.bind(given=given)
    repeated = again.bind(given=walking)
    paused = pauses.bind(given=repeated).after(skipped := skips.after(repeated))
    return [walking, repeated, skipped, paused, asks.bind(given=paused)]


def to_the_end(last):
    return [last, ended := ends.after(last), never.after(ended)]


def tasks():
    """A map and twenty other tasks; or a few of them, with less to do, or those that save and say something."""
    a, b, c = made("a"), made("b", large=True), made("c")
    retried = flaky.bind(given=a)
    if ORDER["job"] == "small":
        return [a, b, retried, made("last", b, retried)]
    said = speaking(a)
    if ORDER["job"] == "speaking":
        return [a, *said, *to_the_end(made("last", said[-1]))]
    d, e = made("d", a, b), made("e", b, c)
    f, g, h = made("f", d), made("g", d, e, large=True), made("h", e)
    squares = square.bind(by=f).map(x=parts)
    i = made("total", g).with_options(name="i")
    j = gather.bind(given=i, squares=squares)
    last = made("last", j, h, said[-1])
    return [a, b, c, d, e, retried, f, g, h, parts, squares, i, j, *said, *to_the_end(last)]


def prepared(each):
    again = {"delay": 0.003, "retry_on": ValueError} if each.name == "flaky" else {"retry_on": ()}
    policy = RetryPolicy(1000, worker_deaths=1000, **again)
    each = each.with_options(retry=policy, version="1")  # a version, since to read its source takes time
    if MODE == "sequential_group":
        each = each.with_options(group_name="early" if each.name in "abcdeflaky" else "late")
    return each


# Where it may die: at each statement of SQL; at each touch of a file of its own, SQLite's apart; and around each
# encoding, in a worker too.


TABLES = {"checkpoints", "schema_version", "task_attempts", "workflow_runs"}


def short(statement):
    """Return what a statement does, and to which table: `UPDATE task_attempts`."""
    words = statement.split()
    told = (
        [word for word in words[:5] if word in TABLES] if words[0] in ("INSERT", "UPDATE", "DELETE") else []
    )
    if words[0] == "UPDATE" and words[3] == "request":
        told.append("request")
    return " ".join([words[0], *told])


class Traced(sqlite3.Connection):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.set_trace_callback(lambda statement: at("statement", short(statement)))

    def execute(self, statement, *given):
        if "autocheckpoint" in statement:
            statement = "PRAGMA wal_autocheckpoint=10"  # pages: many checkpoints, since they are writes, too
        return super().execute(statement, *given)


def touched(event, arguments):
    if (
        event in TOUCHES
        and os.getpid() == MAIN
        and (event != "open" or str(arguments[0]).startswith(ORDER["folder"]))
    ):
        at("touch", event)


TOUCHES = {
    "fcntl.flock", "open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.truncate",
    "sqlite3.connect",
}  # fmt: skip


def touching(name):
    """Let a function of `os` that Python does not audit count as a touch."""
    function = getattr(os, name)

    def touched(*given):
        if os.getpid() == MAIN:
            at("touch", f"os.{name}")
        return function(*given)

    setattr(os, name, touched)


def watch_encoding():
    encode = JsonCodec.encode
    if encode.__module__ == "__main__":
        return

    def watched(self, given):
        at("encoding begins")
        data = encode(self, given)
        at("encoding ends")
        return data

    watched.__module__ = "__main__"
    JsonCodec.encode = watched


def die_at_a_size(size):
    """Die in the middle of the write that makes a file larger than that."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main():
    faulthandler.enable()
    (FOLDER / "keyed").mkdir(exist_ok=True)
    ordered = [prepared(each) for each in tasks()]
    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **more: connect(*given, factory=Traced, **more)
    if DEATH is not None:
        sys.addaudithook(touched)
        for name in ("write", "fsync"):
            touching(name)
        watch_encoding()
    if ORDER["size"] is not None:
        die_at_a_size(ORDER["size"])
    control.LOOK_EVERY = kernel.LOOK_EVERY = requests.LOOK_EVERY = (
        0.01  # seconds, between two looks at what is asked
    )
    at("run begins")
    if ORDER["over"]:
        warnings.simplefilter("ignore")  # that results are discarded
    run = start(ordered, resume=not ORDER["over"])
    while run.status == "paused":
        run = start(ordered)
    at("run ends")
    if ORDER["fails"] and run.status == "failed":
        assert run.reason == "failed: last"
        sys.exit(7)
    run.raise_for_failure()
    numbers = {
        name: [each["number"] for each in result] if name == "square" else result["number"]
        for name, result in run.results.items()
        if name != "parts" and result is not None
    }
    (FOLDER / "told").write_text(json.dumps(numbers))


def start(ordered, resume=True):
    return Manager(
        ordered,
        workflow_id=None if ORDER["by_key"] else ORDER["name"],
        idempotency_key="key" if ORDER["by_key"] else None,
        storage=ORDER["storage"],
        resume=resume,
        mode=MODE,
        executor="thread" if ORDER["workers"] == "thread" else None,
        max_workers=2 if MODE == "parallel" else None,
        on_success=lambda tasks: at("on_success"),
        on_failure=failed if ORDER["fails"] else None,
        config=Config(
            start_method="spawn" if ORDER["workers"] == "spawn" else "fork",
            worker_init=watch_encoding if DEATH is not None else None,
            max_crashes=None,
        ),
    ).wait()


main()
