/** Detect: the objects of a picture, drawn over it. */

import { make } from "./elements.js";
import { sceneKind } from "./kinds.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { pictureRequest } from "./service.js";
import { drawShapes, makeShapes } from "./shapes.js";

const PATH = "v1/detect";
const TINTS = 6;

export function openDetect(models) {
  const panel = new Panel("detect", models, request, show);
  const slider = panel.form.querySelector("[type=range]");
  const output = panel.form.querySelector("output");
  const picture = new Picture(panel.form.querySelector(".picture"), () => panel.changed());
  let shown = null;
  slider.addEventListener("input", () => {
    output.textContent = Number(slider.value).toFixed(2);
    if (shown && panel.answer.contains(shown.stage)) draw();
  });
  panel.choice.offer("detect", "image");

  // Requested once with the lowest threshold, so that the slider works without a request: scores do
  // not depend on the threshold. The curl line requests exactly what is drawn.
  function request() {
    picture.fit(sceneKind(panel.choice.model));
    const asked = (threshold) => pictureRequest(PATH, picture.choice, { threshold, ...panel.choice.fields });
    return { ...asked(slider.min), curl: asked(slider.value).curl };
  }

  async function show({ body }, signal) {
    const { url, name } = picture.choice;
    const [result] = body.results;
    const image = make("img", { alt: `The picture ${name}`, width: result.width, height: result.height });
    await loaded(image, url);
    if (signal.aborted) return;
    const stage = make("div.stage", {}, image, makeShapes(), make("div.boxes"));
    stage.style.setProperty("--ratio", String(result.width / result.height));
    shown = { stage, result, model: body.model };
    panel.put(make("p.by"), stage, make("ul.objects"));
    draw();
  }

  function draw() {
    const { stage, result, model } = shown;
    const found = result.objects.filter(({ score }) => score >= Number(slider.value));
    const tints = new Map([...new Set(result.objects.map(({ label }) => label))].map((label, index) => [label, index % TINTS]));
    const count = `${found.length} ${found.length === 1 ? "object" : "objects"} by `;
    panel.answer.querySelector(".by").replaceChildren(count, make("strong", {}, model));
    const boxes = found.map((object) => box(object, result, tints.get(object.label)));
    stage.querySelector(".boxes").replaceChildren(...[...boxes].reverse()); // the best on top
    drawShapes(stage.querySelector(".shapes"), found, boxes, result);
    keepApart(boxes.map((element) => element.firstElementChild));
    const rows = found.map((object, index) => row(object, tints.get(object.label), boxes[index]));
    panel.answer.querySelector(".objects").replaceChildren(...rows);
  }
}

/** Wait for the image; a format that the browser cannot show leaves a blank of its size. */
async function loaded(image, url) {
  image.src = url;
  try {
    await image.decode();
  } catch {
    image.removeAttribute("src");
    image.classList.add("blank");
  }
}

function box({ label, score, box: [left, top, right, bottom] }, { width, height }, tint) {
  const element = make("div.box", { "data-tint": tint }, make("span", {}, `${label} ${score.toFixed(2)}`));
  Object.assign(element.style, {
    left: `${(100 * left) / width}%`,
    top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`,
    height: `${(100 * (bottom - top)) / height}%`,
  });
  if (top < height * 0.08) element.classList.add("low"); // no room for the label above it
  return element;
}

/** Move a label that would cover a better one's to the foot of its box, or into it. */
function keepApart(labels) {
  const placed = [];
  for (const label of labels) {
    const free = () => !placed.some((other) => overlap(other, label.getBoundingClientRect()));
    const ways = ["", "foot", "inside"];
    const way = ways.find((each) => {
      label.className = each;
      return free();
    });
    label.className = way ?? "";
    placed.push(label.getBoundingClientRect());
  }
}

const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

function row({ label, score, box: corners }, tint, element) {
  const point = (on) => () => element.classList.toggle("pointed", on);
  return make(
    "li",
    { "data-tint": tint, onpointerenter: point(true), onpointerleave: point(false) },
    make("span", {}, label),
    make("b", {}, score.toFixed(2)),
    make("small", {}, corners.map((corner) => Math.round(corner)).join(", ")),
  );
}
