// Elements from data. Whatever comes from a catalogue or a server becomes text or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes by name (functions become listeners, `style` is a table of properties), then children. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** Replace what `container` holds; the focus stays on the element with the same `data-key`, or goes to `fallback`. */
export function refill(container, children, fallback = null) {
  const active = container.contains(document.activeElement) ? document.activeElement : null;
  const key = active?.dataset?.key;
  const open = new Set([...container.querySelectorAll("details[open][data-key]")].map((each) => each.dataset.key));
  const tops = new Map([...container.querySelectorAll("[data-scroll]")].map((each) => [each.dataset.scroll, each.scrollTop]));
  container.replaceChildren(...children.flat().filter(Boolean));
  for (const each of container.querySelectorAll("details[data-key]")) if (open.has(each.dataset.key)) each.open = true;
  for (const each of container.querySelectorAll("[data-scroll]")) each.scrollTop = tops.get(each.dataset.scroll) ?? 0;
  if (!active) return;
  const same = key && [...container.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key);
  (same || fallback)?.focus({ preventScroll: Boolean(same) });
}

let numbers = 0;
/** An id that nothing else on the page has. */
export function newId(name) {
  numbers += 1;
  return `${name}-${numbers}`;
}

/** Call `work` once nothing has asked for it for so many milliseconds. */
export function debounced(work, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

/** "1 item", "3 items". */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** A score as people read it. */
export function score(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? value.toPrecision(4) : value.toFixed(3);
}
