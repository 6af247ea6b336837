/** The results of the steps of a workflow. */

import { drawObjects, keepApart, makeStage, tintsOf } from "./boxes.js";
import { make, scores } from "./elements.js";

const CROP = 56;
const NUMBERS = 4;

/**
 * Add a section for each step to a place.
 *
 * @param {Record<string, any>} steps results by name
 * @param {Record<string, {model: string}>} models by step
 * @param {HTMLImageElement} [image] that the first step took
 */
export function showSteps(place, steps, models, image) {
  for (const [name, result] of Object.entries(steps)) {
    const model = models[name]?.model;
    const section = make("section.step", {}, make("h3", {}, model ? `${name}, by ${model}` : name));
    place.append(section);
    section.append(...whole(result));
    if (result.objects) showObjects(section, result, image);
  }
}

function whole(result) {
  if (result.error) return [make("p.problem", {}, result.error.detail)];
  if (result.labels) return [scores(result.labels)];
  if (result.translation !== undefined) return [make("p.translation", { lang: result.target }, result.translation)];
  if (result.embedding) return [make("p.hint", {}, vector(result.embedding))];
  return [];
}

/** Boxes over the image, and below a row for each object: its crop, and what the steps made of it. */
function showObjects(section, result, image) {
  const { objects } = result;
  const tints = tintsOf(objects);
  const stage = makeStage(image, result);
  section.append(stage);
  const boxes = drawObjects(stage, objects, result, tints);
  keepApart(boxes);
  const rows = objects.map((object, index) => {
    const point = (on) => () => boxes[index].classList.toggle("pointed", on);
    return make(
      "li",
      { "data-tint": tints.get(object.label), onpointerenter: point(true), onpointerleave: point(false) },
      ...crop(image, object.box),
      make("div", {}, make("span", {}, object.label), " ", make("b", {}, object.score.toFixed(2)), ...lines(object.steps)),
    );
  });
  section.append(make("ul.objects.crops", {}, ...rows));
}

function crop(image, [left, top, right, bottom]) {
  const [width, height] = [right - left, bottom - top];
  if (!image.naturalWidth || width < 1 || height < 1) return [make("i")];
  const scale = CROP / Math.max(width, height);
  const canvas = make("canvas", { width: Math.ceil(2 * width * scale), height: Math.ceil(2 * height * scale), "aria-hidden": "true" });
  canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, canvas.width, canvas.height);
  return [canvas];
}

/** Return a line for each step that took a crop, those that took crops of it included. */
export function lines(steps = {}) {
  return Object.entries(steps).flatMap(([name, result]) => [
    make(result.error ? "p.hint.missing" : "p.hint", {}, `${name}: ${words(result)}`),
    ...(result.objects ?? []).flatMap((object) => lines(object.steps)),
  ]);
}

function words(result) {
  if (result.error) return result.error.detail;
  if (result.labels) return result.labels.slice(0, 3).map(({ label, score }) => `${label} ${score.toFixed(2)}`).join(", ");
  if (result.objects) return result.objects.map(({ label }) => label).join(", ") || "no objects";
  return result.translation ?? vector(result.embedding);
}

/** Write the first numbers of a vector. */
export const vector = (numbers) => `${numbers.length} dimensions: ${numbers.slice(0, NUMBERS).map((each) => each.toFixed(3)).join(", ")}, …`;
