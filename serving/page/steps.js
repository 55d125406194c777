// One step of a run as one card of the trail: what was done, why, and what it gave. A search shows
// its hits twice: as a strip to take in at a glance, and as a list to read.

import { alien, button, el, icon } from "./dom.js";
import { codePoints, counted, milliseconds } from "./text.js";

const SEARCHES = { keyword: "Keyword", dense: "Dense", late: "Late interaction", sparse: "Sparse", filtered: "Filtered", hybrid: "Hybrid" };
const VERBS = { browse: "Opened", aggregate: "Counted", recall: "Remembered", clarify: "Asked back", answer: "Answered" };
const FIRST_HITS = 5;
const MAX_ROWS = 200;
const NOT_SHOWN = new Set(["query", "where", "passage_id", "url", "k", "thought"]);

/**
 * Make the card of a step.
 * @param {object} view the server's StepView
 * @param {object} run `hits` collects what is shown of each document, `open` shows a passage,
 *   `origin(doc)` says where a document was last listed
 */
export function stepCard(view, run) {
  const { step } = view;
  const error = step.observation?.error;
  return el(
    "li",
    { class: `step ${step.action}${error ? " failed" : ""}`, "data-n": step.n },
    el("div", { class: "node" }, icon(error ? "failed" : step.action)),
    el(
      "div",
      { class: "card" },
      el("p", { class: "line" }, headline(view, run), el("span", { class: "time" }, milliseconds(step.ms ?? 0))),
      settings(step.args ?? {}),
      step.thought ? el("p", { class: "thought" }, alien(step.thought)) : null,
      error ? el("p", { class: "error" }, el("strong", {}, "Failed: "), alien(error)) : null,
      observed(view, run),
    ),
  );
}

function headline({ step, opened }, run) {
  if (step.action === "search") {
    const kind = SEARCHES[step.tool] ?? step.tool ?? "";
    return [el("strong", {}, `${kind} search`.trim()), " ", el("q", {}, alien(step.args?.query ?? ""))];
  }
  const verb = el("strong", {}, VERBS[step.action] ?? step.action);
  if (step.action !== "browse") return verb;
  const title = opened?.[0]?.title || step.observation?.doc_id || step.args?.passage_id || step.args?.url || "";
  const origin = step.observation?.doc_id ? run.origin(step.observation.doc_id) : null;
  const target = opened?.length
    ? button({ class: "link title", onclick: () => run.open(opened[0]) }, alien(title))
    : alien(title, { class: "title" });
  return [verb, " ", target, origin ? el("span", { class: "origin" }, ` rank ${origin.rank} of step ${origin.n}`) : null];
}

/** The filter, and whatever else was asked for. */
function settings(args) {
  const rest = Object.entries(args).filter(([name, value]) => !NOT_SHOWN.has(name) && value !== null && value !== "");
  const shown = [...(args.where ? [["where", args.where]] : []), ...rest];
  if (shown.length === 0) return null;
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return el("p", { class: "settings" }, shown.map(([name, value]) => [el("span", {}, alien(name), " ", el("code", {}, alien(text(value)))), " "]).flat());
}

function observed(view, run) {
  const { hits, table, text, recalled } = view.step.observation ?? {};
  if (view.opened?.length) return view.opened.map((passage) => reading(passage, view.opened.length > 1));
  if (hits) return hitList(view.hits ?? hits, view.step, run);
  if (table) return tableOf(table);
  if (recalled) return el("ul", { class: "recalled" }, recalled.map((id) => el("li", {}, button({ class: "link", onclick: () => run.open({ passage_id: id }) }, alien(id)))));
  return text && view.step.action === "browse" ? reading({ text }, false) : null;
}

function reading(passage, named) {
  const label = named && passage.passage_id ? [alien(passage.passage_id), ", "] : "Read the passage, ";
  return el(
    "details",
    { class: "reading" },
    el("summary", {}, label, counted(codePoints(passage.text), "character")),
    el("div", { class: "passage", dir: "auto" }, passage.text),
  );
}

function hitList(hits, step, run) {
  if (hits.length === 0) return el("p", { class: "none" }, "No hits.");
  const heights = relative(hits);
  const strip = el("div", { class: "strip", role: "img" });
  const list = el("ol", { class: "hits" });
  hits.forEach((hit, place) => {
    const bar = el("span", { class: "bar", title: `${hit.rank}. ${hit.title || hit.doc_id}` }, el("i"), el("b", {}, String(hit.rank)));
    bar.style.setProperty("--score", heights[place]);
    const mark = el("span", { class: "mark" });
    const row = el(
      "li",
      { class: `hit${place >= FIRST_HITS ? " further" : ""}`, "data-doc": hit.doc_id },
      el("span", { class: "rank" }, String(hit.rank)),
      mark,
      el(
        "div",
        { class: "what" },
        button({ class: "link title", onclick: () => run.open(hit) }, alien(hit.title || hit.doc_id)),
        hit.snippet ? el("span", { class: "snippet" }, " ", alien(hit.snippet)) : null,
      ),
      el("span", { class: "score", title: "score" }, hit.score === null || hit.score === undefined ? "" : hit.score.toFixed(2)),
    );
    strip.append(bar);
    list.append(row);
    run.hits.push({ doc: hit.doc_id, rank: hit.rank, n: step.n, bar, row, mark, strip });
  });
  return [strip, list, hits.length > FIRST_HITS ? unfold(list, hits.length) : null];
}

function unfold(list, total) {
  const control = button(
    {
      class: "link more",
      "aria-expanded": "false",
      onclick: () => {
        const all = list.classList.toggle("all");
        control.setAttribute("aria-expanded", String(all));
        control.textContent = all ? "Show fewer" : `Show all ${total} hits`;
      },
    },
    `Show all ${total} hits`,
  );
  return control;
}

/** Scores between 0 and 1 within their list; scores of different retrievers do not compare. */
function relative(hits) {
  const scores = hits.map((hit) => hit.score ?? -hit.rank);
  const least = Math.min(...scores);
  const span = Math.max(...scores) - least;
  return scores.map((score) => (span > 0 ? (score - least) / span : 1));
}

function tableOf(rows) {
  if (rows.length === 0) return el("p", { class: "none" }, "No documents.");
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const table = el(
    "table",
    {},
    el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, alien(name))))),
    el("tbody", {}, rows.slice(0, MAX_ROWS).map((row) => el("tr", {}, names.map((name) => el("td", {}, alien(cell(row[name]))))))),
  );
  const left = rows.length - MAX_ROWS;
  return el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, table, left > 0 ? el("p", {}, `… and ${counted(left, "row")} more`) : null);
}
