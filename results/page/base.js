"use strict";
// Elements, numbers, the theme and the address: what every other part uses. No text ever becomes markup: all of it is
// put in as text nodes.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p", {class: "soft", onclick: f}, "text", child, null)`. Strings become text nodes. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A select with its label; `options` are [value, words] pairs. */
function choice(label, options, value, onchange, attributes = {}) {
  const select = h("select", { ...attributes, onchange: (event) => onchange(event.target.value) },
    options.map(([key, words]) => h("option", { value: key }, words)));
  select.value = value;
  return h("label", { class: "field" }, label, select);
}

/** Buttons of which one is pressed. */
function choices(label, options, value, onchange) {
  const buttons = options.map(([key, words]) => h("button", { type: "button", "aria-pressed": String(key === value), "data-key": key,
    onclick: () => {
      for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.key === key));
      onchange(key);
    } }, words));
  return [h("span", { class: "label" }, label), h("span", { class: "choices", role: "group", "aria-label": label }, buttons)];
}

/** Words in which what stands between `backticks` is code. */
const coded = (words) => words.split("`").map((piece, i) => (i % 2 ? h("code", {}, piece) : piece));

const only = (list) => [...new Set(list)];
const counted = (n, one, many = `${one}s`) => `${grouped(n)} ${n === 1 ? one : many}`;
const byId = (id) => document.getElementById(id);
const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

/** Says something to those who listen to the page. */
function announce(text) {
  byId("status").textContent = text;
}

// ---- numbers ----

const grouped = (value) => Math.round(value).toLocaleString("en");

/** A number with as many decimals as its size asks for; a true minus. */
function number(value, decimals = 3) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(decimals);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

const percent = (value) => (value === null || value === undefined ? "–" : `${number(100 * value, 0)}%`);

/** Seconds as people say them. */
function duration(value) {
  if (value === null || value === undefined) return "–";
  if (value < 90) return `${number(value, value < 10 ? 1 : 0)} s`;
  return value < 5400 ? `${number(value / 60, 0)} min` : `${number(value / 3600, 1)} h`;
}

// ---- theme ----

const memory = {
  /** Local storage, which a browser may refuse to pages from disk; then what is kept is kept until the page closes. */
  kept: true,
  held: new Map(),
  get(key) {
    try {
      return localStorage.getItem(key) ?? this.held.get(key) ?? null;
    } catch {
      this.kept = false;
      return this.held.get(key) ?? null;
    }
  },
  set(key, value) {
    this.held.set(key, value);
    try {
      localStorage.setItem(key, value);
    } catch {
      this.kept = false;
    }
  },
};

function dress() {
  const wanted = memory.get("parley-theme") ?? "auto";
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = wanted === "auto" ? (dark ? "dark" : "light") : wanted;
  byId("theme").value = wanted;
}

dress();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
byId("theme").addEventListener("change", (event) => {
  memory.set("parley-theme", event.target.value);
  dress();
});

// ---- the address ----

/** `#view?key=value` as [view, parameters]. */
function address() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return [view || "results", new URLSearchParams(query)];
}

/** The link of a view; parameters that are empty are left out. */
function link(view, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null));
  return `#${view}${query.size ? `?${query}` : ""}`;
}

/** Puts a link into the address line without going there: what is shown is already what it says. */
function remember(view, parameters) {
  history.replaceState(null, "", link(view, parameters));
}

// ---- agents ----

/** A name that may be broken after its underscores. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((piece, i) => (i ? [h("wbr"), piece] : [piece]));

const COLOURS = 8;
const MARKS = ["circle", "square", "triangle"];
const DASHES = { learns: ["", "9 3", "2 3"], fixed: ["5 4", "1.5 3", "9 3 2 3"] };

/** The colours, dashes and marks of a section's agents, the same in all its figures: lines of learners are whole, if they can be. */
function inks(rows) {
  const found = new Map();
  for (const kind of ["learns", "fixed"]) {
    const agents = rows.filter((row) => row.learns === (kind === "learns")).map((row) => row.agent).sort();
    agents.forEach((agent, place) => found.set(agent, { colour: `var(--c${place % COLOURS})`, dash: DASHES[kind][Math.floor(place / COLOURS) % 3], mark: MARKS[Math.floor(place / COLOURS) % 3] }));
  }
  return found;
}
