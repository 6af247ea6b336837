/** What objects have besides upright boxes: masks, keypoints and rotated boxes. */

import { make } from "./elements.js";

const LARGEST = 1600;
const OPACITY = 0.45;
const VISIBLE = 0.5;
const DOT = 0.006;
const LINE = 0.004;

/** Make the layer that `drawShapes` draws on. */
export function makeShapes() {
  return make("canvas.shapes", { "aria-hidden": "true" });
}

/**
 * Draw the shapes of the objects of a picture, in the colours of their boxes.
 *
 * @param {HTMLCanvasElement} canvas over the whole picture
 * @param {HTMLElement[]} boxes of the objects
 * @param {{width: number, height: number}} size of the picture
 */
export function drawShapes(canvas, objects, boxes, { width, height }) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const longest = Math.max(width, height);
  pen.lineWidth = LINE * longest;
  for (const [index, { mask, keypoints, rotated_box: rotated }] of objects.entries()) {
    pen.fillStyle = pen.strokeStyle = getComputedStyle(boxes[index]).getPropertyValue("--tint");
    if (mask?.counts) fillMask(pen, mask);
    if (rotated) {
      boxes[index].classList.add("around");
      strokeRotated(pen, rotated);
    }
    for (const [x, y, visible = 1] of keypoints ?? []) if (visible >= VISIBLE) dot(pen, x, y, DOT * longest);
  }
}

function fillMask(pen, { size: [height], counts }) {
  pen.globalAlpha = OPACITY;
  pen.beginPath();
  let at = 0;
  for (const [index, length] of runs(counts).entries()) {
    const end = at + length;
    while (index % 2 && at < end) {
      const part = Math.min(end - at, height - (at % height));
      pen.rect(Math.floor(at / height), at % height, 1, part);
      at += part;
    }
    at = end;
  }
  pen.fill();
  pen.globalAlpha = 1;
}

/** The lengths of the runs outside and inside by turns, as COCO's compressed encoding has them. */
function runs(counts) {
  const found = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    found.push(found.length > 2 ? value + found.at(-2) : value);
  }
  return found;
}

function strokeRotated(pen, [x, y, width, height, angle]) {
  pen.save();
  pen.translate(x, y);
  pen.rotate(angle);
  pen.strokeRect(-width / 2, -height / 2, width, height);
  pen.restore();
}

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}
