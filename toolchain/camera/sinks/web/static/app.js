// Follows the answers (server-sent events) and the picture (MJPEG) of `edgetl camera --web`.
"use strict";

const DEAF_MS = 5000; // the server says something every second; after so long it or the network is gone
const AGAIN_MS = 2000;
const SILENT_S = 3;
const SPARK_S = 60;
const SPARK_BINS = 120;

const picture = $("picture");

let source = null;
let heard = 0;
let trouble = ""; // why nothing is heard
let paused = false;
let retry = 0;
let pictureRetry = 0;
let latest = null;
let ages = []; // [moment in ms, age in ms]

function follow() {
  stop();
  heard = Date.now();
  source = new EventSource("answers");
  source.onopen = showPicture;
  source.onmessage = (event) => {
    heard = Date.now();
    trouble = "";
    latest = JSON.parse(event.data);
    show(latest);
  };
  source.onerror = () => {
    // The browser tries again by itself after a lost connection, but not after a refusal.
    if (source && source.readyState === EventSource.CLOSED) explain();
    else lose("The connection to edgetl is lost. Trying again.");
  };
}

function stop() {
  clearTimeout(retry);
  clearTimeout(pictureRetry);
  if (source) source.close();
  source = null;
}

async function explain() {
  stop();
  let reason = "edgetl is not there any more. Trying again.";
  try {
    const answer = await fetch("answer", { cache: "no-store" });
    reason = answer.ok
      ? "Too many viewers are looking already. Trying again."
      : "This page may not look any more. Open the address that edgetl printed.";
  } catch { /* the reason stands */ }
  if (watching()) {
    lose(reason);
    retry = setTimeout(follow, AGAIN_MS);
  }
}

function lose(reason) {
  trouble = reason;
  tell();
}

function showPicture() {
  clearTimeout(pictureRetry);
  picture.src = "picture?" + Date.now(); // another address each time: a browser would keep the broken one
}

function hidePicture(text) {
  picture.hidden = true;
  $("no-picture").textContent = text;
  $("no-picture").hidden = false;
}

picture.onload = () => {
  picture.hidden = false;
  $("no-picture").hidden = true;
  drawRegions();
};
picture.onerror = () => {
  if (!watching()) return;
  hidePicture("No picture. Trying again.");
  clearTimeout(pictureRetry);
  pictureRetry = setTimeout(showPicture, AGAIN_MS);
};

function show(now) {
  const answer = now.answer;
  tell();
  describe(now.about);
  $("answers").textContent = now.answers.toLocaleString("en");
  if (!answer || answer.frame === show.frame) return;
  show.frame = answer.frame;
  const parts = answer.regions || [];
  if (parts.length) showRegions(parts);
  else showAnswer(answer);
  $("bars").setAttribute("aria-label", parts.length ? "Regions" : "Most probable");
  drawRegions(parts.map((one) => ({ ...one, text: `${one.name}: ${named(one)}` })));
  $("age").textContent = answer.age_ms.toFixed(0);
  $("infer").textContent = answer.infer_ms.toFixed(1);
  $("fps").textContent = answer.fps ? answer.fps.toFixed(1) : "–";
  ages.push([Date.now(), answer.age_ms]);
}

function showRegions(parts) {
  const name = parts.map((one) => `${one.name}: ${named(one)}`).join(", ");
  const rows = parts.map((one) => [`${one.name}: ${one.rejected ? `not sure (${one.label})` : one.label}`, one.probability]);
  showRows(name, "", parts.every((one) => one.rejected), rows);
}

// Where the picture is within its place: left, top, width and height.
function seenAt() {
  const [wide, high] = [picture.naturalWidth, picture.naturalHeight];
  const scale = Math.min(picture.clientWidth / wide, picture.clientHeight / high);
  const [left, top] = [(picture.clientWidth - scale * wide) / 2, (picture.clientHeight - scale * high) / 2];
  return [picture.offsetLeft + left, picture.offsetTop + top, scale * wide, scale * high];
}

function lay(box, [left, top, width, height]) {
  const [x, y, wide, high] = seenAt();
  box.style.left = `${x + (wide * left) / 100}px`;
  box.style.top = `${y + (high * top) / 100}px`;
  box.style.width = `${(wide * width) / 100}px`;
  box.style.height = `${(high * height) / 100}px`;
}

