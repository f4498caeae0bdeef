"""The pools people use, each as a function that makes many calls in two workers and returns the results in order.

A pool is made by its first call and stays: whoever wants it warm calls it once before.
"""

from __future__ import annotations

import atexit
import functools
import logging
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

WORKERS = 2

Calls = Sequence[tuple[Any, ...]]
Pool = Callable[[Callable[..., Any], Calls], list[Any]]


def executor_submit(function: Callable[..., Any], calls: Calls, start: str = "fork") -> list[Any]:
    """`concurrent.futures.ProcessPoolExecutor.submit`, one by one: what ours is to be faster than."""
    pool = executor(start)
    futures = [pool.submit(function, *each) for each in calls]
    return [each.result() for each in futures]


@functools.cache
def executor(start: str = "fork") -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context(start))


def executor_spawn(function: Callable[..., Any], calls: Calls) -> list[Any]:
    return executor_submit(function, calls, "spawn")


def pool_map(function: Callable[..., Any], calls: Calls) -> list[Any]:
    """`multiprocessing.Pool.starmap`, which cuts the calls in eight chunks, as `map` does."""
    return multiprocessing_pool().starmap(function, calls)


def pool_apply(function: Callable[..., Any], calls: Calls) -> list[Any]:
    """`multiprocessing.Pool.apply_async`, one by one."""
    pool = multiprocessing_pool()
    results = [pool.apply_async(function, each) for each in calls]
    return [each.get() for each in results]


@functools.cache
def multiprocessing_pool() -> Any:
    pool = multiprocessing.get_context("fork").Pool(WORKERS)
    atexit.register(pool.terminate)
    return pool


def joblib(function: Callable[..., Any], calls: Calls) -> list[Any]:
    """`joblib.Parallel` over loky's workers, which it keeps; it finds the size of its batches by itself."""
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=WORKERS)(delayed(function)(*each) for each in calls))


def dask(function: Callable[..., Any], calls: Calls) -> list[Any]:
    """`Client.map` on a cluster of two local worker processes."""
    client = dask_client()
    results: list[Any] = client.gather(client.map(functools.partial(_starred, function), calls, pure=False))
    return results


def _starred(function: Callable[..., Any], each: tuple[Any, ...]) -> Any:
    return function(*each)


@functools.cache
def dask_client() -> Any:
    import dask
    from distributed import Client

    # what a large result is, in its eyes, it says in a warning for each
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
    client = Client(
        n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
    )
    atexit.register(client.shutdown)
    return client


def ray(function: Callable[..., Any], calls: Calls) -> list[Any]:
    """Remote functions on a local cluster of two."""
    import ray

    remote = ray_remote(function)
    results: list[Any] = ray.get([remote.remote(*each) for each in calls])
    return results


@functools.cache
def ray_remote(function: Callable[..., Any]) -> Any:
    ray_cluster()
    import ray

    return ray.remote(function)


@functools.cache
def ray_cluster() -> None:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    atexit.register(ray.shutdown)


EXECUTOR = "ProcessPoolExecutor"
POOLS: Mapping[str, Pool] = {
    EXECUTOR: executor_submit,
    "Pool.map": pool_map,
    "Pool.apply_async": pool_apply,
    "joblib": joblib,
    "dask": dask,
    "ray": ray,
}
