"""A loop of your own over frames: `python own_loop.py model.onnx clip.mp4`, or 0 for the first webcam.

`toolchain.watch` does more: it answers the newest frame only, steadies the answers and opens a lost camera again.
"""

import sys

import cv2

import toolchain

model, source = sys.argv[1:]
classifier = toolchain.load(model, colour="BGR")  # OpenCV's order of colours
capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
last = None
while True:
    there, frame = capture.read()
    if not there:
        break
    prediction = classifier.predict(frame)
    if prediction.answer != last:
        last = prediction.answer
        print(last or "not sure", f"{prediction.probability:.2f}", flush=True)
