// Labels that a person gave to pairs, kept in this browser, and the files they become.

const LABELS = ["left", "right", "tie", "skip"];
const LABELS_KEY = "parley-labels";
const labels = new Map(Object.entries(readLabels()));

function readLabels() {
  try {
    return JSON.parse(memory.get(LABELS_KEY) ?? "{}");
  } catch {
    return {};
  }
}

/** The key of a pair, whichever stands left. */
const pairKey = (left, right) => [left, right].sort().join("||");

/** The label of a pair as it lies, or null. */
function labelOf(left, right) {
  const found = labels.get(pairKey(left, right));
  if (!found || found.left === left) return found ?? null;
  return { ...found, left, right, label: { left: "right", right: "left" }[found.label] ?? found.label };
}

function setLabel(left, right, label, note, blind) {
  labels.set(pairKey(left, right), { left, right, label, note, blind, labelled_at: new Date().toISOString() });
  keepLabels();
}

function clearLabels() {
  labels.clear();
  keepLabels();
}

function keepLabels() {
  memory.set(LABELS_KEY, JSON.stringify(Object.fromEntries(labels)));
}

/** One line per label, ties and skips among them. */
function labelLines() {
  return [...labels.values()].map((one) => JSON.stringify(one));
}

/** The pairs with a winner as TRL's preference data, and why others are not among them. */
async function preferenceLines() {
  const lines = [];
  const leftOut = { "ties and skips": 0, "not on this page": 0, "with different openings": 0, "with equal words": 0 };
  for (const one of labels.values()) {
    const row = one.label === "left" || one.label === "right" ? await preference(one) : "ties and skips";
    if (typeof row === "string") leftOut[row] += 1;
    else lines.push(JSON.stringify(row));
  }
  return [lines, Object.entries(leftOut).filter(([, n]) => n).map(([why, n]) => `${n} ${why}`)];
}

/** A row, or why there is none. Both sides begin where the agent speaks first, so what comes before must be equal. */
async function preference({ left, right, label, note, blind, labelled_at }) {
  const [chosen, rejected] = (label === "left" ? [left, right] : [right, left]).map(find);
  if (chosen === null || rejected === null) return "not on this page";
  const [[prompt, won], [other, lost]] = (await Promise.all([read(chosen), read(rejected)])).map(messages);
  if (JSON.stringify(prompt) !== JSON.stringify(other)) return "with different openings";
  if (JSON.stringify(won) === JSON.stringify(lost)) return "with equal words";
  const [a, b] = [facts(chosen), facts(rejected)];
  return { prompt, chosen: won, rejected: lost, schema_version: 1, world: a.run.world, user: a.user, split: a.split, scenario: a.scenario, chosen_id: idOf(chosen), rejected_id: idOf(rejected),
    chosen_agent: a.run.agent, rejected_agent: b.run.agent, chosen_return: a.returned, rejected_return: b.returned, note, blind, labelled_at };
}

/** Hands a file to the browser's downloads. */
function download(name, lines) {
  const url = URL.createObjectURL(new Blob(lines.map((line) => `${line}\n`), { type: "application/jsonl" }));
  const anchor = h("a", { href: url, download: name, hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
