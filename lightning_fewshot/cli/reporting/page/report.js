"use strict";
const runs = JSON.parse(document.getElementById("runs").textContent);
const table = document.getElementById("results-table");
const rows = [...table.tBodies[0].rows];
const heads = [...table.tHead.rows[0].cells];
const Z95 = 1.96;

// Sorting: numbers by data-value, texts by their letters; what has no number comes last either way.
function key(row, column, isNumber) {
  const cell = row.cells[column];
  if (!isNumber) return cell.textContent;
  return cell.dataset.value === "" || cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}
function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
}
function sortBy(column) {
  const head = heads[column];
  const descending = head.getAttribute("aria-sort") === "ascending";
  const isNumber = head.dataset.kind === "number";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  rows.sort((x, y) => {
    const a = key(x, column, isNumber), b = key(y, column, isNumber);
    if (a === null || b === null) return (a === null) - (b === null);
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows);
}
heads.forEach((head, column) => {
  if (head.firstElementChild) head.firstElementChild.addEventListener("click", () => sortBy(column));
});

// Filtering: rows first; curves and pictures follow the runs that still have a row.
const menus = [...document.querySelectorAll("#results select")];
const search = document.getElementById("search");
const names = heads.map((head) => head.textContent);
function matches(row) {
  const text = row.textContent.toLowerCase();
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => text.includes(word)) && menus.every(
    (menu) => !menu.value || row.cells[names.indexOf(menu.dataset.column)].textContent === menu.value);
}
function filter() {
  rows.forEach((row) => { row.hidden = !matches(row); });
  const shown = rows.filter((row) => !row.hidden);
  const kept = new Set(shown.map((row) => row.dataset.run));
  document.querySelectorAll(".line, .legend li, article").forEach((part) => {
    part.toggleAttribute("hidden", !kept.has(part.dataset.run));
  });
  document.getElementById("shown").textContent = `${shown.length} of ${rows.length} rows`;
}
[search, ...menus].forEach((input) => input.addEventListener("input", filter));
document.querySelectorAll("form").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));
filter();

// Enlarging pictures.
const dialog = document.getElementById("enlarged");
document.querySelectorAll("figure img").forEach((image) => image.addEventListener("click", () => {
  dialog.querySelector("img").src = image.src;
  dialog.querySelector("p").textContent = image.alt;
  dialog.showModal();
}));
dialog.addEventListener("click", () => dialog.close());

// Comparing two runs: paired over common episodes where both have values by episode, else their intervals.
function digits(value) {
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(4);
}
const EPISODES = ["split", "seed", "n_way", "n_query", "test_set", "fold"]; // what decides which episodes there are
function haveSameEpisodes(a, b) {
  return a.data === b.data && EPISODES.every((name) => a.protocol[name] === b.protocol[name]);
}
function paired(a, b, metric) {
  const x = a.episodes[metric], y = b.episodes[metric];
  if (!x || !y || !haveSameEpisodes(a, b)) return null;
  const common = Object.keys(x).filter((episode) => episode in y);
  if (common.length < 2) return null;
  const differences = common.map((episode) => x[episode] - y[episode]);
  const mean = differences.reduce((sum, d) => sum + d, 0) / differences.length;
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / (differences.length - 1);
  const count = (test) => differences.filter(test).length;
  return {
    mean, half: Z95 * Math.sqrt(variance / differences.length), n: differences.length,
    wins: count((d) => d > 0), ties: count((d) => d === 0), losses: count((d) => d < 0),
  };
}
function differences(a, b) {
  const keys = [...new Set([...Object.keys(a.protocol), ...Object.keys(b.protocol)])];
  const other = keys.filter((name) => JSON.stringify(a.protocol[name]) !== JSON.stringify(b.protocol[name]));
  return a.data === b.data ? other : ["data", ...other];
}
function element(tag, text, name) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}
function verdict(mean, half) {
  if (mean > half) return "A is higher";
  return mean < -half ? "B is higher" : "not told apart";
}
function pairedLines(pair) {
  const sign = pair.mean >= 0 ? "+" : "";
  return [
    element("p", `A − B: ${sign}${digits(pair.mean)} ± ${digits(pair.half)} (paired, 95 %): ${verdict(pair.mean, pair.half)}.`, "verdict"),
    element("p", `Over the same ${pair.n} episodes: A is higher in ${pair.wins}, equal in ${pair.ties}, lower in ${pair.losses}.`),
  ];
}
function unpairedLines(a, b, metric) {
  const lacking = [a, b].filter((run) => !run.episodes[metric]).map((run) => run.name);
  const why = lacking.length
    ? `Not paired: results.json of ${lacking.join(" and of ")} has no values by episode (per_episode.${metric}).`
    : "Not paired: the two runs have other episodes.";
  const [x, xLow, xHigh] = a.metrics[metric], [y, yLow, yHigh] = b.metrics[metric];
  const lines = [element("p", why, "missing")];
  const mean = x - y, sign = mean >= 0 ? "+" : "";
  if (xLow === null || yLow === null) return [element("p", `A − B: ${sign}${digits(mean)}, without an interval.`, "verdict"), ...lines];
  const half = Math.hypot(xHigh - xLow, yHigh - yLow) / 2;
  return [element("p", `A − B: ${sign}${digits(mean)} ± ${digits(half)} (from the two intervals): ${verdict(mean, half)}.`, "verdict"), ...lines];
}
function fillMenu(menu, options) {
  const before = menu.value;
  menu.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => String(value) === before)) menu.value = before;
}
function showComparison(menus_) {
  const [metric, a, b] = [menus_.metric.value, runs[menus_.a.value], runs[menus_.b.value]];
  const target = document.getElementById("compared");
  if (!a || !b) return target.replaceChildren(element("p", "No two runs have this metric.", "missing"));
  const pair = paired(a, b, metric);
  const lines = pair ? pairedLines(pair) : unpairedLines(a, b, metric);
  const other = differences(a, b);
  if (other.length) lines.push(element("p", `The two were not evaluated alike; they differ in: ${other.join(", ")}.`, "missing"));
  target.replaceChildren(...lines);
}
// The other run of the first choice: one of the same data where there is one.
function partner(a, options) {
  const others = options.map(([i]) => i).filter((i) => String(i) !== a);
  return others.find((i) => runs[i].data === runs[a].data) ?? others[0];
}
function isPairable(metric) {
  const able = runs.filter((run) => run.episodes[metric]).map((run) => run.data);
  return new Set(able).size < able.length;
}
function setUpComparison() {
  const menus_ = { metric: document.getElementById("compare-metric"), a: document.getElementById("compare-a"), b: document.getElementById("compare-b") };
  if (!menus_.metric) return;
  const has = (run, name) => name in run.metrics && run.metrics[name][0] !== null;
  const count = (name) => runs.filter((run) => has(run, name)).length;
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => count(name) > 1);
  metrics.sort((x, y) => isPairable(y) - isPairable(x));
  fillMenu(menus_.metric, metrics.map((name) => [name, name]));
  const refill = () => {
    const options = runs.map((run, i) => [i, run.name]).filter(([i]) => has(runs[i], menus_.metric.value));
    fillMenu(menus_.a, options);
    fillMenu(menus_.b, options);
    if (menus_.a.value === menus_.b.value && options.length > 1) menus_.b.value = partner(menus_.a.value, options);
    showComparison(menus_);
  };
  menus_.metric.addEventListener("input", refill);
  [menus_.a, menus_.b].forEach((menu) => menu.addEventListener("input", () => showComparison(menus_)));
  refill();
}
setUpComparison();
