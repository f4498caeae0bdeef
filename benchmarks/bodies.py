"""What the tasks do that run in worker processes, ours and the peers' alike.

Every worker imports this file, so it imports nothing that takes time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow_like import TaskContext

BOOKING = "INSERT INTO bookings VALUES ('ann', 30)"


def nop() -> None:
    pass


def spin(seconds: float = 0.05) -> None:
    """Use so many seconds of CPU in this thread, however fast the machine is just now."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(1000):
            pass


def began() -> int:
    """Return when this body began, on the clock all processes of the machine share, in nanoseconds."""
    return time.monotonic_ns()


def blob(number: int, size: int) -> bytes:
    """Return `size` bytes, all of this number."""
    return bytes([number]) * size


def array(number: int, size: int) -> Any:
    """Return an array of floats, all of this number, of `size` bytes."""
    import numpy as np

    return np.full(size // 8, float(number))


def text(number: int) -> str:
    """Return a text of 1 MB, all of this number's last digit."""
    return str(number % 10) * 1_000_000


def iterate(ctx: TaskContext, size: int) -> int:
    """Do nothing with each of so many items."""
    done = 0
    for _ in ctx.iterate(range(size)):
        done += 1
    return done


def steps(ctx: TaskContext, size: int) -> int:
    return sum([ctx.step("one", one) for _ in range(size)])


def one() -> int:
    return 1


def book(ctx: TaskContext) -> int:
    ctx.transaction().execute(BOOKING)
    return 1


def fails() -> None:
    raise OSError("not yet")


def sleeps(ctx: TaskContext) -> None:
    ctx.sleep(60)


def goes_on(ctx: TaskContext) -> None:
    """Take a hundredth of a second for each item, for a minute."""
    for _ in ctx.iterate(range(6000)):
        time.sleep(0.01)
