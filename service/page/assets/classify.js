/** Classify: a text, an image or a drawn digit to labels, the model's or one's own, as bars. */

import { Pad } from "./drawing.js";
import { examples, make, modes, scores } from "./elements.js";
import { imageKind, readsDigits, textKind } from "./kinds.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { jsonRequest, pictureRequest } from "./service.js";

const PATH = "v1/classify";
const BEST = 5;

export function openClassify(models) {
  const panel = new Panel("classify", models, request, show);
  const { form } = panel;
  const text = form.querySelector("textarea");
  const picture = new Picture(form.querySelector(".picture"), () => panel.changed());
  const pad = new Pad(
    form.querySelector("canvas"),
    form.querySelector("[data-clear]"),
    () => { panel.changed(); panel.run(); },
    () => panel.changed(),
  );
  const ownLabels = form.querySelector("[data-labels]");
  const field = ownLabels.querySelector("input");
  const mode = modes(form, offer);
  const fitExamples = examples(form.querySelector("[data-mode=text]"), text, () => panel.changed());
  examples(ownLabels, field, offer);
  field.addEventListener("input", offer);
  const digits = form.querySelector("[data-digits]");
  models.addEventListener("change", () => (digits.hidden = !models.list.some(drawable)));
  offer();

  function offer() {
    ownLabels.hidden = mode() === "draw";
    panel.choice?.offer(labels().length ? "zero-shot" : "classify", mode() === "text" ? "text" : "image");
  }

  function labels() {
    if (mode() === "draw") return [];
    return [...new Set(field.value.split(/[,，、\n]/).map((label) => label.trim()).filter(Boolean))];
  }

  function request() {
    fit(panel.choice.model);
    const fields = { top_k: BEST, ...panel.choice.fields };
    const given = labels();
    if (given.length === 1) return null;
    if (given.length) fields.labels = given;
    if (mode() === "text") return text.value.trim() ? jsonRequest(PATH, { text: text.value, ...fields }) : null;
    if (mode() === "image") return pictureRequest(PATH, picture.choice, fields);
    if (pad.empty) return null;
    return pictureRequest(PATH, { name: "drawing.png", sample: "", read: () => pad.read() }, fields);
  }

  function fit(model) {
    if (mode() === "text") fitExamples(textKind(model));
    if (mode() === "image") picture.fit(imageKind(model));
  }

  function show({ body }) {
    panel.put(
      make("p.by", {}, "Labels by ", make("strong", {}, body.model)),
      scores(body.results[0].labels),
    );
  }
}

const drawable = (model) => ["ready", "on_demand"].includes(model.state) && model.task === "classify" && readsDigits(model);
