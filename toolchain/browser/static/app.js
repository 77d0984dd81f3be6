// The camera or a photograph to the worker, and its answers to the page.
"use strict";

const PHOTOGRAPH = "Choose a photograph instead.";
const TROUBLE = {
  NotAllowedError: `The camera may not be used. Allow it for this page in the browser's settings, then press Start. ${PHOTOGRAPH}`,
  NotFoundError: `No camera was found. ${PHOTOGRAPH}`,
  NotReadableError: "Another program uses the camera. Close it, then press Start.",
};
const INSECURE = `Browsers give the camera only to pages from https or localhost, and this page is from neither. ${PHOTOGRAPH}`;
const AS_FILE =
  "This page was opened as a file, and browsers then load no network. Serve its folder: python -m http.server --directory FOLDER";

const video = $("video");
const photograph = $("photograph");
const waiting = new Map(); // answers to come, by number
let worker = null;
let number = 0;
let stream = null;
let wanted = false; // whether the camera shall run while the page is seen
let attempts = 0; // to open it: the person may take a while to allow it, and press something else meanwhile
let cameraId = "";
let shownAt = 0;
let fps = 0;

function tell(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}

function begin() {
  if (location.protocol === "file:") return tell(AS_FILE);
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => {
    if (data.id !== undefined) return settle(data);
    if (data.page) ready(data);
    else tell(`The network cannot be loaded: ${data.failed}`);
    return keepOffline(); // only now: it would load everything a second time
  };
  worker.onerror = (event) => {
    event.preventDefault();
    tell("The network cannot be loaded: a file is missing, or this browser is too old.");
    keepOffline();
  };
}

function settle({ id, answer, failed }) {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (failed) reject(new Error(failed));
  else resolve(answer);
}

// The answer to a picture, which is handed over.
function answerTo(bitmap) {
  return new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject });
    worker.postMessage({ id: number, bitmap }, [bitmap]);
  });
}

async function ready({ page, threads }) {
  document.title = page.title;
  $("title").textContent = page.title;
  const { height, width, resize } = page.preprocess;
  // What the page shows of a picture is what the network sees of it, but for a margin that may be cut.
  document.body.classList.toggle("squashed", resize === "squash");
  $("picture").style.aspectRatio = `${width} / ${height}`;
  describe({ ...page.about, threads });
  $("start").disabled = $("choose").disabled = false;
  $("no-picture").textContent = "Start the camera, or choose a photograph.";
  const known = await navigator.permissions?.query({ name: "camera" }).catch(() => null);
  if (known?.state === "granted") start(); // nobody needs to be asked
}

async function start() {
  const attempt = ++attempts;
  wanted = true;
  tell("");
  if (!navigator.mediaDevices) return fail(INSECURE);
  stopCamera();
  const which = cameraId ? { deviceId: { exact: cameraId } } : { facingMode: { ideal: "environment" } };
  let own = null;
  try {
    own = await navigator.mediaDevices.getUserMedia({
      audio: false, video: { ...which, width: { ideal: 640 }, height: { ideal: 480 } },
    });
  } catch (error) {
    if (attempt !== attempts || !wanted) return;
    if (cameraId) { // the one that was chosen is gone: any other will do
      cameraId = "";
      return start();
    }
    return fail(TROUBLE[error.name] || `The camera cannot be opened: ${error.message}`);
  }
  if (attempt !== attempts || !wanted || document.hidden) return own.getTracks().forEach((track) => track.stop());
  stream = own;
  own.getVideoTracks()[0].onended = () => own === stream && fail("The camera is gone. Press Start to look for it again.");
  show(video);
  video.srcObject = own;
  await video.play().catch(() => {}); // a newer stream has taken its place
  buttons();
  follow(own);
}

function fail(text) {
  wanted = false;
  stopCamera();
  tell(text);
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  buttons();
}

