// What edgetl does in Python around the network, for browsers and Node: a picture to the network's input, as
// `toolchain/images/preprocess.py` defines it, and the network's outputs to an answer.

const MAX_ASPECT_RATIO = 32;
const STRIP_PIXELS = 1 << 20; // read at once: phones limit how large a canvas may be

// Pixels of the network's input: RGB [height, width, 3], of a picture of `width` x `height`. `read(left, top, width,
// height)` gives a part of it as RGBA, row by row.
export function prepare(spec, width, height, read) {
  const shortest = Math.min(width, height);
  const longest = spec.resize === "squash" ? Infinity : MAX_ASPECT_RATIO * shortest;
  const part = { width: Math.min(width, longest), height: Math.min(height, longest) };
  const left = Math.floor((width - part.width) / 2);
  const top = Math.floor((height - part.height) / 2);
  const scaled = scaledSize(spec, part);
  const kind = kindOf(spec, part, scaled);
  const across = taps(kind, part.width, scaled.width, spec.width);
  const down = taps(kind, part.height, scaled.height, spec.height);

  const first = Math.min(...across.map((tap) => tap.start));
  const columns = Math.max(...across.map((tap) => tap.start + tap.weights.length)) - first;
  const strip = Math.max(1, Math.floor(STRIP_PIXELS / columns));
  let pixels = null;
  let stripTop = 0;
  let stripEnd = 0;
  const lines = new Map(); // rows of the picture, resized across

  function line(row) {
    if (lines.has(row)) return lines.get(row);
    if (row < stripTop || row >= stripEnd) {
      stripTop = row;
      stripEnd = Math.min(row + strip, part.height);
      pixels = read(left + first, top + row, columns, stripEnd - row);
    }
    const made = new Float32Array(3 * spec.width);
    const base = 4 * ((row - stripTop) * columns - first);
    across.forEach(({ start, weights }, x) => {
      let [red, green, blue] = [0, 0, 0];
      for (let i = 0, at = base + 4 * start; i < weights.length; i++, at += 4) {
        red += weights[i] * pixels[at];
        green += weights[i] * pixels[at + 1];
        blue += weights[i] * pixels[at + 2];
      }
      made[3 * x] = red;
      made[3 * x + 1] = green;
      made[3 * x + 2] = blue;
    });
    lines.set(row, made);
    return made;
  }

  const sums = new Float32Array(3 * spec.width);
  const result = new Uint8ClampedArray(3 * spec.width * spec.height); // rounds half to even, and clips
  down.forEach(({ start, weights }, y) => {
    for (const row of lines.keys()) if (row < start) lines.delete(row);
    sums.fill(0);
    weights.forEach((weight, i) => line(start + i).forEach((value, x) => (sums[x] += weight * value)));
    result.set(sums, y * sums.length);
  });
  return new Uint8Array(result.buffer);
}

function scaledSize(spec, { width, height }) {
  if (spec.resize === "squash") return { width: spec.width, height: spec.height };
  const scale = spec.shortest_edge / Math.min(width, height);
  const side = (length) => Math.max(spec.shortest_edge, roundHalfEven(length * scale));
  return { width: side(width), height: side(height) };
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

// OpenCV averages areas only where neither side grows; otherwise `area` is two neighbours, placed in its own way.
function kindOf(spec, from, to) {
  const smaller = to.width * to.height < from.width * from.height;
  const kind = spec.interpolation === "cubic" && smaller ? "area" : spec.interpolation;
  return kind === "area" && (to.width > from.width || to.height > from.height) ? "grown" : kind;
}

// For each of the middle `count` of `scaled` pixels along a side: the first of the `source` pixels that it is made
// of, and the weight of each.
function taps(kind, source, scaled, count) {
  const start = Math.floor((scaled - count) / 2);
  return Array.from({ length: count }, (_, i) => TAPS[kind](start + i, source, scaled));
}

const TAPS = {
  area(index, source, scaled) {
    const scale = source / scaled;
    const [low, high] = [index * scale, Math.min((index + 1) * scale, source)];
    const start = Math.floor(low + 1e-6);
    const weights = [];
    for (let at = start; at < high - 1e-6; at++) weights.push((Math.min(at + 1, high) - Math.max(at, low)) / (high - low));
    return { start, weights };
  },
  grown(index, source, scaled) {
    const at = Math.floor((index * source) / scaled);
    const beyond = ((index + 1) * source - (at + 1) * scaled) / source;
    return neighbours(at, beyond <= 0 ? 0 : beyond - Math.floor(beyond), source);
  },
  linear(index, source, scaled) {
    const place = Math.max(0, (index + 0.5) * (source / scaled) - 0.5);
    return neighbours(Math.floor(place), place - Math.floor(place), source);
  },
  cubic(index, source, scaled) {
    const place = (index + 0.5) * (source / scaled) - 0.5;
    const at = Math.floor(place);
    const share = place - at;
    const start = Math.min(Math.max(at - 1, 0), source - 1);
    const weights = new Array(Math.min(Math.max(at + 2, 0), source - 1) - start + 1).fill(0);
    // Beyond the edge, its last pixel is repeated.
    [share + 1, share, 1 - share, 2 - share].forEach((distance, i) => {
      weights[Math.min(Math.max(at - 1 + i, 0), source - 1) - start] += keys(distance);
    });
    return { start, weights };
  },
};

function neighbours(at, share, source) {
  return at >= source - 1 || share === 0
    ? { start: Math.min(at, source - 1), weights: [1] }
    : { start: at, weights: [1 - share, share] };
}

// Keys' kernel with OpenCV's -0.75.
function keys(x) {
  const a = -0.75;
  return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}

// The answer to one picture, as `Classifier.interpret` gives it. `page` holds `labels`, `temperature` and `reject`.
export function interpret(page, logits, probabilities, top = 5) {
  if (![...logits, ...probabilities].every(Number.isFinite)) throw new Error("What the network answers is not a number.");
  const order = page.labels.map((_, i) => i).sort((i, j) => probabilities[j] - probabilities[i]);
  const ranked = order.slice(0, top).map((i) => [page.labels[i], probabilities[i]]);
  const rejected = page.reject !== null && score(page, logits) < page.reject.threshold;
  return { label: ranked[0][0], probability: ranked[0][1], rejected, top: ranked };
}

// How sure the network is that it sees one of its classes at all: `scores` in `toolchain/evaluation/metrics.py`.
function score({ temperature, reject }, logits) {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const most = Math.max(...scaled);
  const logSum = most + Math.log(scaled.reduce((sum, value) => sum + Math.exp(value - most), 0));
  return reject.score === "max_probability" ? Math.exp(most - logSum) : temperature * logSum;
}
