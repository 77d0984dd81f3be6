"""Workers that share what was loaded before they were forked; the model is $MODEL:

gunicorn --preload --workers 2 --threads 4 --bind 0.0.0.0:8000 wsgi:app
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import toolchain
from toolchain.errors import UnreadableImageError

MAX_BYTES = 20 << 20

# As many workers as cores, one thread of the runtime each.
classifier = toolchain.load(os.environ["MODEL"], os.environ.get("DEVICE"), threads=1)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BYTES:
        return answer(start_response, "413 Content Too Large", {"error": "the photograph is too large"})
    try:
        prediction = classifier.predict(environ["wsgi.input"].read(length))
    except UnreadableImageError as error:
        return answer(start_response, "415 Unsupported Media Type", {"error": error.message})
    told = {"label": prediction.label, "probability": prediction.probability, "process": os.getpid()}
    return answer(start_response, "200 OK", told)


def answer(start_response: Callable[..., Any], status: str, document: dict[str, Any]) -> list[bytes]:
    body = json.dumps(document).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
