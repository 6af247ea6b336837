/** Boxes of objects, drawn over the picture that they were found in. */

import { make } from "./elements.js";
import { drawShapes, makeShapes } from "./shapes.js";

const TINTS = 6;

/** Return a colour for each label, in the order of the objects. */
export const tintsOf = (objects) => new Map([...new Set(objects.map(({ label }) => label))].map((label, index) => [label, tintOf(index)]));

/** Return the colour of the n-th label. */
export const tintOf = (index) => index % TINTS;

/**
 * Make the place in which the objects of a picture are drawn.
 *
 * @param {HTMLElement} screen the image or video
 * @param {{width: number, height: number}} size of the picture
 */
export function makeStage(screen, { width, height }) {
  const stage = make("div.stage", {}, screen, makeShapes(), make("div.boxes"));
  stage.style.setProperty("--ratio", String(width / height));
  return stage;
}

/** Make an image of a chosen file; what the browser cannot show leaves a blank of its size. */
export async function makeImage({ url, name }, { width, height }) {
  const image = make("img", { src: url, alt: `The picture ${name}`, width, height });
  try {
    await image.decode();
  } catch {
    image.removeAttribute("src");
    image.classList.add("blank");
  }
  return image;
}

/**
 * Draw objects on a stage, in place of those before.
 *
 * @param {object[]} objects the best first
 * @param {{width: number, height: number}} size of the picture
 * @param {Map<string, number>} tints colours by label
 * @returns {HTMLElement[]} the boxes, in the order of the objects
 */
export function drawObjects(stage, objects, size, tints) {
  const boxes = objects.map((object) => makeBox(object, size, tints.get(object.label)));
  stage.querySelector(".boxes").replaceChildren(...[...boxes].reverse()); // the best on top
  drawShapes(stage.querySelector(".shapes"), objects, boxes, size);
  return boxes;
}

function makeBox({ id, label, score, box: [left, top, right, bottom] }, { width, height }, tint) {
  const words = id == null ? `${label} ${score.toFixed(2)}` : `${label} #${id}`;
  const element = make("div.box", { "data-tint": tint }, make("span", {}, words));
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
export function keepApart(boxes) {
  const placed = [];
  for (const label of boxes.map((element) => element.firstElementChild)) {
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
