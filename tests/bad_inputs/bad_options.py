"""Values of options, and words, that make no sense."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bad_inputs.entry import GOOD, MODEL, Entry, Stock, Words, nothing

PREDICT: Words = ("predict", MODEL, GOOD)
CAMERA: Words = ("camera", MODEL, "--source", GOOD, "--frames", "1")
BENCH: Words = ("bench", MODEL)
FINETUNE: Words = ("finetune", ".", "--weights", "none", "--device", "cpu", "--out", "run")
EXPORT: Words = ("export", "run")
WHY: Words = ("explain", "why", MODEL, GOOD)
ATTACK: Words = ("explain", "attack", "ready-made", GOOD)
IDEAL: Words = ("explain", "ideal", "--class", "beagle", "--steps", "1")
FEATURES: Words = ("explain", "features", GOOD)


def _photographs(stock: Stock, place: Path) -> None:
    shutil.copytree(stock.photographs(), place / "photos")


NUMBERS = ("0", "-1", "1.5", "many", "", "1e3", "99999999999999999999999999", "٣x")
"""For options that take whole numbers from 1."""
FRACTIONS = ("nan", "inf", "-inf", "-0.1", "many", "", "1e400")
"""For options that take numbers from 0."""
NUMBERS_BELOW = ("-inf", "-0.1", "many", "", "86401")

VALUES: dict[str, tuple[Words, str, tuple[str, ...]]] = {
    "predict-top": (PREDICT, "--top", NUMBERS[:6]),
    "predict-threads": (PREDICT, "--threads", (*NUMBERS, "1025")),
    "predict-device": (PREDICT, "--device", ("abacus", "ort:", ":cpu", "openvino:", "\n")),
    "predict-device-of-a-number": (PREDICT, "--device", ("ort:cuda:x", "ort:cpu:0:1", "ort:cpu+bf8")),
    "predict-device-of-two-numbers": (PREDICT, "--device", ("torch:cuda:x", "torch:cpu:0:1")),
    "camera-frames": (CAMERA, "--frames", NUMBERS[:6]),
    "camera-threads": (CAMERA, "--threads", ("0", "-1", "x")),
    "camera-duration": (CAMERA, "--duration", ("0", *FRACTIONS)),
    "camera-stall-limit": (CAMERA, "--stall-limit", ("0", *FRACTIONS)),
    "camera-min-probability": (CAMERA, "--min-probability", ("1.01", *FRACTIONS)),
    "camera-seconds-per-image": (CAMERA, "--seconds-per-image", ("0", "3601", *FRACTIONS)),
    "camera-fps": (CAMERA, "--fps", ("0", *FRACTIONS)),
    "camera-size": (CAMERA, "--size", ("", "640", "640x", "x480", "640*480", "-640x480", "0x0", "999999x999999")),
    "camera-pixel-format": (CAMERA, "--pixel-format", ("", "MJPEG", "YUY", "äöüß")),
    "camera-web": (CAMERA, "--web", (":", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:port", "[::1", MODEL)),
    "camera-on-change": (CAMERA, "--on-change", ("", "   ")),
    "bench-threads": (BENCH, "--threads", ("0", "-1", "1,,2", "1025", "two", "1;2")),
    "bench-batch": (BENCH, "--batch", ("0", "-1", "1,,2", "1025", "two", "")),
    "bench-rounds": (BENCH, "--rounds", (*NUMBERS, "1001")),
    "bench-budget": (BENCH, "--budget", ("0", *NUMBERS_BELOW)),
    "bench-budget-nan": ((*BENCH, "--device", "ort:cpu"), "--budget", ("nan",)),
    "bench-tolerance-nan": ((*BENCH, "--compare", "gone.json"), "--tolerance", ("nan",)),
    "bench-limit": (BENCH, "--limit", ("-1", "1.5", "all", "")),
    "bench-split": (BENCH, "--split", ("", "tests", "TEST")),
    "bench-device": (BENCH, "--device", ("", "abacus", "ort:", "gpu", "torch:cpu+magic")),
    "bench-tolerance": (BENCH, "--tolerance", ("-1", "five", "")),
    "bench-tolerance-top1": (BENCH, "--tolerance-top1", ("-1", "five", "")),
    "finetune-epochs": (FINETUNE, "--epochs", ("0", "-1", "1.5", "many", "")),
    "finetune-patience": (FINETUNE, "--patience", ("-1", "1.5", "x")),
    "finetune-max-minutes": (FINETUNE, "--max-minutes", ("0", "-1", "nan", "x")),
    "finetune-seed": (FINETUNE, "--seed", ("-1", "1.5", "x", "2147483649")),
    "finetune-size": (FINETUNE, "--size", ("31", "1025", "-1", "x")),
    "finetune-resize": (FINETUNE, "--resize", ("", "stretch")),
    "finetune-model": (FINETUNE, "--model", ("", "efficientnet_b99", "../mobilenet_v2", "MOBILENET_V2")),
    "finetune-device": (("finetune", "photos", *FINETUNE[2:]), "--device", ("", "abacus", "cuda:99", "cuda:x")),
    "finetune-optimizer": (FINETUNE, "--optimizer", ("", "lion")),
    "finetune-learning-rate": (FINETUNE, "--learning-rate", ("0", "-1", "1", "nan", "inf", "x")),
    "finetune-warm-up": (FINETUNE, "--warm-up", ("-0.1", "1", "nan", "x")),
    "finetune-max-grad-norm": (FINETUNE, "--max-grad-norm", ("-1", "nan", "inf", "x")),
    "finetune-weight-decay": (FINETUNE, "--weight-decay", ("-1", "nan", "inf", "x")),
    "finetune-batch-size": (FINETUNE, "--batch-size", ("0", "-1", "1.5", "x")),
    "finetune-augmentation": (FINETUNE, "--augmentation", ("-1", "2.1", "nan", "x")),
    "finetune-min-crop-area": (FINETUNE, "--min-crop-area", ("0", "1.1", "nan", "x")),
    "finetune-dropout": (FINETUNE, "--dropout", ("-0.1", "1", "nan", "x")),
    "finetune-folds": (FINETUNE, "--folds", ("1", "-1", "x")),
    "export-max-drop": (EXPORT, "--max-drop", ("-1", "101", "x")),
    "export-min-speed-up": (EXPORT, "--min-speed-up", ("-1", "101", "x")),
    "export-max-minutes": (EXPORT, "--max-minutes", ("0", "-1", "x")),
    "export-max-drop-nan": (EXPORT, "--max-drop", ("nan",)),
    "export-min-speed-up-nan": (EXPORT, "--min-speed-up", ("nan",)),
    "export-max-minutes-nan": (EXPORT, "--max-minutes", ("nan",)),
    "export-qat-epochs": (EXPORT, "--qat-epochs", ("0", "101", "x")),
    "why-method": (WHY, "--method", ("", "guess", "grad-cam")),
    "why-class": (WHY, "--class", ("", "unicorn")),
    "why-device": (WHY, "--device", ("abacus", "torch:cpu")),
    "attack-budget": (ATTACK, "--budget", ("-1", "0", "1.5", "x")),
    "attack-budgets": (ATTACK, "--budgets", ("-1", "1,,2", "x", "")),
    "attack-norm": (ATTACK, "--norm", ("", "l3")),
    "attack-steps": (ATTACK, "--steps", ("0", "10001", "x")),
    "attack-target": (ATTACK, "--target", ("", "unicorn")),
    "attack-transfer": (ATTACK, "--transfer", ("gone", GOOD)),
    "ideal-class": (("explain", "ideal"), "--class", ("", "unicorn")),
    "ideal-steps": (IDEAL, "--steps", ("0", "100001", "x")),
    "ideal-octaves": (IDEAL, "--octaves", ("", "x", "0", "-1", "nan", "1,,2")),
    "ideal-blur": (IDEAL, "--blur", ("-1", "21", "x")),
    "ideal-blur-nan": (IDEAL, "--blur", ("nan",)),
    "ideal-jitter": (IDEAL, "--jitter", ("-0.1", "0.6", "x")),
    "ideal-jitter-nan": (IDEAL, "--jitter", ("nan",)),
    "ideal-window": (IDEAL, "--window", ("-1", "5", "x")),
    "ideal-variation": (IDEAL, "--variation", ("nan", "inf")),
    "ideal-natural": (IDEAL, "--natural", ("nan", "inf")),
    "bench-tolerance-top1-nan": ((*BENCH, "--compare", "gone.json"), "--tolerance-top1", ("nan", "inf")),
    "ideal-window-nan": (IDEAL, "--window", ("nan",)),
    "features-top": (FEATURES, "--top", ("0", "4097", "x")),
    "features-layer": (FEATURES, "--layer", ("", "nowhere", "../..")),
    "features-model": (FEATURES, "--model", ("", "efficientnet_b99")),
}  # fmt: skip
UNNAMED = {"camera-web", "bench-device", "why-device", "attack-target", "attack-transfer"}
"""Their errors name the value."""
SET = tuple(
    Entry(
        option,
        tuple((*words, f"{name}={value}") for value in values),
        codes=(2, 3),
        says="" if option in UNNAMED else name.lstrip("-"),
        leaves=("place/run*", "tmp/*"),
        make=_photographs if option == "finetune-device" else nothing,
    )
    for option, (words, name, values) in VALUES.items()
)

OTHER: dict[str, Words] = {
    "no-command-of-that-name": ("prediction", MODEL, GOOD),
    "option-before-the-command": ("--quiet", "predict", MODEL, GOOD),
    "unknown-option": (*PREDICT, "--tops", "3"),
    "option-without-value": (*PREDICT, "--top"),
    "flag-with-value": (*PREDICT, "--quiet=yes"),
    "predict-without-photographs": ("predict", MODEL),
    "predict-without-anything": ("predict",),
    "card-of-two": ("card", MODEL, MODEL),
    "card-without-file": ("card",),
    "bench-without-file": ("bench",),
    "bench-of-a-photograph": ("bench", GOOD),
    "bench-out-is-a-file": ("bench", MODEL, "--out", GOOD),
    "bench-out-below-a-file": ("bench", MODEL, "--out", f"{GOOD}/out", "--device", "ort:cpu", "--rounds", "1"),
    "camera-record-is-the-source": ("camera", MODEL, "--source", GOOD, "--record", GOOD),
    "camera-record-and-log-in-one": (*CAMERA, "--record", "a.mp4", "--log", "a.mp4"),
    "camera-record-below-a-file": (*CAMERA, "--record", f"{GOOD}/a.mp4"),
    "camera-record-of-unknown-kind": (*CAMERA, "--record", "a.xyz"),
    "camera-log-is-a-folder": (*CAMERA, "--log", "."),
    "camera-log-below-a-file": (*CAMERA, "--log", f"{GOOD}/a.jsonl"),
    "camera-token-without-web": (*CAMERA, "--web-token", "secret"),
    "camera-record-and-latency": (*CAMERA, "--record", "a.mp4", "--measure-latency"),
    "camera-to-the-world-with-a-short-token": (*CAMERA, "--web", "0.0.0.0:0", "--web-token", ""),
    "finetune-without-data": ("finetune",),
    "finetune-resume-and-data": ("finetune", ".", "--resume", "run"),
    "finetune-out-is-a-file": ("finetune", "drawn-pets", "--weights", "none", "--out", GOOD),
    "export-without-run": ("export",),
    "export-target-unknown": ("export", "run", "--target", "abacus"),
    "explain-without-command": ("explain", "everything"),
    "explain-why-out-is-a-file": (*WHY, "--out", GOOD),
    "explain-why-out-is-full": (*WHY, "--out", "."),
    "explain-attack-a-model-file": ("explain", "attack", MODEL, GOOD),
    "explain-attack-nothing": ("explain", "attack", "ready-made"),
    "explain-attack-both": (*ATTACK, "--data", "pets"),
    "explain-features-two-networks": (*FEATURES, "--run", "run", "--model", "resnet18"),
    "explain-features-weights-alone": (*FEATURES, "--weights", "none"),
    "explain-features-no-picture": ("explain", "features"),
    "data-without-name": ("data", "info"),
    "data-of-two": ("data", "info", "pets", "cats-vs-dogs"),
    "data-unknown-command": ("data", "clean", "pets"),
    "demo-out-is-a-file": ("demo", "--out", GOOD),
    "demo-out-is-full": ("demo", "--out", "."),
    "demo-seed-negative": ("demo", "--seed", "-1"),
}
ALONE = tuple(Entry(name, (words,), codes=(2, 3), leaves=("place/run*", "tmp/*")) for name, words in OTHER.items())

ENTRIES = (*SET, *ALONE)
