// The page: asks again after every change, and shows what comes back.

import { AskError, ask } from "./ask.js";
import { count, debounced, h, refill } from "./dom.js";
import { inputs } from "./inputs.js";
import { interestColumns, shares } from "./interests.js";
import { differences, itemList, summary } from "./lists.js";
import { itemMap } from "./map.js";
import { change, comparable, onChange, readAddress, state } from "./state.js";
import { askTags, tagResults, userForm } from "./tags.js";

const PAUSE = 60;
const page = (id) => document.getElementById(id);
let update = () => {};
let shownKind = "";
let asking = null;
let lastAnswer = null;

function showProblem(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof AskError)) console.error(error);
  const again = h("button", { type: "button", class: "plain", click: () => (state.model ? compute() : start()) }, "Try again");
  page("problem").replaceChildren(h("p", { dir: "auto" }, error.message), again);
  page("problem").hidden = false;
  page("status").textContent = "";
}

function noProblem() {
  page("problem").hidden = true;
  page("problem").replaceChildren();
}

function versionName(model) {
  return `${model.model}, version ${model.version ?? model.key.split("/").pop()}`;
}

function choices() {
  const option = (model) => h("option", { value: model.key, disabled: model.kind === "" }, `${versionName(model)}${model.served ? "" : " (not served)"}`);
  const find = (key) => state.models.find((each) => each.key === key) ?? null;
  const choose = h("select", { id: "model", "data-key": "model", change: () => {
    const model = find(choose.value);
    const other = state.other && state.other.kind === model.kind && state.other !== model ? state.other : null;
    change({ model, other, tag: "", ...(model.kind === state.model.kind ? {} : { history: [], exclude: [], fields: {}, profile: {}, user: "" }) });
  } }, state.models.map(option));
  choose.value = state.model.key;
  const others = comparable();
  const compare = h("select", { id: "other", "data-key": "other", disabled: !others.length, change: () => change({ other: find(compare.value) }) },
    h("option", { value: "" }, others.length ? "nothing" : "no other version here"), others.map(option));
  compare.value = state.other?.key ?? "";
  refill(page("choices"), [
    h("label", { for: "model" }, "Model", choose), h("label", { for: "other" }, "Compare with", compare),
  ]);
}

/** The forms fit the kind of model. */
function forms() {
  if (shownKind === state.model.kind) return;
  shownKind = state.model.kind;
  update = shownKind === "user_tags" ? userForm(page("inputs"), showProblem) : inputs(page("inputs"), showProblem);
}

async function compute() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const models = [state.model, state.other].filter(Boolean);
  page("results").setAttribute("aria-busy", "true");
  const started = performance.now();
  try {
    const results = await Promise.all(models.map((model) => (model.kind === "user_tags" ? askTags(model, signal) : askItems(model, signal))));
    noProblem();
    show(results);
    const took = Math.round(performance.now() - started);
    page("status").textContent = `${said(results)} ${took} ms`;
    page("results").dataset.took = String(took);
    page("results").dataset.asked = String(Number(page("results").dataset.asked ?? 0) + 1);
  } catch (error) {
    if (error.name === "AbortError") return;
    showProblem(error);
  }
  if (!signal.aborted) page("results").removeAttribute("aria-busy");
}

async function askItems(model, signal) {
  const columns = new Set(model.filters.map((each) => each.column));
  const result = await ask("/api/explore", { signal, body: {
    model: model.key,
    history: state.history.map((item) => item.id),
    timestamps: state.history.map((item) => item.time ?? 0),
    exclude: state.exclude.slice(0, model.mostExclusions).map((item) => item.id),
    diversity: model.diversity ? state.diversity : 0,
    n: Math.min(state.n, model.mostResults),
    filters: Object.fromEntries(Object.entries(state.filters).filter(([column]) => columns.has(column))),
    profile: state.profile,
  } });
  return { ...result, version: model };
}

function said(results) {
  const [first] = results;
  if (first.tags) return "";
  return `${count(first.answer.length, "item")} by ${count(first.interests?.length ?? 0, "interest")},`;
}

