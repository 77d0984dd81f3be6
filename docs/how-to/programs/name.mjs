// Names a picture with a file of `edgetl export RUN --raw-frame`, by ONNX Runtime.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import sharp from "sharp";

const [model, labels, picture] = process.argv.slice(2);
if (!picture) {
  console.error("usage: node name.mjs MODEL LABELS PICTURE");
  process.exit(2);
}
const names = readFileSync(labels, "utf8").trimEnd().split("\n");
const session = await ort.InferenceSession.create(model);
const { data, info } = await sharp(picture).rotate().toColourspace("srgb").removeAlpha().raw().toBuffer({ resolveWithObject: true });
const image = new ort.Tensor("uint8", new Uint8Array(data), [1, info.height, info.width, 3]);
const { probabilities } = await session.run({ image });
const best = probabilities.data.indexOf(Math.max(...probabilities.data));
console.log(names[best], probabilities.data[best]);
