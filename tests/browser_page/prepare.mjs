// For test_pixels.py: pictures as RGB in a file, one after the other, to the networks' inputs in another.
import { readFileSync, writeFileSync } from "node:fs";

const [, , module, cases, pictures, out] = process.argv;
const { prepare } = await import(module);
const rgb = readFileSync(pictures);
let at = 0;
const made = JSON.parse(readFileSync(cases)).map(({ spec, width, height }) => {
  const picture = rgb.subarray(at, (at += 3 * width * height));
  // As the canvas of a browser gives it: any part, RGBA.
  const read = (left, top, columns, rows) => {
    const part = new Uint8ClampedArray(4 * columns * rows).fill(255);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const from = 3 * ((top + y) * width + left + x);
        part.set(picture.subarray(from, from + 3), 4 * (y * columns + x));
      }
    }
    return part;
  };
  return Buffer.from(prepare(spec, width, height, read));
});
writeFileSync(out, Buffer.concat(made));
