"""All benchmarks, by name."""

from __future__ import annotations

from benchmarks import (
    chain,
    durable,
    imports,
    large,
    layered,
    memory,
    parallel,
    resume,
    retry,
    saving,
    steering,
)
from benchmarks.measure import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    each.name: each
    for each in (
        chain.CHAIN,
        chain.LONG_CHAIN,
        layered.LAYERED,
        layered.LAYERED_SEQUENTIAL,
        retry.RETRY,
        resume.RESUME,
        imports.IMPORT,
        parallel.TINY,
        parallel.CPU,
        parallel.PARENT,
        parallel.FIRST,
        parallel.NEXT,
        large.BYTES,
        large.ARRAYS,
        memory.MEMORY,
        durable.FULL,
        durable.PROCESS,
        durable.PARALLEL,
        durable.COMMIT,
        resume.SQLITE,
        resume.LONG,
        memory.RESULTS,
        saving.ITERATE,
        saving.STEP,
        saving.TRANSACTION,
        steering.LATENCY,
    )
}
