"""Name every photograph of a folder: `python predict_folder.py model.onnx FOLDER > answers.csv`."""

import csv
import sys
from pathlib import Path

import toolchain

model, folder = sys.argv[1:]
classifier = toolchain.load(model)
rows = csv.writer(sys.stdout, lineterminator="\n")
rows.writerow(["file", "answer", "probability"])
for path in sorted(Path(folder).rglob("*")):
    if path.is_file():
        try:
            prediction = classifier.predict(path)
        except toolchain.UnreadableImageError as error:
            print(f"skipped: {error.message}", file=sys.stderr)
        else:
            rows.writerow([path, prediction.answer or "", f"{prediction.probability:.3f}"])
