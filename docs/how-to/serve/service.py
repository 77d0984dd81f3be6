"""A web service: `uvicorn service:app --host 0.0.0.0 --port 8000`; the model is $MODEL.

curl --data-binary @cat.jpg http://localhost:8000/name
"""

import os

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

import toolchain
from toolchain.errors import UnreadableImageError

MAX_BYTES = 20 << 20

app = FastAPI()
classifier = toolchain.load(os.environ["MODEL"])


@app.post("/name")
async def name(request: Request) -> dict[str, object]:
    photograph = b""
    async for part in request.stream():
        photograph += part
        if len(photograph) > MAX_BYTES:
            raise HTTPException(413, "the photograph is too large")
    try:
        # Threads share the classifier; meanwhile the event loop serves others.
        prediction = await run_in_threadpool(classifier.predict, photograph)
    except UnreadableImageError as error:
        raise HTTPException(415, error.message) from None
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "rejected": prediction.rejected,
    }
