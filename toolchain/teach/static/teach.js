// Follows the lesson (server-sent events) and the picture (MJPEG) of `edgetl teach --web`, and sends what is pressed.
"use strict";

const DEAF_MS = 5000; // the server says something every second; after so long it or the network is gone
const SILENT_S = 3;

const $ = (id) => document.getElementById(id);
const rows = new Map(); // by the name of the thing
const picture = $("picture");

let heard = Date.now();
let deaf = false;
let latest = null;

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text) element.textContent = text;
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// As `percent` in classifier.py, and never broken.
const percent = (share) => (share >= 0.995 ? ">99\u00a0%" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`);

async function ask(action, thing = "") {
  put($("wrong"), "");
  try {
    const response = await fetch("do", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ do: action, thing }),
    });
    const found = await response.json();
    if (response.ok) show(found);
    else put($("wrong"), [found.error, found.hint].filter(Boolean).join(". "));
    return response.ok;
  } catch {
    put($("wrong"), "edgetl does not answer.");
    return false;
  }
}

function row(name) {
  const item = make("li", "");
  const title = make("span", "name");
  const readable = make("span", "");
  const count = make("span", "count");
  title.append(readable, count);
  const undo = make("button", "undo", "↶");
  undo.type = "button";
  undo.onclick = () => ask("forget", name);
  const take = make("button", "take");
  take.type = "button";
  take.onclick = () => (latest.lesson.recording === name ? ask("stop") : ask("start", name));
  const wish = make("p", "wish");
  item.append(title, undo, take, wish);
  $("things").append(item);
  return { item, readable, count, undo, take, wish };
}

function showThing(thing, lesson) {
  if (!rows.has(thing.name)) rows.set(thing.name, row(thing.name));
  const shown = rows.get(thing.name);
  const on = lesson.recording === thing.name;
  const right = thing.right === null ? "" : ` · ${percent(thing.right)} right`;
  shown.item.classList.toggle("on", on);
  put(shown.readable, thing.readable);
  put(shown.count, `${thing.pictures} pictures · ${thing.takes} ${thing.takes === 1 ? "take" : "takes"}${right}`);
  put(shown.wish, thing.wish ? thing.wish[0].toUpperCase() + thing.wish.slice(1) : "");
  shown.wish.hidden = !thing.wish;
  put(shown.take, on ? "Stop" : "Record");
  shown.take.setAttribute("aria-label", `${on ? "Stop" : "Record"} ${thing.readable}`);
  shown.take.setAttribute("aria-pressed", String(on));
  shown.undo.disabled = !thing.takes || on;
  shown.undo.title = `Remove the last take of ${thing.readable}`;
  shown.undo.setAttribute("aria-label", shown.undo.title);
}

function show(now) {
  latest = now;
  const { lesson, answer } = now;
  const recording = lesson.phase === "recording";
  document.body.classList.toggle("recording", recording);
  document.body.classList.toggle("unsure", Boolean(!recording && answer && answer.rejected));
  $("headline").setAttribute("aria-live", recording ? "off" : "polite"); // not each picture is read out
  put($("headline"), now.headline);
  const left = Object.entries(lesson.left_out).map(([reason, count]) => `${count} ${reason}`);
  put($("left-out"), left.length ? `Left out of ${recording ? "this" : "the last"} take: ${left.join(", ")}` : "");
  const list = $("things");
  lesson.things.forEach((thing, place) => {
    showThing(thing, lesson);
    const { item } = rows.get(thing.name);
    if (list.children[place] !== item) list.insertBefore(item, list.children[place]); // a new one comes before the last
  });
  $("train").disabled = lesson.phase === "teaching";
  put($("train"), lesson.phase === "teaching" ? "Learning…" : lesson.learnt ? "Train again" : "Train");
  let over = "";
  if (recording) over = now.headline;
  else if (answer) over = answer.rejected ? "not sure" : `${answer.label}  ${percent(answer.probability)}`;
  put($("label"), over);
  $("label").hidden = !over;
  tell();
}

// The banner says one thing: what is nearest to the viewer.
function tell() {
  let text = "";
  if (deaf) text = "The connection to edgetl is lost. Trying again.";
  else if (latest && latest.state) text = latest.state;
  else if (latest && latest.silent_s >= SILENT_S) text = `No picture for ${latest.silent_s.toFixed(0)} s.`;
  put($("banner"), text);
  $("banner").hidden = !text;
  document.body.classList.toggle("old", Boolean(text));
}

picture.onload = () => {
  picture.hidden = false;
  $("no-picture").hidden = true;
};
picture.onerror = () => setTimeout(showPicture, 2000);

function showPicture() {
  picture.src = "picture?" + Date.now(); // another address each time: a browser would keep the broken one
}

let source = null;

function follow() {
  if (source) source.close();
  source = new EventSource("answers");
  source.onopen = showPicture;
  source.onmessage = (event) => {
    heard = Date.now();
    deaf = false;
    show(JSON.parse(event.data));
  };
}

$("adding").onsubmit = async (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (name && (await ask("add", name))) $("name").value = "";
};
$("train").onclick = () => ask("teach");
window.addEventListener("pagehide", () => source && source.close());
setInterval(() => {
  if (Date.now() - heard > DEAF_MS) {
    heard = Date.now();
    deaf = true;
    follow();
    tell();
  }
}, 1000);
follow();
