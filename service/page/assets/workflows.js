/** Workflows: the steps of one on an image or a text, with the results for each object. */

import { examples, make } from "./elements.js";
import { makeImage } from "./boxes.js";
import { sceneKind, sourceKind } from "./kinds.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { ask, jsonRequest, pictureRequest } from "./service.js";
import { showSteps } from "./steps.js";

export function openWorkflows(models) {
  const panel = new Panel("workflows", models, request, show, WorkflowChoice);
  const { form } = panel;
  const text = form.querySelector("textarea");
  const picture = new Picture(form.querySelector(".picture"), () => panel.changed());
  const blocks = [...form.querySelectorAll("[data-mode]")];
  const fitExamples = examples(form, text, () => panel.changed());
  panel.changed();

  function request() {
    const { workflow, input, steps } = panel.choice.model;
    for (const block of blocks) block.hidden = block.dataset.mode !== input;
    const path = `v1/run/${workflow}`;
    const first = models.list.find(({ model }) => model === steps[0].model) ?? {};
    if (input === "image") {
      picture.fit(sceneKind(first));
      return pictureRequest(path, picture.choice, {});
    }
    fitExamples(sourceKind(first));
    return text.value.trim() ? jsonRequest(path, { text: text.value }) : null;
  }

  async function show({ body }, signal) {
    const [result] = body.results;
    const found = Object.values(result.steps).find(({ objects }) => objects);
    const image = found && (await makeImage(picture.choice, found));
    if (signal.aborted) return;
    const failed = result.failed ? `, ${result.failed} failed` : "";
    const steps = Object.keys(body.models).length;
    panel.put(make("p.by", {}, `${steps} ${steps === 1 ? "model" : "models"} by `, make("strong", {}, body.workflow), failed));
    showSteps(panel.answer, result.steps, body.models, image);
  }
}

/** The choice among the workflows of the repository. */
class WorkflowChoice {
  #place;
  #onChange;
  #list = [];
  #chosen = "";

  constructor(place, models, onChange) {
    this.#place = place;
    this.#onChange = onChange;
    this.#place.append(make("p.hint.missing", {}, "No workflow is ready."));
    models.addEventListener("change", () => this.#read());
  }

  /** The status of the workflow that will answer; undefined if there is none. */
  get model() {
    const ready = this.#list.filter(({ state }) => state === "ready");
    return ready.find(({ workflow }) => workflow === this.#chosen) ?? ready[0];
  }

  async #read() {
    try {
      this.#list = (await ask("v1/workflows")).workflows;
    } catch {
      this.#list = []; // the page says already that the service does not answer
    }
    this.#draw();
  }

  #draw() {
    const { model } = this;
    const options = this.#list.map(({ workflow, state }) => {
      const name = state === "ready" ? workflow : `${workflow} (${state.replace("_", " ")})`;
      return make("option", { value: workflow, disabled: state !== "ready", selected: workflow === model?.workflow }, name);
    });
    const select = make("select", { onchange: () => this.#choose(select.value) }, ...options);
    const broken = this.#list.filter(({ state }) => state === "failed").map(({ reason }) => make("p.hint.missing", {}, reason));
    const about = model ? make("p.hint", {}, `${model.description}. ${told(model)}.`) : make("p.hint.missing", {}, "No workflow is ready.");
    this.#place.replaceChildren(...(options.length ? [make("label", {}, "Workflow ", select)] : []), about, ...broken);
    this.#onChange();
  }

  #choose(name) {
    this.#chosen = name;
    this.#draw();
  }
}

const told = ({ input, steps }) => `Steps: ${[input, ...steps.map(({ name, task }) => (name === task ? task : `${name} (${task})`))].join(" → ")}`;