function drawRegions(parts = drawRegions.parts || []) {
  drawRegions.parts = parts;
  const shown = !picture.hidden && picture.naturalWidth;
  $("regions").replaceChildren(...(shown ? parts : []).map((one) => {
    const box = document.createElement("div");
    const text = document.createElement("span");
    text.textContent = one.text;
    box.append(text);
    box.classList.toggle("unsure", one.rejected);
    lay(box, one.place);
    return box;
  }));
}

// The banner says one thing: what is nearest to the viewer.
function tell() {
  let text = trouble;
  if (paused) text = "Paused. What you see is not live.";
  else if (!text && latest) {
    const silent = latest.silent_s >= SILENT_S;
    text = latest.state;
    if (!text && !latest.answer) text = silent ? "Waiting for the first picture." : "";
    else if (!text && silent) text = `No new picture for ${latest.silent_s.toFixed(0)} s.`;
  }
  const banner = $("banner");
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
  document.body.classList.toggle("old", Boolean(text));
}

function drawAges() {
  const now = Date.now();
  ages = ages.filter(([moment]) => now - moment < 1000 * SPARK_S);
  const bins = new Array(SPARK_BINS).fill(null);
  for (const [moment, age] of ages) {
    const bin = SPARK_BINS - 1 - Math.floor(((now - moment) / 1000) * (SPARK_BINS / SPARK_S));
    bins[bin] = Math.max(bins[bin] ?? 0, age);
  }
  const most = Math.max(...ages.map(([, age]) => age));
  const points = bins.flatMap((age, index) => (age === null ? [] : [`${index},${(29 - (27 * age) / most).toFixed(1)}`]));
  $("spark").firstElementChild.setAttribute("points", points.join(" "));
  $("ages").textContent = ages.length ? `at most ${most.toFixed(0)} in the last minute` : "";
}

// A region that is drawn with the mouse is only told: who looks at the page does not steer the camera.
let corner = null;
function pointed(event) {
  const [x, y, wide, high] = seenAt();
  const place = picture.getBoundingClientRect();
  const across = (event.clientX - place.left + picture.offsetLeft - x) / wide;
  const down = (event.clientY - place.top + picture.offsetTop - y) / high;
  return [across, down].map((share) => Math.round(1000 * Math.min(1, Math.max(0, share))) / 10);
}
function between([x, y], [u, v]) {
  const sizes = [Math.abs(u - x), Math.abs(v - y)].map((size) => Math.round(10 * size) / 10);
  return [Math.min(x, u), Math.min(y, v), ...sizes];
}
picture.onpointerdown = (event) => {
  if (event.pointerType !== "mouse" || event.button) return;
  corner = pointed(event);
  picture.setPointerCapture(event.pointerId);
  event.preventDefault();
};
picture.onpointermove = (event) => {
  if (!corner) return;
  const place = between(corner, pointed(event));
  $("drawing").hidden = false;
  lay($("drawing"), place);
};
picture.onpointerup = (event) => {
  if (!corner) return;
  const place = between(corner, pointed(event));
  corner = null;
  const meant = Math.min(place[2], place[3]) >= 3;
  $("drawing").hidden = $("option").hidden = !meant;
  if (meant) $("option").querySelector("code").textContent = `--region ${place.map((one) => `${one}%`).join(",")}`;
};

const watching = () => !paused && !document.hidden;

// Nobody sees a page in the background: the device need not work for it, and browsers keep few connections.
function look() {
  if (watching()) {
    trouble = "";
    follow();
  } else {
    stop();
    freeze();
  }
  tell();
}

// The last picture stays, as a copy; its stream is closed.
function freeze() {
  if (picture.naturalWidth && !picture.hidden) {
    const copy = document.createElement("canvas");
    copy.width = picture.naturalWidth;
    copy.height = picture.naturalHeight;
    copy.getContext("2d").drawImage(picture, 0, 0);
    copy.toBlob((blob) => {
      if (watching() || !blob) return;
      const copied = URL.createObjectURL(blob);
      picture.addEventListener("load", () => URL.revokeObjectURL(copied), { once: true });
      picture.src = copied;
    });
  } else {
    picture.removeAttribute("src");
  }
}

$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  look();
};
document.addEventListener("visibilitychange", look);
window.addEventListener("pagehide", stop);
window.addEventListener("resize", () => drawRegions());
setInterval(() => {
  if (watching() && source && Date.now() - heard > DEAF_MS) {
    follow();
    lose("Nothing is heard from edgetl. Trying again.");
  }
}, 1000);
setInterval(drawAges, 500);
look();
