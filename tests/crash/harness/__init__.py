"""Runs whose processes are killed, and what has to be true after each death.

| file | holds |
|---|---|
| `life` | runs, and the checks |
| `rows` | what a journal and a ledger hold |
| `saved` | what bodies have saved |
| `expected` | what the runs have to come to |
| `processes` | processes, quickly begun and killed |
| `nursery` | the script such processes are forks of |
| `job` | the script they run, which dies where it is told to |
"""

from crash_harness.life import Lives, table
from crash_harness.processes import Nursery

__all__ = ["Lives", "Nursery", "table"]
