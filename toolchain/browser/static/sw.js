// Keeps the files of this page, so that it works without a network. `edgetl export --browser` writes the two constants;
// another version of the page is another version of this file.
"use strict";

const VERSION = "{{version}}";
const FILES = {{files}};

const OWN = `edgetl ${self.registration.scope} `; // other pages of this server have caches of their own
const NAME = OWN + VERSION;

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(tidy()));
self.addEventListener("message", (event) => {
  if (event.data === "take over") self.skipWaiting();
});
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

async function keep() {
  const cache = await caches.open(NAME);
  // Not what the browser's own cache holds of an earlier version.
  await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
}

async function tidy() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(OWN) && name !== NAME).map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(NAME);
  const address = request.url.replace(/index\.html(?=[?#]|$)/, ""); // the page is kept under its folder's
  const found = (await cache.match(address, { ignoreSearch: true })) || (await fetch(request));
  // With these, browsers let the runtime compute in several threads.
  const headers = new Headers(found.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
