"""The rows of the journal over a storage as bytes, their keys, and back: see `keyvalue`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from dotflow_like.errors import CorruptCheckpoint
from dotflow_like.model.records import Checkpoint, Request, RunRecord, TaskRecord
from dotflow_like.record.rows import (
    attempt_from,
    attempt_row,
    request_from,
    request_row,
    run_from,
    run_row,
    run_state,
)
from dotflow_like.record.stored import checksum

__all__ = [
    "Beside",
    "RunRow",
    "corrupt",
    "place_of_key",
    "new_run",
    "pack_task",
    "part",
    "record_of",
    "run_key",
    "task_prefix",
    "unpack_run",
    "unpack_task",
    "whole",
]

_HEAD = b"dotflow_like 1 "
_SUM = len(checksum(b""))
_START = len(_HEAD) + _SUM + 1
_encode_json = json.JSONEncoder(separators=(",", ":")).encode
_decode_json = json.JSONDecoder().raw_decode


class Beside(NamedTuple):
    """A checkpoint under a key of its own."""

    key: str
    sum: str


class RunRow(NamedTuple):
    """A run's row as it was when last looked at.

    Attributes:
        run: the run, without its params.
        header: the row without them, as JSON.
        data: the whole as bytes.
    """

    run: RunRecord
    header: dict[str, Any]
    data: bytes

    @property
    def params(self) -> bytes:
        """The params, as the codec made them."""
        return self.data[_START:].partition(b"\n")[2]

    @property
    def request(self) -> Request | None:
        """What is asked of the run."""
        asked = self.header.get("request")
        return None if asked is None else request_from(asked)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be asked any more: the present owner is about to end the run."""
        return self.header.get("closed") == self.run.fence

    def with_state(self, run: RunRecord) -> bytes:
        """Return the row as it is when the run stands as `run` says."""
        return _pack(self.header | run_state(run), self.params)

    def with_request(self, request: Request | None) -> bytes:
        """Return the row as it is when this is asked."""
        asked = None if request is None else request_row(request)
        return _pack(self.header | {"request": asked}, self.params)

    def closed(self) -> bytes:
        """Return the row as it is when nothing can be asked any more, until the next claim."""
        return _pack(self.header | {"closed": self.run.fence}, self.params)

    def without_request(self) -> RunRow:
        """Return the row without what is asked, and open."""
        header = {key: value for key, value in self.header.items() if key not in ("request", "closed")}
        return self._replace(header=header)


def new_run(run: RunRecord, params: bytes) -> bytes:
    """Return the row of a run that is created, with its params as the codec made them."""
    return _pack(run_row(run), params)


def _pack(header: Mapping[str, Any], body: bytes) -> bytes:
    rest = b"%b\n%b" % (_encode_json(header).encode("ascii"), body)
    return b"%b%b\n%b" % (_HEAD, checksum(rest).encode("ascii"), rest)


def _unpack(data: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    rest = data[_START:]
    if not data.startswith(_HEAD) or data[len(_HEAD) : _START - 1] != checksum(rest).encode("ascii"):
        raise corrupt(where, "does not match its checksum")
    header, _, body = rest.partition(b"\n")
    return _decode_json(header.decode("ascii"))[0], body


def unpack_run(workflow_id: str, data: bytes) -> RunRow:
    """Return the row of a run; raise `CorruptCheckpoint`."""
    header, _ = _unpack(data, run_key(workflow_id))
    if header["workflow_id"] != workflow_id:
        raise corrupt(run_key(workflow_id), f"is the row of run {header['workflow_id']!r}")
    return RunRow(run_from(header, {}), header, data)


def unpack_task(data: bytes, where: str, key: str) -> tuple[dict[str, Any], bytes]:
    """Return the row of a task without its checkpoints, and their bytes; raise `CorruptCheckpoint`."""
    header, body = _unpack(data, where)
    if header["task"] != key:
        raise corrupt(where, f"is the row of task {header['task']!r}")
    return header, body


def pack_task(record: TaskRecord) -> bytes:
    """Return the row of a task; the values of its checkpoints are `Encoded` or `Beside`."""
    bodies: list[bytes] = []
    length = 0
    kept: dict[str, dict[str, Any]] = {}
    for name, checkpoint in record.checkpoints.items():
        if isinstance(checkpoint.value, Beside):
            place: dict[str, Any] = {"at": checkpoint.value.key, "sum": checkpoint.value.sum}
        else:
            data = checkpoint.value.data
            place = {"from": length, "to": length + len(data)}
            bodies.append(data)
            length += len(data)
        kept[name] = place | {"inputs": checkpoint.inputs, "code": checkpoint.code}
    header = {
        "task": record.task_id,
        "generation": record.generation,
        "attempts": [attempt_row(attempt) for attempt in record.attempts],
        "checkpoints": kept,
    }
    return _pack(header, b"".join(bodies))


def record_of(header: Mapping[str, Any], workflow_id: str, values: Mapping[str, Any]) -> TaskRecord:
    """Return the record whose row without its checkpoints is `header`; `values` are those."""
    key = header["task"]
    attempts = tuple([attempt_from(row, workflow_id, key) for row in header["attempts"]])
    checkpoints = {
        name: Checkpoint(key, name, values[name], kept["inputs"], kept["code"])
        for name, kept in header["checkpoints"].items()
    }
    return TaskRecord(key, attempts, checkpoints, header["generation"])


def corrupt(where: str, what: str) -> CorruptCheckpoint:
    """Return the error for something that is damaged or gone."""
    return CorruptCheckpoint(
        f"stored value {where!r} {what}; restore it from a copy, or delete it to have it made anew"
    )


def run_key(workflow_id: str) -> str:
    """Return the key of a run's row."""
    return f"{part(workflow_id)}/run"


def place_of_key(workflow: str, key: str) -> str:
    """Return the key under which the id lies of the run that was started with this key."""
    # a `%` alone begins no other key: in the names of runs it is written `%25`
    return f"%keys/{part(workflow)}/{part(key)}"


def task_prefix(workflow_id: str) -> str:
    """Return what the keys of the rows of a run's tasks begin with."""
    return f"{part(workflow_id)}/tasks/"


def part(name: str) -> str:
    """Return a name as a part of a key."""
    return name.replace("%", "%25").replace("/", "%2F") if "%" in name or "/" in name else name


def whole(name: str) -> str:
    """Return the name that `part` was given."""
    return name.replace("%2F", "/").replace("%25", "%")
