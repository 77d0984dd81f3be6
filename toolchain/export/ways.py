"""Other ways of running targets (`openvino:CPU+bf16`): which are here, and which files keep their answers there."""

from __future__ import annotations

from collections.abc import Sequence

from toolchain.artifact import Artifact
from toolchain.export.measure import ExportContext, Logits, accuracy_of, logits_on
from toolchain.export.photographs import Sample
from toolchain.export.results import Measurement
from toolchain.recommended import MIN_AGREEMENT
from toolchain.runtimes.devices import plain, probe, ways_of
from toolchain.system.progress import Reporter


def ways_here(devices: Sequence[str]) -> tuple[str, ...]:
    """The other ways of running `devices` that this machine has the instructions for."""
    return tuple(way for device in devices for way in ways_of(device) if probe(way).available)


def float_ways(
    artifact: Artifact, ways: Sequence[str], reference: Logits, sample: Sample
) -> tuple[Measurement, ...]:
    """The float file in each of `ways`, beside the trained network's logits on the first views of `sample`."""
    found = {way: logits_on(artifact, way, sample.views, len(reference)) for way in ways}
    return tuple(
        Measurement(way, accuracy_of(logits, reference, sample, way, "float32")) for way, logits in found.items()
    )


def that_agree(measured: Sequence[Measurement], reporter: Reporter) -> tuple[str, ...]:
    """The ways in which the float file is still the trained network; warns of each other one."""
    kept = []
    for one in measured:
        agreement = one.accuracy.agreement or 0.0
        if agreement >= MIN_AGREEMENT:
            kept.append(one.device)
        else:
            reporter.warn(
                f"{one.device} is not recommended: agreement with the trained network {agreement:.4f}, less than "
                f"{MIN_AGREEMENT}"
            )
    return tuple(kept)


def int8_ways(
    context: ExportContext, artifact: Artifact, devices: Sequence[str], max_drop_pp: float
) -> tuple[Measurement, ...]:
    """An int8 file that is right on `devices`, in their other ways too: those in which it loses no more there.

    Its integers are the same; what stays float is computed in the other type.
    """
    ways = [way for way in context.ways if plain(way) in devices]
    measured = (context.measure(artifact, way) for way in ways)
    return tuple(one for one in measured if one.judged_pp <= max_drop_pp)
