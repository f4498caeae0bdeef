"""What the jobs have to come to."""

from __future__ import annotations

from dotflow_like.model.status import AttemptOutcome

WHOLE = {
    "a": 1, "b": 1, "c": 1, "d": 3, "e": 3, "flaky": 2, "f": 4, "g": 7, "h": 4,
    "square": [4, 16, 36, 64, 100], "i": 8, "gather": 228, "walk": 4, "again": 5, "pauses": 6, "asks": 7,
    "last": 240,
}  # fmt: skip
SMALL = {"a": 1, "b": 1, "flaky": 2, "last": 4}
SPEAKING = {"a": 1, "walk": 4, "again": 5, "pauses": 6, "asks": 7, "last": 8}
JOBS = {"whole": WHOLE, "small": SMALL, "speaking": SPEAKING}
MORE = {"again", "pauses", "asks"}  # these say once that there is to be another attempt
CAUSES = {
    AttemptOutcome.RECOVERED,
    AttemptOutcome.RETRIED,
    AttemptOutcome.PAUSED,
    "WorkerDied",
    "ValueError",
    "TaskCancelled",
}
