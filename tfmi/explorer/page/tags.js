// Models of users' tags: a user's fields on the left; tags, reasons and audiences on the right.

import { ask, withQuery } from "./ask.js";
import { combobox } from "./combobox.js";
import { count, h, refill, score } from "./dom.js";
import { chipOf } from "./inputs.js";
import { differences, summary } from "./lists.js";
import { change, state } from "./state.js";
import { userPicker } from "./users.js";

const SHOWN = 20;

/** The form of a user; returns what brings it up to date. */
export function userForm(container, showProblem) {
  const users = h("div", {});
  const fields = h("div", {});
  container.replaceChildren(h("div", { class: "card" }, h("h2", {}, "User"), users, fields));
  let shownModel = null;
  return function update() {
    if (shownModel !== state.model.key) {
      shownModel = state.model.key;
      users.replaceChildren(...sampleUsers(showProblem));
    }
    refill(fields, state.model.fields.map(fieldForm));
  };
}

function sampleUsers(showProblem) {
  return userPicker({
    names: state.model.users,
    label: "A user of the data",
    none: "This version holds no sample users: say below what is known of one.",
    take: (user) => change({ fields: user.fields, user: user.name }),
    showProblem,
  });
}

function setField(name, value) {
  const fields = { ...state.fields };
  if (value === null || value === "" || (typeof value === "object" && !Object.keys(value).length)) delete fields[name];
  else fields[name] = value;
  change({ fields });
}

function fieldForm({ name, kind, width }) {
  const value = state.fields[name];
  const id = `field-${name}`;
  if (kind !== "multi_valued") {
    const isNumber = kind !== "categorical";
    return h("div", { class: "field" }, h("label", { for: id }, name), h("input", {
      id, type: isNumber ? "number" : "text", step: "any", value: value ?? "", "data-key": id, maxlength: "1000",
      change: (event) => setField(name, event.target.value === "" ? null : isNumber ? Number(event.target.value) : event.target.value),
    }));
  }
  const values = value && typeof value === "object" ? value : {};
  const take = (event) => {
    if (event.key !== "Enter" || !event.target.value.trim()) return;
    event.preventDefault();
    setField(name, { ...values, [event.target.value.trim()]: 1 });
  };
  const full = width && Object.keys(values).length >= width;
  return h("div", { class: "field" }, h("label", { for: id }, name),
    h("div", { class: "chips" }, Object.entries(values).map(([each, weight]) => chipOf(
      weight === 1 ? each : `${each} × ${Number(weight.toPrecision(3))}`, `Remove ${each} from ${name}`, `${id}-${each}`, () => {
        const { [each]: _, ...others } = values;
        setField(name, others);
      }))),
    h("input", { id, type: "text", placeholder: full ? `${width} at most` : "add a value, Enter", disabled: Boolean(full), "data-key": id, keydown: take, maxlength: "1000" }));
}

/** What is asked of one version: the user's tags and, of a tag that is looked into, reasons and audience. */
export async function askTags(model, signal) {
  const body = { model: model.key, fields: fieldsOf(model) };
  const questions = [ask("/api/tags", { body, signal })];
  if (state.tag) {
    questions.push(ask("/api/reasons", { body: { ...body, tag: state.tag }, signal }));
    if (model.audience) questions.push(ask("/api/audience", { body: { model: model.key, tag: state.tag }, signal }));
  }
  const [tags, reasons = null, audience = null] = await Promise.all(questions);
  return { model, tags, reasons, audience };
}

function fieldsOf(model) {
  const names = new Set(model.fields.map((field) => field.name));
  return Object.fromEntries(Object.entries(state.fields).filter(([name]) => names.has(name)));
}

let tagBox = null;

/** The right side. */
export function tagResults(results, showProblem) {
  const [first, second] = results;
  tagBox ??= combobox({
    label: "Look into a tag", placeholder: "Search tags …", problem: showProblem, keepsText: true, key: "tag-search",
    find: async (words, signal) => {
      const { tags } = await ask(withQuery("/api/search", { model: state.model.key, q: words }), { signal });
      // A version without its table of tags takes any.
      return (tags.length ? tags : [words]).map((tag) => ({ text: tag }));
    },
    pick: (option) => change({ tag: option.text }),
  });
  const tasks = Object.keys(first.tags.tasks);
  return [h("div", { class: second ? "" : "sides" },
    h("section", { class: "card", "aria-label": "Tags" }, h("h2", {}, "Tags of the user"),
      first.tags.coldStart ? h("p", { class: "quiet" }, "Nothing is known of this user: these are the popular tags, with their share of the events.") : null,
      h("div", { class: second ? "" : "tasks" }, tasks.map((task) => tagTask(task, first, second)))),
    h("section", { class: "card", "aria-label": "Reasons" }, h("h2", {}, "Reasons and audience"), tagBox,
      state.tag ? [h("h3", { dir: "auto" }, state.tag), ...results.map((result) => lookedInto(result, results.length > 1))]
        : h("p", { class: "quiet" }, "Choose a tag of the user, or search for one: why this user has its score, and whom it interests.")),
  )];
}

