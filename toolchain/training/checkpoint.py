"""The state of an unfinished run, so that `--resume` goes on bit for bit. Safetensors and JSON, never a pickle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from toolchain.backbones.networks import MAX_WEIGHTS_BYTES, check_weights, not_finite
from toolchain.errors import BadInputError
from toolchain.runs import CHECKPOINT_FOLDER, SETTINGS_FILE, check_resumable
from toolchain.system import files

STATE_FILE = "state.safetensors"
MAX_SETTINGS_BYTES = 1 << 20
MAX_STATE_BYTES = 4 * MAX_WEIGHTS_BYTES
"""The weights, their average, and the state of the optimiser."""


@dataclass(frozen=True)
class Progress:
    """What has been decided so far: epochs done and planned, the best one with its score, and the time taken.

    The best one was trained as one of `best_planned` epochs; 0 in checkpoints of earlier versions, which did not
    say it.
    """

    epochs_done: int
    best_epoch: int
    best_score: tuple[float, float]
    epochs_planned: int
    seconds: float
    best_planned: int = 0


def save_settings(folder: Path, settings: Any, data_sha256: str) -> None:
    """Record what the run was asked for, before anything else happens."""
    document = {"settings": asdict(settings), "data_sha256": data_sha256}
    files.write_json(folder / CHECKPOINT_FOLDER / SETTINGS_FILE, document)


def load_settings(folder: Path) -> tuple[dict[str, Any], str]:
    """Settings and data hash of the run in `folder`. Raises BadInputError when there is nothing to resume."""
    check_resumable(folder)
    path = folder / CHECKPOINT_FOLDER / SETTINGS_FILE
    try:
        document = files.read_json(path, dict[str, Any], MAX_SETTINGS_BYTES)
        return document["settings"], document["data_sha256"]
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (msgspec.DecodeError, KeyError, TypeError):
        raise BadInputError(f"{path} is damaged", "Start the run again.") from None


def save_state(folder: Path, tensors: dict[str, dict[str, Tensor]], progress: Progress) -> None:
    """Write named groups of tensors and the progress as one file, whole or not at all."""
    flat = {
        f"{group}/{name}": tensor.contiguous() for group, named in tensors.items() for name, tensor in named.items()
    }
    # Not its `save_file`, which tells of a full disk in a type of its own.
    data = save(flat, metadata={"progress": msgspec.json.encode(progress).decode()})
    files.write_bytes(folder / CHECKPOINT_FOLDER / STATE_FILE, data)


def load_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], Progress] | None:
    """What `save_state` wrote, or None when no epoch was finished. Raises BadInputError when it is damaged."""
    path = folder / CHECKPOINT_FOLDER / STATE_FILE
    hint = "Remove it to start again from the linear probe."
    if not path.exists():
        return None
    check_weights(path, MAX_STATE_BYTES)
    try:
        with files.encodable(path) as named, safe_open(named, framework="pt") as file:
            progress = msgspec.json.decode(file.metadata()["progress"], type=Progress)
            groups: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, msgspec.DecodeError, KeyError, TypeError):
        raise BadInputError(f"{path} is damaged", hint) from None
    for name, tensors in groups.items():
        if bad := not_finite(tensors):
            raise BadInputError(f"{path} is damaged: {name}/{bad[0]} holds NaN or infinity", hint)
    return groups, progress
