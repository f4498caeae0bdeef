"""The tables of the SQL journal, and the statements that change and read them.

| table | a row is |
|---|---|
| `workflow_runs` | a run, and what somebody outside asks of it |
| `task_attempts` | an attempt: audit record, lock and idempotency key in one, and what it returned |
| `checkpoints` | a named value that a task has saved while it ran |
| `schema_version` | a migration that was applied |

Times are texts in UTC (ISO 8601), so they sort as they are. Values are what the run's codec made: text where that
is text, as of JSON without buffers, else bytes. They stand last in their rows: who does not ask for them does not
read them.

Legal moves are conditions of the statements: a row that may not change this way does not.
"""

from __future__ import annotations

from typing import Final

from dotflow_like.model.status import ATTEMPT_MOVES, AttemptStatus
from dotflow_like.record.journal import OPEN as OPEN_RUN

__all__ = [
    "ASK",
    "ATTEMPT",
    "DISCARD",
    "DISCARD_LATE",
    "DROP",
    "DROP_CHECKPOINTS",
    "END",
    "FIND",
    "FORGET_REQUEST",
    "INSERT_RUN",
    "KEEP",
    "KEEP_RESULT",
    "MIGRATIONS",
    "OPEN",
    "SELECT_ATTEMPT",
    "SELECT_COUNT",
    "SELECT_FENCE",
    "SELECT_KEYS",
    "SELECT_LEFT",
    "SELECT_REQUEST",
    "SELECT_RESULT",
    "SELECT_RUN",
    "SELECT_STATUSES",
    "SELECT_SUMS",
    "SELECT_VALUE",
    "START",
    "SUCCEED",
    "UPDATE_RUN",
    "select_tasks",
]

MIGRATIONS: Final = (
    (
        """CREATE TABLE IF NOT EXISTS schema_version (
            version INTEGER PRIMARY KEY,
            applied_at TEXT NOT NULL
        )""",
        """CREATE TABLE IF NOT EXISTS workflow_runs (
            workflow_id TEXT PRIMARY KEY,
            workflow TEXT NOT NULL,
            version TEXT,
            mode TEXT NOT NULL,
            status TEXT NOT NULL,
            reason TEXT,
            created_at TEXT NOT NULL,
            started_at TEXT,
            finished_at TEXT,
            owner TEXT,
            fence INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            idempotency_key TEXT,
            params BLOB NOT NULL,
            params_sum TEXT NOT NULL,
            UNIQUE (workflow, idempotency_key)
        ) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS task_attempts (
            workflow_id TEXT NOT NULL,
            task_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            status TEXT NOT NULL,
            outcome TEXT,
            scheduled_at TEXT NOT NULL,
            started_at TEXT,
            finished_at TEXT,
            owner TEXT NOT NULL,
            fence INTEGER NOT NULL,
            worker TEXT,
            error_type TEXT,
            error_message TEXT,
            error_traceback TEXT,
            error_types TEXT,
            metadata TEXT,
            discards INTEGER NOT NULL DEFAULT 0,
            inputs TEXT,
            code TEXT,
            codec TEXT,
            sum TEXT,
            value BLOB,
            PRIMARY KEY (workflow_id, task_id, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS checkpoints (
            workflow_id TEXT NOT NULL,
            task_id TEXT NOT NULL,
            name TEXT NOT NULL,
            inputs TEXT,
            code TEXT,
            codec TEXT NOT NULL,
            sum TEXT NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (workflow_id, task_id, name)
        ) WITHOUT ROWID""",
    ),
    ("ALTER TABLE workflow_runs ADD COLUMN request TEXT",),
)
"""For each version of the schema the statements that make it from the one before, in one transaction."""


# Runs

_RUN: Final = (
    "workflow_id, workflow, version, created_at, idempotency_key, params, params_sum, mode, status, reason, "
    "started_at, finished_at, owner, fence, crashes"
)
_MARKS: Final = ", ".join("?" * 15)
INSERT_RUN: Final = f"INSERT INTO workflow_runs ({_RUN}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"
_IS_OPEN: Final = "status IN (" + ", ".join(f"'{each}'" for each in OPEN_RUN) + ")"
UPDATE_RUN: Final = (
    "UPDATE workflow_runs SET mode = ?, status = ?, reason = ?, started_at = ?, finished_at = ?, owner = ?, "
    "fence = ?, crashes = ?, "
    "attempts = (SELECT count(*) FROM task_attempts AS each WHERE each.workflow_id = workflow_runs.workflow_id) "
    "WHERE workflow_id = ?"
)
SELECT_COUNT: Final = "SELECT attempts FROM workflow_runs WHERE workflow_id = ?"
SELECT_RUN: Final = (
    f"SELECT {_RUN.replace('params,', 'CAST(params AS BLOB),')} FROM workflow_runs WHERE workflow_id = ?"
)
SELECT_FENCE: Final = "SELECT fence FROM workflow_runs WHERE workflow_id = ?"
# what is asked of it: see `rows.request_row`
ASK: Final = f"UPDATE workflow_runs SET request = ? WHERE workflow_id = ? AND {_IS_OPEN} AND request IS ?"
FORGET_REQUEST: Final = "UPDATE workflow_runs SET request = NULL WHERE workflow_id = ?"
SELECT_REQUEST: Final = "SELECT fence, request FROM workflow_runs WHERE workflow_id = ?"
FIND: Final = "SELECT workflow_id FROM workflow_runs WHERE workflow = ? AND idempotency_key = ?"

