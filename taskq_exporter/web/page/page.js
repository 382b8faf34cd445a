// Everything can be read without this file. It fetches the same page again and puts in what has changed.
"use strict";

const EVERY = 5000;
const PATIENCE = 15000;
const live = document.getElementById("live");
const filter = document.getElementById("filter");
let timer, running;

async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const request = (running = new AbortController());
  const patience = setTimeout(() => request.abort("it does not answer"), PATIENCE);
  try {
    const response = await fetch(location.href, { signal: request.signal, cache: "no-store" });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!response.ok || !page.querySelector("main")) throw `it answers ${response.status}`;
    if (page.documentElement.dataset.version !== document.documentElement.dataset.version) location.reload();
    document.title = page.title;
    for (const part of ["#summary", "main"]) update(document.querySelector(part), page.querySelector(part));
    say(true, "live");
  } catch (why) {
    if (request !== running) return; // a newer one is under way
    say(false, `The exporter cannot be reached: these are old numbers (${why.message ?? why})`);
  } finally {
    clearTimeout(patience);
  }
  if (!document.hidden) timer = setTimeout(refresh, EVERY);
}

function say(good, text) {
  document.documentElement.classList.toggle("stale", !good);
  if (live.textContent !== text) live.textContent = text;
}

// Makes `old` equal to `now` with as few changes as it takes: focus, selection, scrolling and open details stay.
function update(old, now) {
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now);
  if (old.isEqualNode(now)) return;
  if (old.nodeType === Node.TEXT_NODE) return void (old.data = now.data);
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !now.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  [...now.childNodes].forEach((child, i) => {
    const same = child.id && [...old.children].find((one) => one.id === child.id);
    if (same && same !== old.childNodes[i]) old.insertBefore(same, old.childNodes[i]);
    if (old.childNodes[i]) update(old.childNodes[i], child);
    else old.append(child);
  });
  while (old.childNodes.length > now.childNodes.length) old.lastChild.remove();
}

function go(url) {
  history.replaceState(null, "", url);
  refresh();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("thead a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.href);
});

filter.form.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const url = new URL(location);
    filter.value ? url.searchParams.set("filter", filter.value) : url.searchParams.delete("filter");
    go(url);
  }, 150);
});

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});

say(true, "live");
timer = setTimeout(refresh, EVERY);