async function buttons() {
  $("start").textContent = stream ? "Stop" : "Start";
  const found = stream ? await navigator.mediaDevices.enumerateDevices() : [];
  $("other").hidden = found.filter(({ kind }) => kind === "videoinput").length < 2;
}

// The next frame is taken when the last one is answered: nothing waits in a queue, and each is the newest.
async function follow(own) {
  while (own === stream) {
    const at = await nextFrame();
    if (own !== stream || !video.videoWidth) continue;
    try {
      const answer = await answerTo(await createImageBitmap(video));
      if (own === stream) showAnswered(answer, performance.now() - at);
    } catch (error) {
      return fail(`A frame cannot be answered: ${error.message}`);
    }
  }
}

// Resolves with the time at which the frame was taken, or at which it came, where the browser does not tell.
function nextFrame() {
  return new Promise((resolve) => {
    if (!video.requestVideoFrameCallback) requestAnimationFrame(() => resolve(performance.now()));
    else video.requestVideoFrameCallback((now, { captureTime }) => resolve(captureTime ?? now));
  });
}

function showAnswered(answer, age) {
  const spaced = (label) => label.replaceAll("_", " "); // as people write it
  showAnswer({ ...answer, label: spaced(answer.label), top: answer.top.map(([label, share]) => [spaced(label), share]) });
  const now = performance.now();
  const rate = shownAt && now - shownAt < 2000 ? 1000 / (now - shownAt) : 0;
  fps = fps && rate ? 0.9 * fps + 0.1 * rate : rate;
  shownAt = now;
  $("age").textContent = age === null ? "–" : age.toFixed(0);
  $("fps").textContent = fps && age !== null ? fps.toFixed(1) : "–";
  $("infer").textContent = answer.infer_ms.toFixed(0);
}

function show(what) {
  video.hidden = what !== video;
  photograph.hidden = what !== photograph;
  $("no-picture").hidden = true;
}

// Names a photograph, and returns the answer. Pixels are those of the file, turned upright: no colour profile is applied,
// as in `edgetl predict`.
async function name(file) {
  wanted = false;
  stopCamera();
  tell("");
  forget();
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file, {
      imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none",
    });
  } catch {
    return tell(`${file.name} is not a picture that this browser reads.`);
  }
  URL.revokeObjectURL(photograph.src);
  photograph.src = URL.createObjectURL(file);
  show(photograph);
  try {
    const answer = await answerTo(bitmap);
    showAnswered(answer, null);
    return answer;
  } catch (error) {
    return tell(`${file.name} cannot be answered: ${error.message}`);
  }
}

async function otherCamera() {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const now = stream?.getVideoTracks()[0].getSettings().deviceId;
  cameraId = found[(found.findIndex(({ deviceId }) => deviceId === now) + 1) % found.length].deviceId;
  start();
}

async function keepOffline() {
  if (!navigator.serviceWorker) return;
  try {
    const registration = await navigator.serviceWorker.register("sw.js");
    const isNew = () => registration.waiting && navigator.serviceWorker.controller;
    const offer = () => ($("newer").hidden = !isNew());
    const watch = () => {
      if (registration.installing) registration.installing.onstatechange = offer;
      offer();
    };
    registration.onupdatefound = watch;
    watch();
    $("reload").onclick = () => {
      navigator.serviceWorker.oncontrollerchange = () => location.reload();
      registration.waiting.postMessage("take over");
    };
    await navigator.serviceWorker.ready;
    $("offline").textContent = "This page works without a network now.";
  } catch (error) {
    $("offline").textContent = `This page needs its server each time: ${error.message}`;
  }
}

$("start").onclick = () => {
  if (!stream) return start();
  wanted = false;
  return stopCamera();
};
$("other").onclick = otherCamera;
$("choose").onclick = () => $("file").click();
$("file").onchange = () => {
  const [file] = $("file").files;
  $("file").value = ""; // so that the same one can be chosen again
  if (file) name(file);
};
// A camera that nobody looks at is switched off.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && wanted && !stream) start();
  else if (document.hidden && stream) stopCamera();
});
begin();