function tagTask(task, first, second) {
  const lists = [first, second].filter(Boolean).map((result) => (result.tags.tasks[task] ?? []).slice(0, SHOWN).map((tag) => ({ ...tag, id: tag.tag })));
  const found = lists.length > 1 ? differences(...lists) : null;
  const list = (tags, name, place) => h("div", {}, second ? h("h4", {}, name) : null,
    h("ol", { class: "items", "aria-label": `${task}, ${name}` }, tags.map((tag) => tagRow(tag, found, place, `${task}-${place}`))));
  return h("div", { class: "task" }, h("h3", {}, task),
    found ? h("p", { class: "quiet" }, summary(found)) : null,
    h("div", { class: second ? "sides" : "" }, lists.map((tags, place) => list(tags, (place ? second : first).model.key, place))));
}

function tagRow(tag, found, place, prefix) {
  const mark = place === 1 ? found.marks.get(tag.id) : null;
  const isGone = place === 0 && found?.gone.has(tag.id);
  const words = isGone ? "gone" : mark === "new" ? "new" : mark ? `${mark > 0 ? "▲" : "▼"}${Math.abs(mark)}` : "";
  return h("li", { class: isGone ? "gone" : mark === "new" ? "new" : mark ? "moved" : "" },
    h("button", { type: "button", class: "tag", dir: "auto", "aria-pressed": String(state.tag === tag.tag), "data-key": `${prefix}-${tag.tag}`,
      click: () => change({ tag: state.tag === tag.tag ? "" : tag.tag }) }, tag.tag),
    words ? h("span", { class: `badge ${isGone ? "gone" : mark === "new" ? "new" : "moved"}` }, words) : null,
    h("span", { class: "score", style: { "--share": tag.probability }, title: `score ${tag.score}` }, `${(100 * tag.probability).toFixed(1)} %`));
}

function lookedInto(result, isNamed) {
  const tasks = Object.entries(result.reasons?.tasks ?? {});
  return h("div", { class: "looked" }, isNamed ? h("h4", {}, result.model.key) : null,
    tasks.map(([task, why]) => h("div", { class: "task" }, h("h4", {}, task), ...(why.known ? reasons(why) : [h("p", { class: "quiet" }, "Unknown to this model.")]),
      ...audience(result.audience?.tasks?.[task], `${result.model.key}-${task}`))));
}

function reasons(why) {
  const experts = why.experts.map((part, expert) => ({ part, expert })).filter(({ expert }) => why.gates[expert]);
  const sum = experts.map(({ part, expert }) => `expert ${expert} ${signed(part)}`).concat(why.bias ? [`bias ${signed(why.bias)}`] : []).join(", ");
  const all = [...why.fields, ...why.values];
  const most = Math.max(...all.map((each) => Math.abs(each.effect)), 1e-9);
  const rows = (evidence) => h("ul", { class: "plain-list" }, evidence.map((each) => h("li", { class: each.effect < 0 ? "against" : "for" },
    h("span", { class: "title", dir: "auto" }, each.value === null ? each.field : `${each.field}: ${each.value}`),
    h("span", { class: "value" }, signed(each.effect)),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * Math.abs(each.effect)) / most}%` } })))));
  return [
    h("p", {}, `Score ${score(why.score)} = ${sum}`),
    why.fields.length ? h("h5", {}, "By field: the score with it, minus without") : null, why.fields.length ? rows(why.fields) : null,
    why.values.length ? h("h5", {}, "By value") : null, why.values.length ? rows(why.values) : null,
  ];
}

function audience(users, key) {
  if (!users) return [];
  if (!users.length) return [h("p", { class: "quiet" }, "Nobody.")];
  const row = (user) => h("li", {}, h("span", { class: "title", dir: "auto" }, user.user), h("span", { class: "value" }, `${(100 * user.probability).toFixed(1)} %`));
  return [h("details", { "data-key": key }, h("summary", {}, `Audience: the ${count(users.length, "user")} whom it interests most`),
    h("ol", { class: "plain-list audience" }, users.map(row)))];
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}