# Attempts

ATTEMPT: Final = (
    "task_id, number, generation, status, outcome, scheduled_at, started_at, finished_at, owner, fence, worker, "
    "error_type, error_message, error_traceback, error_types, metadata"
)
_PLACE: Final = "workflow_id = ? AND task_id = ? AND number = ?"


def _move(status: AttemptStatus, columns: str) -> str:
    """Return the statement that brings an attempt to a status, from those it may come from."""
    origins = ", ".join(f"'{each}'" for each, legal in ATTEMPT_MOVES.items() if each and status in legal)
    return f"UPDATE task_attempts SET status = '{status}', {columns} WHERE {_PLACE} AND status IN ({origins})"


OPEN: Final = (
    "INSERT INTO task_attempts "
    "(workflow_id, task_id, number, generation, status, scheduled_at, started_at, owner, fence, worker, metadata) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
START: Final = _move(
    AttemptStatus.RUNNING,
    "scheduled_at = ?, started_at = ?, owner = ?, fence = ?, worker = ?, metadata = ?, "
    "discards = discards - (? - generation), generation = ?",
)
SUCCEED: Final = _move(
    AttemptStatus.COMPLETED,
    "outcome = 'success', started_at = ?, finished_at = ?, worker = ?, metadata = ?, "
    "inputs = ?, code = ?, codec = ?, sum = ?, value = ?",
)
END: Final = {
    str(status): _move(
        status,
        "outcome = ?, started_at = ?, finished_at = ?, worker = ?, metadata = ?, owner = ?, fence = ?, "
        "error_type = ?, error_message = ?, error_traceback = ?, error_types = ?",
    )
    for status in AttemptStatus
    if status not in ATTEMPT_MOVES[None]
}
DISCARD_LATE: Final = f"UPDATE task_attempts SET outcome = 'discarded' WHERE {_PLACE}"
SELECT_ATTEMPT: Final = f"SELECT {ATTEMPT} FROM task_attempts WHERE {_PLACE}"
SELECT_KEYS: Final = "SELECT DISTINCT task_id FROM task_attempts WHERE workflow_id = ? ORDER BY task_id"
SELECT_SUMS: Final = (
    "SELECT workflow_id, task_id, number, inputs, code, sum FROM task_attempts WHERE workflow_id = ? "
    "ORDER BY task_id, number"
)
SELECT_STATUSES: Final = "SELECT DISTINCT status FROM task_attempts WHERE workflow_id = ? AND fence = ?"
SELECT_LEFT: Final = f"SELECT {ATTEMPT} FROM task_attempts WHERE workflow_id = ? AND status = 'running'"

# Values

_VALUE: Final = "inputs = ?, code = ?, codec = ?, sum = ?, value = ?"
_LAST: Final = "(SELECT max(number) FROM task_attempts WHERE workflow_id = ? AND task_id = ?)"
_TASK: Final = "workflow_id = ? AND task_id = ?"
KEEP: Final = "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
DROP: Final = f"DELETE FROM checkpoints WHERE {_TASK} AND name = ?"
KEEP_RESULT: Final = f"UPDATE task_attempts SET {_VALUE} WHERE {_TASK} AND number = {_LAST}"
DROP_CHECKPOINTS: Final = f"DELETE FROM checkpoints WHERE {_TASK}"
DISCARD: Final = (
    "UPDATE task_attempts SET inputs = NULL, code = NULL, codec = NULL, sum = NULL, value = NULL, "
    f"discards = discards + (number = {_LAST}) WHERE {_TASK}"
)
_READ: Final = "SELECT inputs, code, codec, sum, CAST(value AS BLOB)"
SELECT_RESULT: Final = f"{_READ} FROM task_attempts WHERE {_TASK} AND sum IS NOT NULL"
SELECT_VALUE: Final = f"{_READ} FROM checkpoints WHERE {_TASK} AND name = ?"


def select_tasks(keys: int) -> tuple[str, str]:
    """Return the statements that read the attempts, and the checkpoints, of so many tasks; 0 for all of a run."""
    where = "workflow_id = ?" + (f" AND task_id IN ({', '.join('?' * keys)})" if keys else "")
    return (
        f"SELECT {ATTEMPT}, discards, inputs, code, sum FROM task_attempts WHERE {where} ORDER BY task_id, number",
        f"SELECT task_id, name, inputs, code, sum FROM checkpoints WHERE {where}",
    )
