// The held-out users that a version keeps, to take one of them.

import { ask, withQuery } from "./ask.js";
import { h } from "./dom.js";
import { state } from "./state.js";

/**
 * The elements of a list of users with a button for the next one.
 * names: as they are shown; label: of the list; none: said where there are none; take: called with the user that was chosen.
 */
export function userPicker({ names, label, none, take, showProblem }) {
  if (!names.length) return [h("p", { class: "quiet" }, none)];
  const choose = h("select", { id: "sample-user", "data-key": "sample-user" },
    h("option", { value: "" }, "choose …"), names.map((name, place) => h("option", { value: place }, name)));
  const chosen = async () => {
    if (choose.value === "") return;
    try {
      take(await ask(withQuery("/api/users", { model: state.model.key, user: choose.value })));
    } catch (error) {
      showProblem(error);
    }
  };
  choose.addEventListener("change", chosen);
  const next = h("button", { type: "button", class: "plain", click: () => {
    choose.value = String((Number(choose.value === "" ? -1 : choose.value) + 1) % names.length);
    chosen();
  } }, "Next");
  return [h("label", { for: "sample-user" }, label), h("div", { class: "row" }, choose, next)];
}
