// The page of `edgetl review`: pictures in a grid, each decided by a key or a click.
"use strict";

const SHOWN = 60; // cards at once; those that follow come when these are decided

const $ = (id) => document.getElementById(id);
let items = []; // what is left, most useful first
let into = null;
let classes = [];
const unfolded = new Set();
let busy = new Set(); // numbers that were sent and not answered yet
let naming = null; // the card whose name is being typed

const percent = (share) => (share >= 0.995 ? ">99 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);

async function load() {
  try {
    const answer = await fetch("items", { cache: "no-store" });
    if (!answer.ok) throw new Error("This page may not look any more. Open the address that edgetl printed.");
    const state = await answer.json();
    items = state.items;
    into = state.into;
    classes = state.classes;
    $("folder").textContent = state.folder;
    document.title = `edgetl review: ${state.folder}`;
    count(state.done);
    draw();
    if (document.activeElement === document.body) focus(0);
  } catch (error) {
    say(error instanceof TypeError ? "edgetl is not there any more. What you decided is safe." : error.message);
  }
}

function say(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}

function count(done) {
  const moved = Object.values(done.moved).reduce((sum, one) => sum + one, 0);
  const parts = [`${done.left} to look at`];
  if (into || moved) parts.push(`${moved} moved${into ? ` into ${into}` : ""}`);
  parts.push(`${done.kept} kept`, `${done.set_aside} set aside`);
  $("count").textContent = parts.join(", ");
  $("nothing").hidden = done.left > 0;
  $("undo").disabled = !done.record;
}

// Cards: the first of each fold, with all of the fold unless it was unfolded.
function cards() {
  const folds = new Map();
  const found = [];
  for (const item of items) {
    if (unfolded.has(item.fold)) found.push([item]);
    else if (folds.has(item.fold)) folds.get(item.fold).push(item);
    else {
      const fold = [item];
      folds.set(item.fold, fold);
      found.push(fold);
    }
  }
  return found;
}

function draw() {
  const wanted = cards().slice(0, SHOWN);
  const old = new Map([...$("grid").children].map((card) => [card.dataset.key, card]));
  $("grid").replaceChildren(...wanted.map((fold) => {
    const key = fold.map((item) => item.number).join();
    return old.get(key) || makeCard(fold, key);
  }));
  $("classes").replaceChildren(...classes.map((name) => Object.assign(document.createElement("option"), { value: name })));
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function makeCard(fold, key) {
  const [item] = fold;
  const numbers = fold.map((one) => one.number);
  const card = element("li", { tabIndex: 0 });
  card.dataset.key = key;
  card.numbers = numbers;
  card.item = item;
  const what = item.label || (item.answers.length ? item.answers[0][0] : "no answer");
  card.setAttribute("aria-label", `${what}${fold.length > 1 ? ` and ${fold.length - 1} like it` : ""}`);
  const image = element("img", { src: `pictures/small/${item.number}`, alt: `Picture ${item.name}`, loading: "lazy" });
  const picture = element("button", { type: "button", className: "picture", title: "Larger" }, image);
  picture.onclick = () => enlarge(item);
  const box = element("div", { className: "picture" }, picture);
  if (fold.length > 1) {
    const more = element("button", { type: "button", className: "more", textContent: `+${fold.length - 1} alike` });
    more.title = "Show each of them";
    more.onclick = () => unfold(card);
    box.append(more);
  }
  card.append(box);
  if (item.label !== null) card.append(element("p", { className: "now" }, "Now in ", element("strong", { textContent: item.label })));
  const facts = item.label === null ? item.note : `${item.note} · ${item.name}`; // a collected file is called by its time
  card.append(element("p", { className: "facts", textContent: facts, title: item.name }));
  const answers = element("div", { className: "answers" });
  if (into !== null) {
    for (const [label, share] of item.answers.filter(([label]) => label !== item.label)) {
      const one = element("button", { type: "button" }, label, element("span", { textContent: percent(share) }));
      one.title = `Move into ${label}`;
      one.onclick = () => decide(card, { do: "move", label });
      answers.append(one);
    }
  }
  card.append(answers);
  const others = element("div", { className: "others" });
  if (into !== null) others.append(element("button", { type: "button", textContent: "Other…", onclick: () => ask(card) }));
  others.append(
    element("button", { type: "button", textContent: "Keep", onclick: () => decide(card, { do: "keep" }) }),
    element("button", { type: "button", textContent: "Set aside", onclick: () => decide(card, { do: "set-aside" }) }),
  );
  card.append(others);
  return card;
}

async function decide(card, decision) {
  if (card && card.numbers.some((number) => busy.has(number))) return;
  const numbers = card ? card.numbers : [];
  numbers.forEach((number) => busy.add(number));
  if (card) card.classList.add("busy");
  try {
    const answer = await fetch("decide", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...decision, numbers }),
    });
    const result = await answer.json();
    if (!answer.ok) throw new Error(result.error);
    say("");
    classes = result.classes;
    if (decision.do === "undo") return load();
    const place = [...$("grid").children].indexOf(card);
    const had = card && card.contains(document.activeElement);
    const gone = new Set(numbers);
    items = items.filter((item) => !gone.has(item.number));
    count(result.done);
    draw();
    if (had || document.activeElement === document.body) focus(place);
    if (decision.do === "finish") say("The review is over. You may close this page.");
  } catch (error) {
    say(error instanceof TypeError ? "edgetl is not there any more. What you decided before is safe." : error.message);
  } finally {
    numbers.forEach((number) => busy.delete(number));
    if (card) card.classList.remove("busy");
  }
}

