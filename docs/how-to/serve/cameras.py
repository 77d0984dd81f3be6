"""A worker for each camera, one thread of the runtime each: `python cameras.py model.onnx 0 1 rtsp://HOST/stream`."""

import multiprocessing
import sys

import cv2

import toolchain


def watch(model: str, source: str) -> None:
    classifier = toolchain.load(model, threads=1)
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    last = ""
    while True:
        there, bgr = capture.read()
        if not there:
            break
        prediction = classifier.predict(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        label = "not sure" if prediction.rejected else prediction.label
        if label != last:
            print(f"{source}: {label}", flush=True)
            last = label


def main() -> None:
    model, *sources = sys.argv[1:]
    # Spawned, not forked: the same on every system.
    processes = multiprocessing.get_context("spawn")
    workers = [processes.Process(target=watch, args=(model, source)) for source in sources]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
