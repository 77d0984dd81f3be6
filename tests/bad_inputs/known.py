"""Inputs of the corpus that edgetl does not end well on yet: KIND-ID, as in the test's name, with the reason.

Their tests may fail. An entry that passes has no place here any more; `pytest -rX tests/bad_inputs` lists those.
"""

from __future__ import annotations

PROTOBUF = "text in a model file that is not UTF-8 ends in 70 (UnicodeDecodeError)"
DEEP = "a document that is nested too deeply ends in 70 (RecursionError)"
WEIGHTS = "weights of a run that are damaged or another network's end in 70 (SafetensorError, RuntimeError)"
CLASSES = "classes of run.json that are not those of splits.json or the weights end in 70 (KeyError, RuntimeError)"
NOT_UTF_8 = "a JSON file that is not UTF-8 ends in 70 (UnicodeDecodeError)"
SPLITS = "a split that is missing or empty in splits.json ends in 70 (KeyError, ValueError)"
FIGURES = "latencies of a bench.json that cannot be end in 70 (AssertionError, ZeroDivisionError, ValueError)"
FETCHED_OTHER = "an archive of something else is left in the data set's place, which is then taken"
KEPT_ARCHIVE = "an archive that cannot be unpacked (OSError) is kept, and every further try begins with it"
METHOD = "a zip file that is compressed in an unknown way ends in 70 (NotImplementedError)"
NO_TEXT = "a name that is not UTF-8 cannot be told as JSON: 70 (UnicodeEncodeError), after the work"
CRASH = "OpenCV dies of a clip's name that is not UTF-8 (signal 11)"
STEERS = "control characters of a name are written to the terminal"
PIPELINE = "a file whose name holds an exclamation mark is taken for a pipeline"
CANNOT_ENCODE = "a class name that stdout cannot encode ends in 70 (UnicodeEncodeError)"
HOME = "the home of a user who is not there ends in 70 (RuntimeError)"
NAN = "an option takes nan for a number"
RUNS_BADLY = "a network that ONNX Runtime loads and cannot run ends in 70"

KNOWN: dict[str, str] = {
    "artifact-flipped-4": PROTOBUF,
    "artifact-flipped-7": PROTOBUF,
    "artifact-flipped-8": PROTOBUF,
    "artifact-flipped-28": PROTOBUF,
    "card-100000-deep": DEEP,
    "card-100000-deep-closed": DEEP,
    "artifact-network-input-of-unknown-type": "an element type that ONNX does not have ends in 70 (ValueError)",
    "artifact-network-input-of-a-fixed-batch-of-4": RUNS_BADLY,
    "artifact-network-out-of-bounds-when-it-runs": RUNS_BADLY,
    "artifact-network-a-petabyte-when-it-runs": RUNS_BADLY,
    "artifact-network-opset-of-tomorrow": "the error line holds a path and a function of ONNX Runtime's source",
    "recipe-5000-deep": DEEP,
    "recipe-dotted-100000-deep": "a recipe of 200 kB is read for more than 20 s",
    "recipe-number-of-5000-digits": "a number of 5000 digits ends in 70 (ValueError)",
    "run-weights-empty": WEIGHTS,
    "run-weights-cut-off": WEIGHTS,
    "run-weights-one-byte-short": WEIGHTS,
    "run-weights-a-byte-more": WEIGHTS,
    "run-weights-of-zeros": WEIGHTS,
    "run-weights-with-a-header-of-exabytes": WEIGHTS,
    "run-weights-with-a-header-that-is-no-json": WEIGHTS,
    "run-weights-a-pickle": WEIGHTS,
    "run-weights-html": WEIGHTS,
    "run-weights-of-another-network": WEIGHTS,
    "run-weights-of-other-shapes": WEIGHTS,
    "run-model-another": WEIGHTS,
    "run-classes-none": CLASSES,
    "run-classes-too-few": CLASSES,
    "run-classes-too-many": CLASSES,
    "run-run-json-not-utf-8": NOT_UTF_8,
    "run-resume-settings-not-utf-8": NOT_UTF_8,
    "run-splits-of-nothing": SPLITS,
    "run-splits-without-val": SPLITS,
    "run-splits-val-empty": SPLITS,
    "run-temperature-0": "logits are divided by a temperature of 0",
    "run-weights-of-nan": "weights that are not numbers are exported without a word",
    "report-latency-null-but-ok": FIGURES,
    "report-latency-zero": FIGURES,
    "report-interval-of-zeros": FIGURES,
    "report-interval-negative": FIGURES,
    "report-another-cpu-with-control-characters": "an error line repeats control characters of a file",
    "archive-zip-of-nothing": FETCHED_OTHER,
    "archive-zip-that-claims-4-gigabytes": FETCHED_OTHER,
    "archive-zip-of-other-folders": FETCHED_OTHER,
    "archive-zip-name-with-a-null": FETCHED_OTHER,
    "archive-tar-name-not-utf-8": FETCHED_OTHER,
    "archive-tar-size-negative": FETCHED_OTHER,
    "archive-zip-without-its-beginning": KEPT_ARCHIVE,
    "archive-zip-name-of-300-letters": KEPT_ARCHIVE,
    "archive-tar-name-of-300-letters": KEPT_ARCHIVE,
    "archive-zip-of-unknown-method": METHOD,
    "archive-zip-of-implode": METHOD,
    "archive-zip-path-of-5000-folders": "the error line repeats a path of 10,000 letters",
    "archive-zip-name-not-utf-8": "a name in a zip file that is not UTF-8 ends in 70 (UnicodeDecodeError)",
    "archive-publisher-says-garbage": "control characters of a server's answer are written to the terminal",
    "record-not-utf-8": NOT_UTF_8,
    "record-name-of-300-letters": "a record is removed although the file that it names is nowhere",
    "record-elsewhere": "a record that lies in the current folder ends in 70 (ValueError)",
    "folder-among-pipe": "a pipe among the photographs holds `data info` and `data check` up for ever",
    "folder-data-home-of-nobody": HOME,
    "name-latin-1": NO_TEXT,
    "name-half-of-utf-8": NO_TEXT,
    "name-folder-latin-1": NO_TEXT,
    "name-folder-latin-1-clip": CRASH,
    "name-clip-latin-1": CRASH,
    "name-escape": STEERS,
    "name-folder-escape": STEERS,
    "name-exclamation": PIPELINE,
    "name-clip-exclamation": PIPELINE,
    "name-labels-told-in-latin-1": CANNOT_ENCODE,
    "name-labels-told-in-cp437": CANNOT_ENCODE,
    "name-labels-told-in-cp1252": CANNOT_ENCODE,
    "name-labels-told-in-ascii": CANNOT_ENCODE,
    "option-bench-budget-nan": "--budget nan: bench measures, and ends in 70 (ValueError)",
    "option-ideal-jitter-nan": "--jitter nan: torch dies (signal 11)",
    "option-ideal-blur-nan": NAN,
    "option-ideal-window-nan": NAN,
    "option-predict-device-of-a-number": "a device with a number that it does not take ends in 70 (KeyError)",
    "option-bench-tolerance-nan": NAN,
    "option-export-max-drop-nan": NAN,
    "option-export-min-speed-up-nan": NAN,
    "option-export-max-minutes-nan": NAN,
    "surroundings-data-root-of-nobody": HOME,
    "surroundings-log-to-a-full-disk": "a warning speaks of [Errno 28]",
}
