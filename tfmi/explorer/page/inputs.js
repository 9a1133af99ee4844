// The left side for retrievers: the history, and what the answer has to be.

import { ask, withQuery } from "./ask.js";
import { combobox } from "./combobox.js";
import { count, h, refill } from "./dom.js";
import { change, state } from "./state.js";
import { userPicker } from "./users.js";

const MOST_HISTORY = 1000;

/** The forms; returns what brings them up to date. */
export function inputs(container, showProblem) {
  const history = h("div", { class: "card" });
  const wishes = h("div", { class: "card" });
  const users = h("div", {});
  const list = h("div", {});
  const search = combobox({
    label: "Add an item by its title", placeholder: "Search titles …", problem: showProblem,
    find: async (words, signal) => {
      const { items } = await ask(withQuery("/api/search", { model: state.model.key, q: words }), { signal });
      return items.map((item) => ({ ...item, text: item.title, detail: describe(item) }));
    },
    pick: (item) => add(item),
  });
  history.append(h("h2", {}, "History"), search, users, list);
  container.replaceChildren(history, wishes);
  const slider = sliders();
  const filters = h("div", {});
  const excluded = h("div", {});
  const profile = h("div", {});
  wishes.append(h("h2", {}, "The answer"), slider.element, filters, excluded, profile);

  let shownModel = null;
  return function update(shares = []) {
    if (shownModel !== state.model.key) {
      shownModel = state.model.key;
      users.replaceChildren(...sampleUsers(showProblem));
      slider.newModel();
    }
    slider.update();
    refill(list, historyList(shares), container.querySelector("input[role=combobox]"));
    refill(filters, filterForms());
    refill(excluded, exclusions(), container.querySelector("input[role=combobox]"));
    refill(profile, profileFacts());
  };
}

/** Add an item to the history, as the newest. */
export function add(item) {
  if (state.history.length >= MOST_HISTORY) return;
  change({ history: [...state.history, item] });
}

/** Leave an item out of answers. */
export function exclude(item) {
  if (!state.exclude.some((each) => each.id === item.id)) change({ exclude: [...state.exclude, item] });
}

/** Category and whatever else is shown of an item. */
export function describe(item) {
  return [item.category, item.details].filter(Boolean).join(" · ");
}

function sampleUsers(showProblem) {
  return userPicker({
    names: state.model.users.map((user) => `${user.name} (${count(user.items, "item")})`),
    label: "Or take a held-out user",
    none: "This version holds no sample users (export.sample_users).",
    take: (user) => {
      const history = user.history.map((item, place) => ({ ...item, time: user.timestamps[place] ?? 0 }));
      change({ history, profile: user.profile, user: user.name });
    },
    showProblem,
  });
}

function historyList(shares) {
  const items = state.history;
  if (!items.length) return [h("p", { class: "quiet" }, "No item yet: the answer is what is popular.")];
  const rows = items.map((item, place) => h("li", { "data-item": item.id, class: item.read === false || item.known === false ? "unread" : "" },
    h("div", { class: "words" },
      h("span", { class: "title", dir: "auto" }, item.title),
      h("span", { class: "quiet" }, note(item)),
      portions(shares[place])),
    h("button", {
      type: "button", class: "icon", "aria-label": `Remove ${item.title}`, title: "Remove", "data-key": `remove-${place}`,
      click: () => change({ history: state.history.filter((_, other) => other !== place) }),
    }, "×"))).reverse();
  return [
    h("div", { class: "row spread" },
      h("p", { class: "quiet" }, `${count(items.length, "item")}, the newest first${state.user ? `, to begin with of ${state.user}` : ""}`),
      h("button", { type: "button", class: "plain", "data-key": "clear", click: () => change({ history: [], profile: {}, user: "" }) }, "Clear")),
    h("ol", { class: "history", reversed: true, "aria-label": "History, the newest first", "data-scroll": "history", tabindex: rows.length > 8 ? "0" : null }, rows),
  ];
}

function note(item) {
  if (item.known === false) return "unknown to this model";
  const older = item.read === false ? "older than what the model reads" : "";
  return [describe(item), older].filter(Boolean).join(" · ");
}

/** Which interests an item goes to, as one bar; the columns of interests say it in words. */
function portions(share) {
  if (!share || !share.some((part) => part > 0)) return null;
  const total = share.reduce((sum, part) => sum + part, 0);
  return h("span", { class: "portions", "aria-hidden": "true" }, share.map((part, interest) => (part / total > 0.01
    ? h("span", { class: `interest-${interest % 8}`, style: { width: `${(100 * part) / total}%` } }) : null)));
}

