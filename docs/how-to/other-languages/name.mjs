// Names photographs as `edgetl predict` does, in Node 20.19 or newer: node name.mjs page cat.jpg ...
//
// `page` is the folder that `edgetl export RUN --browser page` wrote: it holds the model, what its card says, onnxruntime-web,
// and the preprocessing in JavaScript. Photographs are decoded by sharp: npm install sharp
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import sharp from "sharp";

const [folder, ...photographs] = process.argv.slice(2);
const at = (name) => new URL(name, pathToFileURL(`${resolve(folder)}/`)).href;
const { interpret, prepare } = await import(at("classify.js"));
const ort = await import(at("runtime/ort.js"));

const page = JSON.parse(await readFile(new URL(at("page.json"))));
const { height, width } = page.preprocess;
ort.env.wasm.wasmBinary = await readFile(new URL(at("runtime/ort.wasm")));
ort.env.wasm.numThreads = 1; // what more would need is for browsers
const session = await ort.InferenceSession.create(await readFile(new URL(at("model.onnx"))));

for (const path of photographs) {
  const pixels = await pixelsOf(path);
  const image = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const { logits, probabilities } = await session.run({ image });
  const { label, probability, rejected } = interpret(page, logits.data, probabilities.data);
  console.log(JSON.stringify({ image: path, answer: rejected ? null : label, label, probability }));
}

// The network's input: the photograph turned upright, RGBA, and then resized and cut as the card says.
async function pixelsOf(path) {
  const { data, info } = await sharp(path).rotate().ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return prepare(page.preprocess, info.width, info.height, (left, top, columns, rows) => {
    const part = new Uint8Array(4 * columns * rows);
    for (let y = 0; y < rows; y++) {
      const from = 4 * ((top + y) * info.width + left);
      part.set(data.subarray(from, from + 4 * columns), 4 * y * columns);
    }
    return part;
  });
}
