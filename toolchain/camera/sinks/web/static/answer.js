// An answer on the page: label, how sure, bars, the label read out, and what is running. For the pages of `edgetl camera --web` and of
// `edgetl export --browser`.
"use strict";

const SPOKEN_MS = 1000; // a label is read out once it has stayed this long

const $ = (id) => document.getElementById(id);
const bars = [];
let spoken = { label: "", timer: 0 };

// Rounding must not claim certainty: `percent` in classifier.py says the same.
const percent = (share) => (share >= 0.995 ? ">99 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const named = (one) => (one.rejected ? "not sure" : one.label);

// `answer` has `label`, `probability`, `rejected`, and `top`: pairs of name and share.
function showAnswer(answer) {
  const sure = answer.rejected
    ? `most like ${answer.label}, ${percent(answer.probability)}`
    : `${percent(answer.probability)} sure`;
  showRows(named(answer), sure, answer.rejected, answer.top);
}

function showRows(name, sure, unsure, rows) {
  document.body.classList.toggle("unsure", unsure);
  $("label").textContent = name;
  $("sure").textContent = sure;
  rows.forEach(([label, share], index) => {
    const bar = bars[index] || (bars[index] = addBar());
    bar.name.textContent = label;
    bar.share.textContent = percent(share);
    bar.fill.style.width = `${100 * share}%`;
  });
  bars.splice(rows.length).forEach((bar) => bar.item.remove());
  speak(name);
}

function addBar() {
  const item = document.createElement("li");
  const [name, share, track, fill] = ["span", "span", "i", "b"].map((tag) => document.createElement(tag));
  track.append(fill);
  track.setAttribute("aria-hidden", "true");
  item.append(name, share, track);
  $("bars").append(item);
  return { item, name, share, fill };
}

function speak(label) {
  if (label === spoken.label) return;
  clearTimeout(spoken.timer);
  spoken = { label, timer: setTimeout(say, SPOKEN_MS) };
}

// Lets the next answer be read out in any case: it is that to something else.
function forget() {
  clearTimeout(spoken.timer);
  spoken = { label: "", timer: 0 };
  $("spoken").textContent = "";
}

function say() {
  // The same text again would be read out again.
  if ($("spoken").textContent !== spoken.label) $("spoken").textContent = spoken.label;
}

function describe(about) {
  const text = JSON.stringify(about);
  if (text === describe.text) return;
  describe.text = text;
  $("about").replaceChildren(...Object.entries(about).map(([key, value]) => {
    const pair = document.createElement("div");
    const [name, what] = ["dt", "dd"].map((tag) => document.createElement(tag));
    name.textContent = key[0].toUpperCase() + key.slice(1);
    what.textContent = value;
    pair.append(name, what);
    return pair;
  }));
}
