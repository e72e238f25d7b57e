// The conversations: an index in memory, texts unpacked when they are asked for.
// A conversation is one number, its place in the index; its id for links and labels is `run folder|user-split|scenario`.

const FILES = DATA.conversations.files;
const TABLES = DATA.conversations.tables;
const STOPS = DATA.conversations.stops;
const OUTCOMES = DATA.conversations.outcomes;
const FIRST = [];
let COUNT = 0;
for (const file of FILES) {
  FIRST.push(COUNT);
  COUNT += file.returns.length;
}
const FILE_OF = new Uint32Array(COUNT);
FILES.forEach((file, number) => FILE_OF.fill(number, FIRST[number], FIRST[number] + file.returns.length));

/** What the index knows of a conversation. */
function facts(item) {
  const file = FILES[FILE_OF[item]];
  const at = item - FIRST[FILE_OF[item]];
  const table = TABLES[file.table];
  return { item, file, at, run: DATA.runs[file.run], user: file.user, split: file.split, scenario: table.seeds[file.rows[at]], attributes: table.attributes[file.rows[at]],
    returned: file.returns[at], outcome: Number(file.outcomes[at]), stop: STOPS[file.stops[at]], exchanges: file.exchanges[at] };
}

function idOf(item) {
  const { run, user, split, scenario } = facts(item);
  return `${run.path}|${user}-${split}|${scenario}`;
}

/** The conversation of a file on a scenario, or null. */
function onScenario(number, scenario) {
  const file = FILES[number];
  const at = file.rows.findIndex((row) => TABLES[file.table].seeds[row] === scenario);
  return at < 0 ? null : FIRST[number] + at;
}

/** The conversation with an id, or null. */
function find(id) {
  const [path, cell, scenario] = (id ?? "").split("|");
  const number = FILES.findIndex((file) => DATA.runs[file.run].path === path && `${file.user}-${file.split}` === cell);
  return number < 0 ? null : onScenario(number, Number(scenario));
}

/** The files whose conversations can be laid beside those of file `number`: the same scenarios, the same user. */
function rivals(number) {
  const { table, user } = FILES[number];
  return FILES.map((_, other) => other).filter((other) => FILES[other].table === table && FILES[other].user === user);
}

// ---- unpacking ----

const KEPT = 40;
const unpacked = new Map();
const arrived = new Map();

/** What a conversation says: {brief, opening: [[speaker, text]], steps: [[said, reply, reward]], more}. */
async function read(item) {
  const { file, at } = facts(item);
  const per = DATA.conversations.per_chunk;
  const chunk = await chunkOf(file.chunk + Math.floor(at / per));
  const [brief, opening, steps, more] = chunk.conversations[at % per];
  return { brief: chunk.briefs[brief], opening, steps, more };
}

/** A chunk; the ones used last are kept. */
function chunkOf(number) {
  const promise = unpacked.get(number) ?? unpack(number);
  unpacked.delete(number);
  unpacked.set(number, promise);
  if (unpacked.size > KEPT) unpacked.delete(unpacked.keys().next().value);
  return promise;
}

async function unpack(number) {
  if (!("DecompressionStream" in window)) throw new Error("This browser can’t unpack the conversations (it lacks DecompressionStream); a newer one can.");
  const packed = DATA.apart ? await fetched(number) : await embedded(number);
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

/** A chunk in this file: those at its end may not have been read yet. */
async function embedded(number) {
  if (document.readyState === "loading") await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
  return byId(`chunk-${number}`).textContent;
}

/** A chunk in the folder beside this file. Pages from disk may load scripts from there and nothing else. */
function fetched(number) {
  return new Promise((resolve, reject) => {
    arrived.set(number, resolve);
    const script = h("script", { src: `${DATA.apart}/${number}.js`,
      onerror: () => reject(new Error(`The conversations are not there: the folder ${DATA.apart} must lie beside this file.`)) });
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
  });
}

window.parleyChunk = (number, packed) => {
  arrived.get(number)?.(packed);
  arrived.delete(number);
};

/** Chat messages as the agent saw them: [before its first turn, from it on]. */
function messages({ brief, opening, steps }) {
  const role = (speaker) => (speaker === "agent" ? "assistant" : "user");
  const prompt = [...(brief ? [{ role: "system", content: brief }] : []), ...opening.map(([speaker, text]) => ({ role: role(speaker), content: text }))];
  const rest = steps.flatMap(([said, reply]) => [{ role: "assistant", content: said }, ...(reply === null ? [] : [{ role: "user", content: reply }])]);
  return [prompt, rest];
}

// ---- showing one ----

/** A run in words; with its agent and without. */
const runWords = (run) => `${run.agent} · ${runRest(run)}`;
const runRest = (run) => `seed ${run.seed}${BUDGETS.length > 1 ? ` · ${run.budget}` : ""}${USERS.length > 1 && run.learns ? ` · with ${run.user}` : ""}`;
const BUDGETS = only(DATA.runs.map((run) => run.budget));
const USERS = only(DATA.runs.map((run) => run.user));
const outcomeWords = (fact) => h("span", { class: `outcome s${fact.outcome}` }, OUTCOMES[fact.outcome]);
const spoken = (words) => words.replaceAll("_", " ");

/** Text with what was searched for marked. */
function marked(text, sought) {
  if (!sought) return [text];
  const parts = [];
  const lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(sought); at >= 0 && lower.length === text.length; at = lower.indexOf(sought, from)) {
    parts.push(text.slice(from, at), h("mark", {}, text.slice(at, at + sought.length)));
    from = at + sought.length;
  }
  return [...parts, text.slice(from)];
}

