"""Celery: `celery --app tasks worker --concurrency 2`, with $MODEL, $BROKER, and $RESULTS for what comes of it."""

import os

from celery import Celery
from celery.signals import worker_process_init

import toolchain
from toolchain import Classifier

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
classifier: Classifier


@worker_process_init.connect
def load(**_: object) -> None:
    """In each worker: a classifier is not sent there."""
    global classifier
    classifier = toolchain.load(os.environ["MODEL"], threads=1)


@app.task
def name(path: str) -> dict[str, object]:
    prediction = classifier.predict(path)
    return {"label": prediction.label, "probability": prediction.probability}
