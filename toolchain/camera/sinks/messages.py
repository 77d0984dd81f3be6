"""The answer as a message to another program: whenever it changes, with the moment of the frame."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from toolchain.camera.answering import Answered
from toolchain.camera.smoothing import seen_as
from toolchain.system import files


def moment(answered: Answered) -> datetime:
    """When the frame was captured, in UTC, if the answer has just come."""
    return datetime.now(timezone.utc) - timedelta(milliseconds=answered.age_ms)


def rfc3339(at: datetime) -> str:
    """`at`, in UTC, as in `2026-07-04T09:30:12.250Z`."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def message(answered: Answered) -> bytes:
    """What `edgetl camera --json` prints, and `time` (RFC 3339): a message may arrive much later."""
    return files.to_json(answered.line() | {"time": rfc3339(moment(answered))}, indent=0).strip()


class Changes:
    """Tells which answers are other ones than the last of their region: another label, or "not sure", which counts
    as one."""

    def __init__(self) -> None:
        self._last: dict[str, str | None] = {}

    def __call__(self, answered: Answered) -> bool:
        """Whether the answer changed. The first one counts as a change."""
        seen = seen_as(answered.prediction.label, answered.prediction.rejected)
        changed = answered.region not in self._last or seen != self._last[answered.region]
        self._last[answered.region] = seen
        return changed
