// A search box with a list of what was found (the combobox of the ARIA authoring practices).

import { AskError } from "./ask.js";
import { count, debounced, h, newId } from "./dom.js";

const PAUSE = 120;

/**
 * @param {object} options label, placeholder; find(words, signal): a promise of options with `text` and `detail`; pick(option);
 *   problem(error); keepsText: whether what was picked stays in the box.
 */
export function combobox({ label, placeholder, find, pick, problem, keepsText = false, key = "search" }) {
  const listId = newId("options");
  let found = [];
  let active = -1;
  let asking = null;
  const input = h("input", {
    id: newId("box"), type: "text", role: "combobox", "aria-expanded": "false", "aria-controls": listId, "aria-autocomplete": "list",
    autocomplete: "off", spellcheck: "false", placeholder, "data-key": key, maxlength: "200",
  });
  const list = h("ul", { id: listId, role: "listbox", class: "options", "aria-label": label, hidden: true });
  const said = h("p", { class: "quiet", role: "status", "aria-live": "polite" });

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  }

  function show() {
    list.replaceChildren(...found.map((option, place) => h(
      "li", {
        id: `${listId}-${place}`, role: "option", "aria-selected": String(place === active), "data-option": option.id ?? option.text,
        pointerdown: (event) => { event.preventDefault(); choose(place); },
      },
      h("span", { class: "title", dir: "auto" }, option.text), option.detail ? h("span", { class: "quiet" }, option.detail) : null,
    )));
    list.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(found.length > 0));
    if (active >= 0) {
      input.setAttribute("aria-activedescendant", `${listId}-${active}`);
      list.children[active].scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function choose(place) {
    const option = found[place];
    if (!option) return;
    input.value = keepsText ? option.text : "";
    found = [];
    said.textContent = "";
    close();
    input.focus();
    pick(option);
  }

  async function search() {
    asking?.abort();
    const words = input.value.trim();
    if (!words) { found = []; said.textContent = ""; close(); return; }
    asking = new AbortController();
    try {
      found = await find(words, asking.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof AskError)) throw error;
      problem(error);
      return;
    }
    active = -1;
    said.textContent = found.length ? `${count(found.length, "match", "matches")}; arrow keys choose, Enter takes.` : `Nothing is called like that.`;
    show();
  }

  const soon = debounced(search, PAUSE);
  input.addEventListener("input", soon);
  input.addEventListener("focus", () => { if (input.value.trim() && !found.length) soon(); else if (found.length) show(); });
  input.addEventListener("blur", () => close());
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!found.length) { soon(); return; }
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      active = active < 0 && step < 0 ? found.length - 1 : (active + step + found.length) % found.length;
      show();
    } else if (event.key === "Enter" && found.length) {
      event.preventDefault();
      choose(Math.max(active, 0));
    } else if (event.key === "Escape") {
      if (!list.hidden) { event.preventDefault(); close(); } else input.value = "";
    }
  });
  return h("div", { class: "combobox" }, h("label", { for: input.id }, label), h("div", { class: "box" }, input, list), said);
}
