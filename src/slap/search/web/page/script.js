"use strict";
// Everything that comes from the index or the user is shown by textContent, never as HTML.

const LONGEST = 60; // seconds that a picture shows at once
const TOP = 10;
const PROBABLE = 0.5; // the least probability of "only probable ones"

const byId = (id) => document.getElementById(id);
const player = new Audio();
player.preload = "auto";
let playing = null; // the card that the player plays, also when it is paused
let request = new AbortController();
let probabilities = false; // the model has such
let next = null; // asks for the hits after those that are shown

function clock(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  if (digits && rounded < 60) return `${rounded.toFixed(digits)} s`;
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return minutes >= 60 ? `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

async function ask(path, parameters, signal) {
  let answer;
  try {
    answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is `slap serve` still running?");
  }
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function percent(probability) {
  const value = 100 * probability;
  return value > 0 && value < 1 ? "< 1 %" : value < 100 && value > 99 ? "> 99 %" : `${Math.round(value)} %`;
}

function say(text, trouble = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("trouble", trouble);
}

class Card {
  constructor(hit, query) {
    this.hit = hit;
    this.query = query;
    this.element = byId("card").content.cloneNode(true).firstElementChild;
    this.strip = this.part(".strip");
    this.from = hit.duration <= LONGEST ? 0 : Math.max(0, Math.min((hit.start + hit.end - LONGEST) / 2, hit.duration - LONGEST));
    this.to = Math.min(hit.duration, this.from + LONGEST);
    this.span = [hit.start, hit.end];
    this.position = null; // seconds, once it was played or set
    this.label();
    this.mark();
    this.listen();
  }

  part(selector) { return this.element.querySelector(selector); }

  label() {
    const { path, score, rank, duration, probability, alike } = this.hit;
    const cut = path.lastIndexOf("/");
    this.name = path.slice(cut + 1);
    this.part("h2").textContent = this.name;
    this.part(".where").textContent = [path.slice(0, Math.max(cut, 0)), clock(duration, duration < 60 ? 1 : 0)].filter(Boolean).join(" · ");
    this.part(".score strong").textContent = score.toFixed(3);
    this.part(".bar div").style.width = `${100 * Math.max(0, Math.min(1, score))}%`;
    if (probability !== null) {
      this.part(".chance").hidden = false;
      this.part(".chance").textContent = percent(probability);
      this.part(".chance").title = "probability that the words describe this sound";
    }
    if (alike.length) {
      this.part(".alike").hidden = false;
      this.part(".alike summary").textContent = `and ${alike.length} more alike`;
      this.part(".alike ul").append(...alike.map((other) => Object.assign(document.createElement("li"), { textContent: other })));
    }
    this.part(".play").setAttribute("aria-label", `Play ${this.name}`);
    this.strip.setAttribute("aria-label", `Position in ${this.name}`);
    this.strip.setAttribute("aria-valuemin", this.from.toFixed(2));
    this.strip.setAttribute("aria-valuemax", this.to.toFixed(2));
    this.element.dataset.rank = rank;
    this.element.dataset.id = this.hit.id;
    const image = this.part("img");
    image.alt = `Spectrogram of ${this.name}`;
    image.addEventListener("load", () => image.classList.add("ready"));
    image.src = `/picture?${new URLSearchParams({ id: this.hit.id, start: this.from, end: this.to })}`;
    const ticks = 5, digits = this.to - this.from < 1 ? 2 : this.to - this.from < 20 ? 1 : 0;
    for (let i = 0; i < ticks; i++) {
      const tick = document.createElement("span");
      tick.textContent = clock(this.from + (this.to - this.from) * i / (ticks - 1), digits);
      this.part(".axis").append(tick);
    }
  }

  place(seconds) { return 100 * Math.max(0, Math.min(1, (seconds - this.from) / (this.to - this.from))); }

  mark() {
    const [start, end] = this.span.map((seconds) => this.place(seconds));
    this.part(".before").style.width = `${start}%`;
    this.part(".after").style.width = `${100 - end}%`;
    this.part(".mark").style.left = `${start}%`;
    this.part(".mark").style.width = `${end - start}%`;
    const whole = end - start > 99;
    this.part(".mark").hidden = whole;
    this.part(".span").textContent = whole ? "all of it" : `matches from ${clock(this.span[0], 1)} to ${clock(this.span[1], 1)}`;
    this.move(this.position ?? this.span[0]);
  }

  listen() {
    this.part(".play").addEventListener("click", () => this.toggle());
    this.part(".like").addEventListener("click", () => { location.hash = new URLSearchParams({ like: this.hit.id, at: this.hit.start, name: this.name }); });
    const seek = (event) => {
      const box = this.strip.getBoundingClientRect();
      this.seek(this.from + (event.clientX - box.left) / box.width * (this.to - this.from));
    };
    this.strip.addEventListener("pointerdown", (event) => { this.strip.setPointerCapture(event.pointerId); seek(event); });
    this.strip.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
    this.strip.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      const now = this.position ?? this.span[0];
      if (step) this.seek(now + step * (this.to - this.from) / 50);
      else if (event.key === "Home") this.seek(this.from);
      else if (event.key === "End") this.seek(this.to);
      else if (event.key === " " || event.key === "Enter") this.toggle();
      else return;
      event.preventDefault();
    });
  }

  move(seconds) {
    this.part(".head").style.left = `${this.place(seconds)}%`;
    this.strip.setAttribute("aria-valuenow", seconds.toFixed(2));
    this.strip.setAttribute("aria-valuetext", `${clock(seconds, 1)} of ${clock(this.hit.duration, 1)}`);
  }

  seek(seconds) {
    this.position = Math.max(this.from, Math.min(this.to, seconds));
    this.element.classList.add("started");
    this.move(this.position);
    if (playing === this) player.currentTime = this.position;
  }

  async toggle() {
    if (playing === this && !player.paused) { player.pause(); return; }
    if (playing !== this) {
      playing?.stop();
      playing = this;
      player.src = `/audio?${new URLSearchParams({ id: this.hit.id })}`;
      player.currentTime = this.position ?? this.span[0];
    } else if (player.ended) player.currentTime = this.span[0];
    this.element.classList.add("playing", "started");
    this.part(".play").setAttribute("aria-label", `Pause ${this.name}`);
    try { await player.play(); } catch (error) { if (error.name !== "AbortError") this.fail("this sound cannot be played here"); }
  }

  stop() {
    this.element.classList.remove("playing");
    this.part(".play").setAttribute("aria-label", `Play ${this.name}`);
  }

  fail(text) {
    this.stop();
    this.part(".trouble").textContent = text;
    this.part(".trouble").hidden = false;
  }

  async refine(signal) {
    const found = await ask("/api/span", { id: this.hit.id, at: this.hit.start, q: this.query }, signal);
    this.span = [found.start, found.end];
    this.mark();
    if (!found.similarity.length) return;
    const curve = this.part(".curve"), width = this.place(this.hit.end) - this.place(this.hit.start);
    curve.style.left = `${this.place(this.hit.start)}%`;
    curve.style.width = `${width}%`;
    const low = Math.min(...found.similarity), high = Math.max(...found.similarity), n = found.similarity.length;
    curve.setAttribute("viewBox", `0 0 ${Math.max(n - 1, 1)} 1`);
    const y = (value) => 0.92 - 0.84 * (value - low) / Math.max(high - low, 1e-6);
    curve.firstElementChild.setAttribute("points", found.similarity.map((value, i) => `${i},${y(value).toFixed(4)}`).join(" "));
  }
}

function follow() {
  if (!playing) return;
  if (!player.paused) {
    playing.position = player.currentTime;
    playing.move(player.currentTime);
    requestAnimationFrame(follow);
  }
}
player.addEventListener("play", follow);
player.addEventListener("pause", () => playing?.stop());
player.addEventListener("ended", () => { if (playing) { playing.stop(); playing.position = null; } });

async function show(path, parameters, heading) {
  request.abort();
  request = new AbortController();
  const { signal } = request;
  say("Searching …");
  byId("hits").classList.add("stale");
  byId("more").hidden = true;
  try {
    const found = await ask(path, { ...parameters, top: TOP }, signal);
    player.pause();
    playing = null;
    byId("hits").replaceChildren();
    byId("hits").classList.remove("stale");
    say(found.hits.length ? heading : nothing(parameters, found.best));
    next = (offset) => ask(path, { ...parameters, top: TOP, offset }, signal);
    await add(found, 0, parameters.q, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("hits").classList.remove("stale");
    byId("hits").replaceChildren();
    say(error.message, true);
  }
}

function nothing(parameters, best) {
  if (best === null) return "Nothing found: the index is empty.";
  return `None of these sounds is probable for “${parameters.q}”: the nearest has ${percent(best)}.`;
}

async function add(found, offset, query, signal) {
  // An approximate index may give a file again when it is asked for more.
  const shown = new Set([...byId("hits").children].map((element) => element.dataset.id));
  const cards = found.hits.filter((hit) => !shown.has(hit.id)).map((hit) => new Card(hit, query));
  byId("hits").append(...cards.map((card) => card.element));
  byId("more").hidden = !found.more;
  byId("more").dataset.offset = offset + found.hits.length;
  if (query) for (const card of cards) await card.refine(signal).catch((error) => { if (error.name === "AbortError") throw error; card.fail(error.message); });
  return cards;
}

async function more() {
  const button = byId("more"), { signal } = request, offset = Number(button.dataset.offset);
  button.disabled = true;
  try {
    const found = await next(offset);
    button.disabled = false;
    const count = byId("hits").children.length, done = add(found, offset, wanted().get("q"), signal);
    byId("hits").children[count]?.querySelector(".play").focus({ preventScroll: true });
    await done;
  } catch (error) {
    button.disabled = false;
    if (error.name !== "AbortError") say(error.message, true);
  }
}

function wanted() { return new URLSearchParams(location.hash.slice(1)); }

function route() {
  const hash = wanted(), text = hash.get("q"), like = hash.get("like"), without = hash.get("without");
  const name = hash.get("name") ?? "this";
  byId("query").value = text ?? "";
  byId("without").value = without ?? "";
  byId("like").hidden = !like;
  byId("like").querySelector("b").textContent = name;
  const change = without ? ` without “${without}”` : "";
  const certain = hash.get("certain") !== null && !like && !without;
  offer();
  byId("certain").firstElementChild.checked = hash.get("certain") !== null;
  const parameters = { ...(text && { q: text }), ...(without && { without }), ...(certain && { threshold: PROBABLE }) };
  if (like) {
    scrollTo(0, 0);
    show("/api/like", { ...parameters, id: like, at: hash.get("at") ?? 0 }, `Sounds like ${name}${text ? ` with “${text}”` : ""}${change}`);
  } else if (text) {
    document.title = `${text} · search sounds`;
    show("/api/search", parameters, `Nearest to “${text}”${change}`);
  } else say("Say in words what you want to hear.");
}

function offer() {
  const hash = wanted();
  byId("certain").hidden = !probabilities || hash.has("like") || hash.has("without");
}

function go(parameters) {
  const hash = `#${new URLSearchParams(parameters)}`;
  if (location.hash === hash) route(); else location.hash = hash;
}

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("query").value.trim(), without = byId("without").value.trim(), hash = wanted();
  const like = hash.get("like") ? { like: hash.get("like"), at: hash.get("at") ?? 0, name: hash.get("name") ?? "this" } : {};
  if (!text && !hash.get("like")) return;
  const certain = byId("certain").firstElementChild.checked;
  go({ ...like, ...(text && { q: text }), ...(without && { without }), ...(certain && { certain: 1 }) });
});
byId("certain").addEventListener("change", () => document.querySelector("form").requestSubmit());
byId("more").addEventListener("click", more);
byId("unlike").addEventListener("click", () => {
  const hash = wanted();
  for (const name of ["like", "at", "name"]) hash.delete(name);
  location.hash = hash;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== byId("query")) { byId("query").focus(); event.preventDefault(); }
});
addEventListener("hashchange", route);

ask("/api/index", {}).then((index) => {
  byId("folder").textContent = index.folder;
  probabilities = index.probabilities;
  offer();
  byId("about").textContent = `${index.files.toLocaleString("en")} files · ${index.model}`;
}).catch((error) => say(error.message, true));
route();
