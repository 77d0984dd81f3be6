"""What attacks found, as JSON, as CSV and as a sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from toolchain.explain.attack import Attacked
from toolchain.explain.attack.many import AttackRow, RobustnessPoint
from toolchain.explain.attack.one import OneAttack


def one_document(labels: Sequence[str], done: OneAttack) -> dict[str, Any]:
    """The numbers of an attack on one photograph, for `--json`; `labels` are the attacked network's."""
    least = done.least
    return {
        "target": done.target,
        "budget": done.budget,
        "turned": bool(done.attacked.turned[0]),
        "change": _change(done.attacked),
        "probabilities": {
            "before": dict(zip(labels, done.attacked.before[0].tolist(), strict=True)),
            "after": dict(zip(labels, done.attacked.after[0].tolist(), strict=True)),
        },
        "smallest": least
        and {
            "budget": least.budget,
            "change": _change(least.attacked),
            "tried": [{"budget": budget, "turned": turned} for budget, turned in least.tried.items()],
        },
        "answers": done.verdicts,
    }


def _change(attacked: Attacked) -> dict[str, float]:
    """How large a change is, in 1/255."""
    return {"largest": int(attacked.largest[0]), "length": round(float(attacked.length[0]), 2)}


def conclusion(curve: Sequence[RobustnessPoint], target: str | None, interrupted: bool) -> str:
    """One sentence: what the attacked run loses from its smallest budget to its largest."""
    own = [point for point in curve if (point.name, point.device) == (curve[0].name, curve[0].device)]
    first, last = own[0], own[-1]
    so_far = "Interrupted; of what was done: " if interrupted else ""
    said = (
        f"{so_far}top-1 of {first.n} photographs is {first.top1 or 0:.3f} at a budget of {first.budget} "
        f"and {last.top1 or 0:.3f} at {last.budget}."
    )
    if target is not None and last.target is not None:
        said += f" At {last.budget}, {last.target:.1%} of those it knew are taken for {target}."
    return said


def as_csv(rows: Sequence[RobustnessPoint] | Sequence[AttackRow]) -> bytes:
    """A line for each, with a heading; numbers as they are, nothing where there is none."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        fields = asdict(row)
        if isinstance(fields.get("top1_ci95"), tuple):
            fields["top1_ci95"] = " ".join(f"{end:.4f}" for end in fields["top1_ci95"])
        writer.writerow(fields)
    return text.getvalue().encode("utf-8", "backslashreplace")