/** What is known of a conversation before reading it; `bare` leaves out how it went. */
function factList(fact, bare = false) {
  const pair = (name, value) => h("li", {}, h("span", { class: "name" }, `${name} `), value);
  return h("ul", { class: "facts" },
    bare ? null : [h("li", {}, outcomeWords(fact)), pair("return", number(fact.returned, 2)), pair("ended by", spoken(fact.stop))],
    pair("exchanges", String(fact.exchanges)), pair("talks with", fact.user), pair("split", fact.split), pair("scenario", String(fact.scenario)),
    Object.entries(fact.attributes).map(([name, value]) => pair(spoken(name), spoken(value))));
}

/** The turns of a conversation; `bare` leaves out rewards, values and how it ended. */
function transcript(fact, conversation, { sought = "", bare = false } = {}) {
  const { brief, opening, steps, more } = conversation;
  const turn = (speaker, text, margin) => h("li", { class: `turn ${speaker}` }, h("span", { class: "who" }, speaker), h("div", { class: "said" }, marked(text, sought)), margin);
  const [values, actionValues, advantages] = more.critique ?? [];
  const margin = (k, reward) => {
    if (bare) return null;
    const shown = [[ "r", reward, "the reward"], ["V", values?.[k], "value before the turn"], ["Q", actionValues?.[k], "value of the turn"], ["A", advantages?.[k], "advantage of the turn"]];
    return h("div", { class: "margin" }, shown.filter(([, value]) => value !== undefined).map(([name, value, words]) => h("span", { class: name === "r" && value > 0 ? "earned" : null },
      h("abbr", { title: words }, name), ` ${reward === null && name === "r" ? "unscored" : number(value, 2)}`)));
  };
  const lines = [...opening.map(([speaker, text]) => turn(speaker, text, null)),
    ...steps.flatMap(([said, reply, reward], k) => [turn("agent", said, margin(k, reward)), reply === null ? null : turn("user", reply, null)])];
  const parts = Object.entries(more.parts ?? {}).map(([name, value]) => `${spoken(name)} ${number(value, 2)}`);
  const end = [`Ended by ${spoken(fact.stop)}`, ...parts, ...(more.failure ? [`unscored: ${more.failure}`] : [])].join("; ");
  return [brief ? h("details", { class: "brief" }, h("summary", {}, "The agent’s brief"), h("p", {}, brief)) : null,
    values && !bare ? valueStrip(steps, values, actionValues) : null,
    h("ol", { class: "turns" }, lines), bare ? null : h("p", { class: "end" }, `${end}.`)];
}

/** The critic's values over the conversation: V a line, Q of what was said a dot. */
function valueStrip(steps, values, actionValues) {
  const span = extent([values, actionValues ?? [], [0, 1]]);
  const plot = axes(420, 120, [1, Math.max(2, steps.length)], padded(span), ["exchange"], "The critic’s values over the conversation");
  const points = values.map((value, k) => (value === null ? "" : `${plot.x(k + 1)},${plot.y(value)}`)).filter(Boolean);
  plot.drawing.append(s("polyline", { class: "series", points: points.join(" "), stroke: "var(--accent)" }));
  for (const [k, value] of (actionValues ?? []).entries()) if (value !== null) plot.drawing.append(s("circle", { cx: plot.x(k + 1), cy: plot.y(value), r: 3.5, fill: "var(--c1)" }));
  return h("figure", {}, h("figcaption", {}, h("b", {}, "The critic. "), h("span", {}, "Line: value V before each turn. Dots: value Q of what was said.")), plot.drawing);
}