function sliders() {
  const n = h("input", { type: "range", id: "n", min: "1", step: "1", "data-key": "n" });
  const nValue = h("output", { for: "n" });
  const strength = h("input", { type: "range", id: "diversity", min: "0", "data-key": "diversity", "aria-describedby": "diversity-note" });
  const strengthValue = h("output", { for: "diversity" });
  const strengthNote = h("p", { class: "quiet", id: "diversity-note" });
  n.addEventListener("input", () => change({ n: Number(n.value) }));
  strength.addEventListener("input", () => change({ diversity: Number(strength.value) }));
  return {
    element: h("div", {},
      h("div", { class: "slider" }, h("label", { for: "n" }, "Items n"), n, nValue),
      h("div", { class: "slider" }, h("label", { for: "diversity" }, "Diversity λ"), strength, strengthValue),
      strengthNote),
    newModel() {
      const { model } = state;
      n.max = String(Math.min(model.mostResults, 100));
      // λ is on the scale of scores: cosines of a retriever, logits of a ranker.
      strength.max = model.twoStages ? "5" : "1";
      strength.step = model.twoStages ? "0.05" : "0.01";
      strength.disabled = !model.diversity;
      strengthNote.textContent = model.diversity
        ? "Score that each further item of a category costs."
        : "This catalogue has no categories, so that λ changes nothing.";
    },
    update() {
      n.value = String(state.n);
      nValue.textContent = n.value;
      strength.value = String(state.diversity);
      strengthValue.textContent = Number(strength.value).toFixed(2);
    },
  };
}

function filterForms() {
  const columns = state.model.filters;
  if (!columns.length) return [h("p", { class: "quiet" }, "No filters: this version was exported without export.filterable.")];
  return columns.map((column) => (column.kind === "range" ? rangeForm(column) : valueForm(column)));
}

function wish(column) {
  return { allow: [], deny: [], min: null, max: null, ...state.filters[column] };
}

function setWish(column, changes) {
  const wanted = { ...wish(column), ...changes };
  const filters = { ...state.filters, [column]: wanted };
  if (!wanted.allow.length && !wanted.deny.length && wanted.min === null && wanted.max === null) delete filters[column];
  change({ filters });
}

function valueForm({ column, values = [] }) {
  const wanted = wish(column);
  const chosen = [...wanted.allow, ...wanted.deny];
  const choose = (kind, words) => h("select", {
    "aria-label": `${words} ${column}`, "data-key": `${kind}-${column}`,
    change: (event) => { if (event.target.value) setWish(column, { [kind]: [...wanted[kind], event.target.value] }); },
  }, h("option", { value: "" }, `${words} …`), values.filter((value) => !chosen.includes(value)).map((value) => h("option", { value }, value)));
  const chip = (kind, words, value) => chipOf(`${words} ${value}`, `Lift the filter ${words} ${value}`, `lift-${kind}-${column}-${value}`,
    () => setWish(column, { [kind]: wanted[kind].filter((other) => other !== value) }));
  return h("fieldset", {}, h("legend", {}, column),
    h("div", { class: "row" }, choose("allow", "only"), choose("deny", "without")),
    h("div", { class: "chips" },
      wanted.allow.map((value) => chip("allow", "only", value)), wanted.deny.map((value) => chip("deny", "without", value))));
}

function rangeForm({ column, min = null, max = null }) {
  const wanted = wish(column);
  const field = (kind, bound) => h("label", { class: "bound" }, kind === "min" ? "from" : "to", h("input", {
    type: "number", step: "any", value: wanted[kind] ?? "", placeholder: bound === null ? "" : String(Number(bound.toPrecision(4))),
    "data-key": `${kind}-${column}`, "aria-label": `${column} ${kind === "min" ? "from" : "to"}`,
    change: (event) => setWish(column, { [kind]: event.target.value === "" ? null : Number(event.target.value) }),
  }));
  return h("fieldset", {}, h("legend", {}, column), h("div", { class: "row" }, field("min", min), field("max", max)));
}

/** A chip with a button that takes it away. */
export function chipOf(text, label, key, lift) {
  return h("span", { class: "chip" }, h("span", { dir: "auto" }, text),
    h("button", { type: "button", class: "icon", "aria-label": label, "data-key": key, click: lift }, "×"));
}

function exclusions() {
  const most = state.model.mostExclusions;
  const parts = [h("h3", {}, "Left out")];
  if (!state.exclude.length) parts.push(h("p", { class: "quiet" }, state.model.excludesHistory
    ? "The history, as this version was exported. “Leave out” at an item adds it."
    : "Nothing. “Leave out” at an item adds it."));
  if (state.exclude.length > most) parts.push(h("p", { class: "warning" }, `This version takes ${count(most, "exclusion")} at most.`));
  parts.push(h("div", { class: "chips" }, state.exclude.map((item) => chipOf(item.title, `Allow ${item.title} again`, `allow-${item.id}`,
    () => change({ exclude: state.exclude.filter((other) => other.id !== item.id) })))));
  return parts;
}

function profileFacts() {
  const names = Object.keys(state.profile);
  if (!names.length) return [];
  const text = (value) => (value && typeof value === "object" ? Object.keys(value).join(", ") : String(value));
  return [h("h3", {}, "Profile"),
    h("div", { class: "chips" }, names.map((name) => chipOf(`${name}: ${text(state.profile[name])}`, `Forget ${name}`, `forget-${name}`, () => {
      const profile = { ...state.profile };
      delete profile[name];
      change({ profile });
    })))];
}
