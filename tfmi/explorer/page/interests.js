// The interests of a history as columns: what feeds each, and what each finds.

import { count, h, score } from "./dom.js";

const FEEDING = 5;
const FOUND = 6;

/** The columns of one version. `answered` is the set of ids in the merged answer. */
export function interestColumns(result, prefix) {
  if (!result.interests || !result.interests.length) return [h("p", { class: "quiet" }, result.whyNot || "This model has no interests.")];
  const answered = new Set(result.answer.map((item) => item.id));
  const note = result.interests.some((interest) => !interest.weights) ? [h("p", { class: "quiet" }, result.whyNot)] : [];
  return [...note, h("div", { class: "columns" }, result.interests.map((interest, number) => column(interest, number, result, answered, prefix)))];
}

/** For each item of the history, how much of it went to each interest. */
export function shares(result) {
  if (!result?.interests?.every((interest) => interest.weights)) return [];
  return result.history.map((_, place) => result.interests.map((interest) => Math.max(interest.weights[place] ?? 0, 0)));
}

function column(interest, number, result, answered, prefix) {
  const places = result.answer.filter((item) => item.interest === number).length;
  return h("section", { class: `column interest-${number % 8}`, "aria-label": `Interest ${number}` },
    h("h3", {}, h("span", { class: "number" }, String(number)), `Interest ${number}`,
      h("span", { class: "quiet" }, places ? `${count(places, "place")} of the answer` : "no place in the answer")),
    interest.weights ? [h("h4", {}, "Fed by"), ...feeding(interest.weights, result.history, `${prefix}-fed-${number}`)] : null,
    h("h4", {}, "Finds"),
    ...cut(interest.items.map((item) => h("li", { "data-item": item.id, class: answered.has(item.id) ? "answered" : "" },
      h("span", { class: "title", dir: "auto" }, item.title),
      h("span", { class: "value" }, score(item.score)),
      answered.has(item.id) ? h("span", { class: "unseen" }, "in the answer") : null)), FOUND, `${prefix}-found-${number}`, "finds"));
}

function feeding(weights, history, key) {
  const total = weights.reduce((sum, weight) => sum + Math.abs(weight), 0);
  const fed = weights.map((weight, place) => ({ weight, item: history[place] })).filter(({ weight, item }) => weight && item);
  fed.sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight));
  if (!total || !fed.length) return [h("p", { class: "quiet" }, "Nothing of the history.")];
  const most = Math.abs(fed[0].weight);
  return cut(fed.map(({ weight, item }) => h("li", { "data-item": item.id, class: "fed" },
    h("span", { class: "title", dir: "auto" }, item.title),
    h("span", { class: "value" }, `${Math.round((100 * weight) / total)} %`),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * Math.abs(weight)) / most}%` } })))), FEEDING, key, "items");
}

/** The first rows, and the others behind a disclosure. */
function cut(rows, most, key, what) {
  if (!rows.length) return [h("p", { class: "quiet" }, "Nothing.")];
  const list = h("ul", { class: "plain-list" }, rows.slice(0, most));
  if (rows.length <= most) return [list];
  return [list, h("details", { "data-key": key }, h("summary", {}, `${rows.length - most} more`), h("ul", { class: "plain-list" }, rows.slice(most)))];
}
