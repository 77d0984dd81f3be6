// The network, in a thread of its own, so that the page never waits for it. A picture comes in, an answer goes out.
import { interpret, prepare } from "./classify.js";
import * as ort from "./runtime/ort.js";

const MAX_THREADS = 4;

const opened = open();
opened.then(
  ({ page, threads }) => postMessage({ page, threads }),
  (error) => postMessage({ failed: error.message }),
);

async function open() {
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = { wasm: new URL("runtime/ort.wasm", import.meta.url).href };
  // Browsers share memory between threads only on pages that are isolated; sw.js sees to that from the second visit on.
  const threads = self.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = threads;
  const [page, model] = await Promise.all([
    fetched("page.json").then((answer) => answer.json()),
    fetched("model.onnx").then((answer) => answer.arrayBuffer()),
  ]);
  await check(model, page.sha256);
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { page, session, threads };
}

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status}). Copy the whole folder to the server.`);
  return answer;
}

async function check(model, expected) {
  if (!self.crypto?.subtle) return; // only over https and on localhost
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", model));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) throw new Error("model.onnx is not the file that this page was written for. Load the page again.");
}

onmessage = async ({ data: { id, bitmap } }) => {
  try {
    postMessage({ id, answer: await answerTo(bitmap) });
  } catch (error) {
    postMessage({ id, failed: error.message });
  } finally {
    bitmap.close();
  }
};

async function answerTo(bitmap) {
  const { page, session } = await opened;
  const spec = page.preprocess;
  const pixels = prepare(spec, bitmap.width, bitmap.height, reader(bitmap));
  const before = performance.now();
  const image = new ort.Tensor("uint8", pixels, [1, spec.height, spec.width, 3]);
  const { logits, probabilities } = await session.run({ image });
  const infer_ms = performance.now() - before;
  return { ...interpret(page, logits.data, probabilities.data), infer_ms, logits: logits.data };
}

function reader(bitmap) {
  let canvas = new OffscreenCanvas(1, 1);
  return (left, top, width, height) => {
    if (canvas.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
}
