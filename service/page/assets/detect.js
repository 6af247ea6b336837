/** Detect: the objects of a picture, drawn over it. */

import { drawObjects, keepApart, makeImage, makeStage, tintsOf } from "./boxes.js";
import { make } from "./elements.js";
import { sceneKind } from "./kinds.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { pictureRequest } from "./service.js";

const PATH = "v1/detect";

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
    const [result] = body.results;
    const image = await makeImage(picture.choice, result);
    if (signal.aborted) return;
    const stage = makeStage(image, result);
    shown = { stage, result, model: body.model };
    panel.put(make("p.by"), stage, make("ul.objects"));
    draw();
  }

  function draw() {
    const { stage, result, model } = shown;
    const found = result.objects.filter(({ score }) => score >= Number(slider.value));
    const tints = tintsOf(result.objects);
    const count = `${found.length} ${found.length === 1 ? "object" : "objects"} by `;
    panel.answer.querySelector(".by").replaceChildren(count, make("strong", {}, model));
    const boxes = drawObjects(stage, found, result, tints);
    keepApart(boxes);
    const rows = found.map((object, index) => row(object, tints.get(object.label), boxes[index]));
    panel.answer.querySelector(".objects").replaceChildren(...rows);
  }
}

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
