"""Requests of an asyncio program, answered together: those that come while one batch is computed are the next.

python batching.py model.onnx PHOTOGRAPH...
"""

import asyncio
import sys
from pathlib import Path

import toolchain
from toolchain import Classifier, Prediction

MOST = 8
"""Photographs at a time. On a CPU more of them take longer without being cheaper."""


class Batching:
    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.waiting: asyncio.Queue[tuple[bytes, asyncio.Future[Prediction]]] = asyncio.Queue()

    async def predict(self, photograph: bytes) -> Prediction:
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        await self.waiting.put((photograph, answer))
        return await answer

    async def run(self) -> None:
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < MOST and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            photographs = [photograph for photograph, _ in batch]
            try:
                predictions = await asyncio.to_thread(self.classifier.predict_batch, photographs)
            except (
                Exception
            ) as error:  # one that cannot be read is everybody's failure: check them first, if need be
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            for (_, answer), prediction in zip(batch, predictions, strict=True):
                if not answer.cancelled():
                    answer.set_result(prediction)


async def main(model: str, paths: list[str]) -> None:
    batching = Batching(toolchain.load(model))
    running = asyncio.create_task(batching.run())
    answers = await asyncio.gather(*(batching.predict(Path(path).read_bytes()) for path in paths))
    for path, prediction in zip(paths, answers, strict=True):
        print(path, prediction.label)
    running.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
