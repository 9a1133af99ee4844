// Lists of items: the answer, and two of them side by side with what differs marked.

import { add, describe, exclude } from "./inputs.js";
import { count, h, score } from "./dom.js";
import { state } from "./state.js";

/** How two lists differ: for each id of the second, `null` where it stands as before, else how it moved, or "new"; ids that are gone. */
export function differences(before, after) {
  const places = new Map(before.map((item, place) => [item.id, place]));
  const marks = new Map(after.map((item, place) => [item.id, places.has(item.id) ? places.get(item.id) - place : "new"]));
  const gone = new Set(before.filter((item) => !marks.has(item.id)).map((item) => item.id));
  const moved = [...marks.values()].filter((mark) => mark !== "new" && mark !== 0).length;
  return { marks, gone, moved, added: after.length - (before.length - gone.size), both: before.length - gone.size };
}

/** One sentence about `differences`. */
export function summary(found) {
  if (!found.gone.size && !found.added && !found.moved) return "The same items in the same order.";
  return `${count(found.both, "item")} in both, ${found.moved} of them at another place; ${found.gone.size} gone, ${found.added} new.`;
}

/**
 * The items in order.
 * @param {object} options label; marks: a map from id to a place's change; gone: ids that the other list lacks; prefix of keys.
 */
export function itemList(items, { label, marks = null, gone = null, prefix }) {
  if (!items.length) return h("p", { class: "quiet" }, "No item fits.");
  const scores = items.map((item) => item.score).filter((value) => value !== null);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  return h("ol", { class: "items", "aria-label": label }, items.map((item) => {
    const mark = marks?.get(item.id);
    const isGone = gone?.has(item.id);
    const changed = isGone ? "gone" : mark === "new" ? "new" : mark ? "moved" : "";
    return h("li", { "data-item": item.id, class: changed },
      picture(item),
      h("div", { class: "words" },
        h("span", { class: "title", dir: "auto" }, item.title),
        h("span", { class: "quiet" }, describe(item))),
      badge(mark, isGone),
      interestPill(item.interest),
      h("span", { class: "score", style: { "--share": high > low && item.score !== null ? (item.score - low) / (high - low) : 1 } }, score(item.score)),
      actions(item, prefix));
  }));
}

function badge(mark, isGone) {
  if (isGone) return h("span", { class: "badge gone" }, "gone");
  if (mark === "new") return h("span", { class: "badge new" }, "new");
  if (!mark) return null;
  const words = `${mark > 0 ? "up" : "down"} ${Math.abs(mark)}`;
  return h("span", { class: "badge moved", title: words }, h("span", { "aria-hidden": "true" }, `${mark > 0 ? "▲" : "▼"}${Math.abs(mark)}`),
    h("span", { class: "unseen" }, words));
}

/** Which interest found an item. */
export function interestPill(interest) {
  if (interest === undefined) return null;
  if (interest < 0) return h("span", { class: "pill popular", title: "from the list of popular items" }, "popular");
  return h("span", { class: `pill interest-${interest % 8}`, title: `found by interest ${interest}` },
    h("span", { class: "unseen" }, "interest "), String(interest));
}

/** An item's picture, where the catalogue has one and pictures are allowed. */
export function picture(item) {
  if (!item.picture) return null;
  return h("img", { src: item.picture, alt: "", loading: "lazy", referrerpolicy: "no-referrer", width: "40", height: "40" });
}

function actions(item, prefix) {
  const full = state.exclude.length >= state.model.mostExclusions;
  return h("span", { class: "actions" },
    h("button", { type: "button", class: "icon", "aria-label": `Add ${item.title} to the history`, title: "Add to the history", "data-key": `${prefix}-add-${item.id}`, click: () => add(item) }, "+"),
    h("button", { type: "button", class: "icon", disabled: full, "aria-label": `Leave out ${item.title}`, title: "Leave out", "data-key": `${prefix}-out-${item.id}`, click: () => exclude(item) }, "⊘"));
}
