"""Whether this command has given its result: `--json` gives one document, and none more for what fails after it."""

from __future__ import annotations

given: bool = False