function show(results) {
  const [first] = results;
  if (first.tags) {
    update();
    refill(page("results"), tagResults(results, showProblem));
    return;
  }
  // Titles of what stands in the address alone are known from now on.
  const times = state.history.map((item) => item.time);
  if (first.history.length === state.history.length) state.history = first.history.map((item, place) => ({ ...item, time: times[place] }));
  if (first.exclude.length === state.exclude.length) state.exclude = first.exclude;
  update(shares(first));
  lastAnswer = first;
  refill(page("results"), results.length > 1 ? compared(results) : explored(first), page("results"));
}

function explored(result) {
  return [
    h("section", { class: "card", "aria-label": "Interests" }, h("h2", {}, "Interests"), ...interestColumns(result, "a")),
    result.retrieval ? stages(result) : null,
    h("div", { class: "sides" },
      result.retrieval ? null : h("section", { class: "card", "aria-label": "Answer" }, h("h2", {}, "Answer"), itemList(result.answer, { label: "Answer", prefix: "a" })),
      h("section", { class: "card", "aria-label": "Map" }, h("h2", {}, "Map"), ...itemMap(result.version, result))),
  ];
}

function stages(result) {
  const found = differences(result.retrieval, result.answer);
  return h("section", { class: "card", "aria-label": "Two stages" }, h("h2", {}, "Two stages"),
    h("p", { class: "quiet" }, `${summary(found)} What retrieval found best need not be what the ranker puts first; what is new came from further down.`),
    h("div", { class: "sides" },
      h("div", {}, h("h3", {}, "Retrieval’s order"), itemList(result.retrieval, { label: "Retrieval’s order", gone: found.gone, prefix: "r" })),
      h("div", {}, h("h3", {}, "The ranker’s, which is answered"), itemList(result.answer, { label: "Answer", marks: found.marks, prefix: "a" }))));
}

function compared(results) {
  const [first, second] = results;
  const found = differences(first.answer, second.answer);
  return [
    h("section", { class: "card", "aria-label": "Comparison" }, h("h2", {}, "Two answers to the same history"),
      h("p", { class: "quiet", id: "summary" }, summary(found)),
      h("div", { class: "sides" },
        h("div", {}, h("h3", {}, versionName(first.version)), itemList(first.answer, { label: `Answer of ${versionName(first.version)}`, gone: found.gone, prefix: "a" })),
        h("div", {}, h("h3", {}, versionName(second.version)), itemList(second.answer, { label: `Answer of ${versionName(second.version)}`, marks: found.marks, prefix: "b" })))),
    ...results.map((result, place) => h("section", { class: "card", "aria-label": `Interests of ${versionName(result.version)}` },
      h("h2", {}, `Interests of ${versionName(result.version)}`), ...interestColumns(result, place ? "b" : "a"))),
    first.retrieval ? stages(first) : null,
    h("div", { class: "sides" }, results.map((result) => h("section", { class: "card", "aria-label": `Map of ${versionName(result.version)}` },
      h("h2", {}, `Map of ${versionName(result.version)}`), ...itemMap(result.version, result)))),
  ];
}

/** An item under the pointer, or with the focus, shows everywhere. */
function highlight(event) {
  const item = event.target.closest?.("[data-item]")?.dataset.item ?? event.target.closest?.("[data-mark]")?.dataset.mark ?? null;
  for (const each of document.querySelectorAll(".lit")) each.classList.remove("lit");
  if (item === null) return;
  for (const each of document.querySelectorAll("[data-item], [data-mark]")) {
    if ((each.dataset.item ?? each.dataset.mark) === item) each.classList.add("lit");
  }
}

const soon = debounced(compute, PAUSE);
onChange((changes) => {
  if ("model" in changes || "other" in changes) choices();
  forms();
  update("history" in changes ? [] : lastAnswer ? shares(lastAnswer) : []);
  // What is still being asked is no longer wanted.
  asking?.abort();
  page("results").setAttribute("aria-busy", "true");
  soon();
});
document.addEventListener("pointerover", highlight);
document.addEventListener("focusin", highlight);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (state.model) compute(); });

async function start() {
  try {
    const { models } = await ask("/api/models");
    noProblem();
    const usable = models.filter((model) => model.kind !== "");
    if (!usable.length) throw new AskError(models[0]?.why ?? "There is no model to explore.");
    const read = readAddress(usable);
    change({ ...read, models });
    if (!read.model.served) showProblem(new AskError(read.model.why));
  } catch (error) {
    showProblem(error);
  }
}

start();
