// What is asked. It stands in the address, too, so that loading the page again, or sending the address to somebody, shows the same.

export const state = {
  models: [],
  model: null, // the description of the version that is explored
  other: null, // the one that it is compared with
  history: [], // items, oldest first, each with `time` if known
  exclude: [],
  diversity: 0,
  n: 20,
  filters: {}, // by column: { allow: [], deny: [], min: null, max: null }
  profile: {},
  user: "", // whose history it was to begin with
  fields: {}, // of a user of a tag model
  tag: "", // that is looked into
};

const listeners = [];

/** Call `listener` after every change. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Take over `changes` and tell everybody. */
export function change(changes) {
  Object.assign(state, changes);
  writeAddress();
  for (const listener of listeners) listener(changes);
}

/** The versions that can be compared with the one that is explored. */
export function comparable() {
  return state.models.filter((each) => each.kind === state.model?.kind && each.key !== state.model?.key);
}

const KEPT_CHARACTERS = 20000;

function writeAddress() {
  const kept = new URLSearchParams();
  if (state.model) kept.set("model", state.model.key);
  if (state.other) kept.set("with", state.other.key);
  for (const item of state.history) kept.append("h", item.id);
  for (const item of state.exclude) kept.append("x", item.id);
  if (state.diversity) kept.set("diversity", state.diversity);
  if (state.n !== 20) kept.set("n", state.n);
  for (const [name, value] of [["filters", state.filters], ["profile", state.profile], ["fields", state.fields]]) {
    if (Object.keys(value).length) kept.set(name, JSON.stringify(value));
  }
  if (state.tag) kept.set("tag", state.tag);
  const address = `#${kept}`;
  // Browsers refuse addresses that are much longer, or shorten them.
  if (address.length <= KEPT_CHARACTERS) history.replaceState(null, "", address);
}

/** What the address asks for, for the models that there are. */
export function readAddress(models) {
  const kept = new URLSearchParams(location.hash.slice(1));
  const known = (key) => models.find((each) => each.key === key) ?? null;
  const items = (name) => kept.getAll(name).slice(0, 1000).map((id) => ({ id, title: id }));
  const number = (name, otherwise) => {
    const value = Number(kept.get(name) ?? otherwise);
    return Number.isFinite(value) && value >= 0 ? value : otherwise;
  };
  const model = known(kept.get("model")) ?? models.find((each) => each.served) ?? models[0] ?? null;
  const other = known(kept.get("with"));
  return {
    models, model, other: other && other.kind === model?.kind && other !== model ? other : null,
    history: items("h"), exclude: items("x"), diversity: number("diversity", 0), n: Math.max(1, Math.round(number("n", 20))),
    filters: object(kept.get("filters")), profile: object(kept.get("profile")), fields: object(kept.get("fields")), tag: kept.get("tag") ?? "",
  };
}

function object(text) {
  try {
    const value = JSON.parse(text ?? "{}");
    return value && typeof value === "object" && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}
