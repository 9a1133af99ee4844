// The 2-D map: all items as dots, with the history, the interests and the answer on it. The lists say the same in words.

import { ask, withQuery } from "./ask.js";
import { count, h, svg } from "./dom.js";

const WIDTH = 640;
const HEIGHT = 440;
const MARGIN = 18;
const places = new Map(); // by version: the items' dots

/** The map of one version's answer, or nothing where the version has none. */
export function itemMap(model, result) {
  if (!model.map) return [h("p", { class: "quiet" }, "No map: this version was exported without it, or has no item vectors.")];
  const canvas = h("canvas", { width: WIDTH, height: HEIGHT, "aria-hidden": "true" });
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Map of the items: the history, the interests and the answer. The lists say the same in words.",
  });
  const frame = h("div", { class: "map" }, canvas, drawing);
  const [first, second] = model.map.share.map((part) => `${Math.round(100 * part)} %`);
  const legend = h("ul", { class: "legend" },
    h("li", {}, key(svg("rect", { x: 2, y: 2, width: 9, height: 9, class: "history-mark" })), "history"),
    h("li", {}, key(svg("circle", { cx: 7, cy: 7, r: 6, class: "interest-mark interest-0" })), "interest, with its number"),
    h("li", {}, key(svg("circle", { cx: 7, cy: 7, r: 4, class: "answer-mark interest-0" })), "answer, in its interest's colour"));
  const words = h("p", { class: "quiet" },
    `${count(model.map.items, "item")}${model.map.items < model.items ? ", the most popular ones," : ""} by the two directions in which item vectors `
    + `differ most (${first} and ${second} of the variance): what is near here need not be near in all dimensions.`);
  dots(model).then((all) => draw(canvas, drawing, all, result), () => draw(canvas, drawing, [], result));
  return [frame, legend, words];
}

function key(mark) {
  return svg("svg", { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" }, mark);
}

async function dots(model) {
  if (!places.has(model.key)) {
    const asked = ask(withQuery("/api/map", { model: model.key })).then((answer) => answer.places);
    places.set(model.key, asked);
    asked.catch(() => places.delete(model.key));
  }
  return places.get(model.key);
}

function draw(canvas, drawing, all, result) {
  const interests = (result.interests ?? []).filter((interest) => interest.place);
  const shown = [...all, ...[...result.history, ...result.answer, ...interests].map((each) => each.place).filter(Boolean)];
  if (!shown.length) return;
  const scale = fitted(shown);
  const dense = window.devicePixelRatio || 1;
  canvas.width = WIDTH * dense;
  canvas.height = HEIGHT * dense;
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.fillStyle = getComputedStyle(canvas).color;
  pen.globalAlpha = all.length > 5000 ? 0.25 : 0.4;
  const radius = all.length > 5000 ? 0.9 : 1.4;
  for (const place of all) {
    const [x, y] = scale(place);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }
  const marks = [];
  for (const item of [...result.answer].reverse()) {
    if (!item.place) continue;
    const [x, y] = scale(item.place);
    marks.push(svg("circle", { cx: x, cy: y, r: 5, class: `answer-mark ${item.interest >= 0 ? `interest-${item.interest % 8}` : "popular"}`, "data-mark": item.id }, svg("title", {}, item.title)));
  }
  for (const item of result.history) {
    if (!item.place || item.read === false) continue;
    const [x, y] = scale(item.place);
    marks.push(svg("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, class: "history-mark", "data-mark": item.id }, svg("title", {}, item.title)));
  }
  (result.interests ?? []).forEach((interest, number) => {
    if (!interest.place) return;
    const [x, y] = scale(interest.place);
    marks.push(svg("g", { class: `interest-${number % 8}` },
      svg("circle", { cx: x, cy: y, r: 10, class: `interest-mark interest-${number % 8}` }),
      svg("text", { x, y: y + 4, "text-anchor": "middle", class: "interest-number" }, String(number)),
      svg("title", {}, `Interest ${number}`)));
  });
  drawing.replaceChildren(...marks);
}

/** From places to pixels, the same scale in both directions. */
function fitted(shown) {
  const [xs, ys] = [0, 1].map((axis) => shown.map((place) => place[axis]));
  const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const [[left, right], [bottom, top]] = [range(xs), range(ys)];
  const unit = Math.min((WIDTH - 2 * MARGIN) / Math.max(right - left, 1e-9), (HEIGHT - 2 * MARGIN) / Math.max(top - bottom, 1e-9));
  return ([x, y]) => [WIDTH / 2 + (x - (left + right) / 2) * unit, HEIGHT / 2 - (y - (bottom + top) / 2) * unit];
}
