"""The rows of the SQL journal: values into columns, columns into values, and what tells a damaged one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

from dotflow_like.errors import CorruptCheckpoint
from dotflow_like.model.records import NO_METADATA, Attempt, TaskError, made
from dotflow_like.model.status import AttemptOutcome, AttemptStatus

__all__ = [
    "attempt_from",
    "attempts_from",
    "bindable",
    "check_head",
    "corrupt",
    "damaged",
    "decode_inputs",
    "encode_json",
    "error_values",
    "readable",
    "status_of",
    "sum_of",
    "sum_of_run",
    "text_of",
    "time_of",
    "whole",
]

_HEAD: Final = 8
"""Characters of a checksum that are of the row alone."""

_STATUSES: Final = {str(each): each for each in AttemptStatus}
_OUTCOMES: Final = {str(each): each for each in AttemptOutcome} | {None: None}


def attempts_from(
    path: str, workflow_id: str, rows: Iterable[Sequence[Any]]
) -> Iterator[tuple[Attempt, Sequence[Any]]]:
    """Give the attempts that rows hold, whose first columns are `sql_statements.ATTEMPT`, each with the other columns."""
    parse = datetime.fromisoformat
    for row in rows:
        (
            key, number, generation, status, outcome, scheduled, started, finished, owner, fence, worker, exception,
            message, traceback, types, metadata, *others,
        ) = row  # fmt: skip
        try:
            error = None
            if exception is not None:
                texts = whole(exception), whole(message), whole(traceback)
                error = TaskError(number, *texts, tuple(json.loads(types)))
            due = parse(scheduled)
            began = due if started == scheduled else time_of(started)
            ended = time_of(finished)
            if not type(number) is type(generation) is type(fence) is int:
                raise TypeError("a number in it is none")
            if due.tzinfo is None:
                raise ValueError(f"{scheduled!r} is no time in UTC")
            attempt = made(Attempt, (
                workflow_id, key, number, _STATUSES[status], _OUTCOMES[outcome], due, began, ended, owner, fence,
                worker, error, json.loads(metadata) if metadata else NO_METADATA, generation,
            ))  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError) as damage:
            raise damaged(path, f"attempt {workflow_id}/{key}/{number}", damage) from damage
        yield attempt, others


def attempt_from(path: str, workflow_id: str, row: Sequence[Any]) -> Attempt:
    """Return the attempt that one row holds."""
    return next(attempts_from(path, workflow_id, [row]))[0]


def sum_of(
    data: bytes,
    workflow_id: str,
    key: str,
    name: str,
    inputs: str | None,
    code: str | None,
    codec: str | None,
) -> str:
    """Return the checksum of a value with the row it belongs to, so that it means nothing in another one.

    It begins with a short one of the row without the value, for those who read it without.
    """
    row = f"{workflow_id}\0{key}\0{name}\0{inputs}\0{code}\0{codec}\0".encode("utf-8", "surrogatepass")
    sum_ = blake2b(row + data, digest_size=12)
    return _head_of(workflow_id, key, name, inputs, code) + sum_.hexdigest()


def check_head(
    sum_: str, workflow_id: str, key: str, name: str, inputs: str | None, code: str | None
) -> None:
    """Raise `ValueError` unless the checksum of a value is that of its row, which is read without the value."""
    if sum_[:_HEAD] != _head_of(workflow_id, key, name, inputs, code):
        raise ValueError("it does not match its checksum")


def _head_of(workflow_id: str, key: str, name: str, inputs: str | None, code: str | None) -> str:
    if type(key) is not str:  # a damaged column may hold bytes
        return ""
    return f"{crc32(key.encode(), _crc_of(workflow_id, name, inputs, code)):08x}"


@lru_cache(1024)
def _crc_of(*texts: str | None) -> int:
    """Return the CRC of what many rows share."""
    return crc32(repr(texts).encode("utf-8", "surrogatepass"))


def sum_of_run(params: bytes, *belongs: str | None) -> str:
    """Return the checksum of what never changes in the row of a run."""
    sum_ = blake2b(repr(belongs).encode("utf-8", "surrogatepass"), digest_size=16)
    sum_.update(params)
    return sum_.hexdigest()


def readable(data: bytes) -> str | bytes:
    """Return bytes that are plain text as text, which SQL can show and search."""
    return data.decode("ascii") if data.isascii() and b"\0" not in data else data


def bindable(text: str) -> str | bytes:
    """Return a text as the database takes it: with half a character in it, as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def whole(kept: str | bytes) -> str:
    """Return the text `bindable` was given."""
    return kept if isinstance(kept, str) else kept.decode("utf-8", "surrogatepass")


encode_json: Final = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(1024)
def decode_inputs(text: str | None) -> Mapping[str, str] | None:
    """Return fingerprints of inputs from their column."""
    return None if text is None else json.loads(text)


_last: tuple[datetime | None, str | None] = (None, None)


def text_of(at: datetime | None) -> str | None:
    """Return a time as text; that of the last one is kept, since a turn of the kernel has one for all it writes."""
    global _last
    known, text = _last
    if at is not known:
        text = None if at is None else at.isoformat()
        _last = at, text
    return text


def time_of(text: str | None) -> datetime | None:
    """Return a time from its column."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} is no time in UTC")
    return at


def damaged(path: str, what: str, error: Exception) -> CorruptCheckpoint:
    """Return the error for a row that does not make sense, which `error` says."""
    reason = f"{error} means nothing there" if isinstance(error, KeyError) else str(error)
    return corrupt(path, f"the row of {what} is damaged: {reason}")


def corrupt(path: str, what: str) -> CorruptCheckpoint:
    """Return the error for something that is damaged or gone."""
    return CorruptCheckpoint(f"{path!r}: {what}; restore the file from a copy, or give another workflow_id")


def error_values(error: TaskError) -> tuple[str | bytes, ...]:
    """Return the columns of an error."""
    texts = map(bindable, (error.exception, error.message, error.traceback))
    return *texts, encode_json(error.full_types())


def status_of(what: str, status: Any) -> AttemptStatus:
    """Return the status a column holds."""
    known = _STATUSES.get(status)
    if known is None:
        raise CorruptCheckpoint(f"the row of {what} is damaged: it has the status {status!r}")
    return known