function focus(place) {
  const all = $("grid").children;
  const card = all[Math.min(Math.max(place, 0), all.length - 1)];
  if (card) card.focus();
}

function unfold(card) {
  const place = [...$("grid").children].indexOf(card);
  unfolded.add(card.item.fold);
  draw();
  focus(place);
}

function enlarge(item) {
  $("large").src = `pictures/large/${item.number}`;
  $("large").alt = `Picture ${item.name}`;
  $("look").showModal();
}

function ask(card) {
  naming = card;
  $("name").value = "";
  $("rename").showModal();
  $("name").focus();
}

$("rename-form").onsubmit = () => {
  const label = $("name").value.trim();
  const card = naming;
  naming = null;
  if (card && label) decide(card, { do: "move", label });
};
$("cancel").onclick = () => $("rename").close();
$("close").onclick = () => $("look").close();
$("undo").onclick = () => decide(null, { do: "undo" });
$("finish").onclick = () => decide(null, { do: "finish" });

function columns() {
  const [first, ...rest] = $("grid").children;
  const below = rest.findIndex((card) => card.offsetTop > first.offsetTop);
  return below < 0 ? rest.length + 1 : below + 1;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "z") return event.repeat || decide(null, { do: "undo" });
  const card = document.activeElement.closest("#grid > li") || $("grid").firstElementChild;
  if (!card) return;
  const place = [...$("grid").children].indexOf(card);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
  const answers = card.querySelectorAll(".answers button");
  const chosen = event.key === "Enter" ? 0 : "12345".indexOf(event.key);
  if (event.key === "Enter" && document.activeElement !== card) return; // a button of it has the focus
  if (event.key in steps) focus(place + steps[event.key]);
  else if (event.repeat) return; // a key that is held would decide one picture after the other
  else if (chosen >= 0 && event.key.length && answers[chosen]) answers[chosen].click();
  else if (event.key === "n" && into !== null) ask(card);
  else if (event.key === "k") decide(card, { do: "keep" });
  else if (event.key === "x" || event.key === "Delete") decide(card, { do: "set-aside" });
  else if (event.key === "v") enlarge(card.item);
  else if (event.key === "f") unfold(card);
  else return;
  event.preventDefault();
});

load();
