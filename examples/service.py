"""A web service with the standard library alone: `python service.py model.onnx 8000`, then

curl --data-binary @cat.jpg http://127.0.0.1:8000/
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import toolchain

MAX_BYTES = 20 << 20
model, port = sys.argv[1:]
classifier = toolchain.load(model)  # threads may share it


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        size = min(int(self.headers.get("Content-Length", 0)), MAX_BYTES)
        try:
            prediction = classifier.predict(self.rfile.read(size))
            status, answer = 200, {"answer": prediction.answer, "probability": prediction.probability}
        except toolchain.UnreadableImageError as error:
            status, answer = 415, {"error": error.message}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
