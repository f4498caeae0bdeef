"""Async functions are tasks like others, in every mode; each runs on an event loop of its own."""

import asyncio

from dotflow_like import Manager, task


async def ask(server: int) -> int:
    await asyncio.sleep(0.01)
    return server * server


@task
async def ask_all(servers: int) -> list[int]:
    return await asyncio.gather(*(ask(server) for server in range(servers)))  # at once, inside one task


@task
async def add_up(answers: list[int]) -> int:
    return sum(answers)


for mode in ("sequential", "background", "parallel"):
    run = Manager(tasks=[ask_all.bind(servers=5), add_up.bind(answers=ask_all)], mode=mode, max_workers=1)
    run.wait()
    print(f"{mode}: {run[ask_all].result} add up to {run[add_up].result}")
    assert run[add_up].result == 30
