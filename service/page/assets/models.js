/** The models: status strip, readiness, and the selection in every tab. */

import { make } from "./elements.js";
import { look } from "./service.js";

const SOON = 1000;
const LATER = 10_000;

/** The models of the service, refreshed while the page is visible. */
export class Models extends EventTarget {
  #timer = 0;
  #strip;
  #readiness;

  /** @type {any[]} statuses as returned by GET /v1/models */
  list = [];

  constructor(strip, readiness) {
    super();
    this.#strip = strip;
    this.#readiness = readiness;
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Refresh now, and again later. */
  async refresh() {
    clearTimeout(this.#timer);
    let settled = false;
    try {
      const seen = await look();
      settled = seen.ready;
      this.#show(seen);
    } catch (refusal) {
      const needsKey = refusal.code === "unauthorized";
      this.#say(needsKey ? "waiting" : "down", needsKey ? "A key is needed" : refusal.message);
      if (needsKey) this.dispatchEvent(new Event("key"));
      settled = needsKey;
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), settled ? LATER : SOON);
  }

  #show({ models, ready, reasons, detail }) {
    const ordered = [...models].sort((a, b) => a.model.localeCompare(b.model) || b.version - a.version);
    const said = JSON.stringify(ordered.map(identity));
    if (said !== JSON.stringify(this.list.map(identity))) {
      this.list = ordered;
      this.#strip.replaceChildren(...ordered.map(chip));
      this.dispatchEvent(new Event("change"));
    }
    const count = ordered.filter(answers).length;
    const waiting = Object.keys(reasons);
    if (ready) this.#say("ready", `Ready · ${count} ${count === 1 ? "model" : "models"}`);
    else this.#say("waiting", waiting.length ? `Not ready: ${waiting.join(", ")}` : `Not ready: ${detail}`);
  }

  #say(state, text) {
    if (this.#readiness.textContent === text) return;
    this.#readiness.dataset.state = state;
    this.#readiness.textContent = text;
  }
}

/** The choice among the models that fit a tab: a plain name where there is one, else a list. */
export class ModelChoice {
  #place;
  #models;
  #onChange;
  #wanted = { task: "", modalities: [""] };
  #chosen = "";

  constructor(place, models, onChange) {
    this.#place = place;
    this.#models = models;
    this.#onChange = onChange;
    models.addEventListener("change", () => this.#draw());
  }

  /** Offer the models of a task, own or composed, for all of these modalities; the first is used. */
  offer(task, ...modalities) {
    this.#wanted = { task, modalities };
    this.#draw();
  }

  /** The status of the model that will answer; undefined if there is none. */
  get model() {
    const fitting = this.#fitting();
    return fitting.find((each) => each.model === this.#chosen) ?? fitting.find((each) => this.#isDefault(each)) ?? fitting[0];
  }

  /** Fields of a request for it: always the name, so that a copied command keeps its model. */
  get fields() {
    const { model } = this;
    return model ? { model: model.model } : {};
  }

  #isDefault(model) {
    return model.default_for.includes(this.#wanted.modalities[0]);
  }

  #fitting() {
    const { task, modalities } = this.#wanted;
    return this.#models.list.filter(
      (each) => answers(each) && modalities.every((kind) => can(each, task, kind)),
    );
  }

  #draw() {
    const fitting = this.#fitting();
    const { model } = this;
    this.#place.replaceChildren(...(fitting.length > 1 ? [this.#list(fitting, model)] : []), about(model, fitting.length === 1));
    this.#onChange();
  }

  #list(fitting, model) {
    const options = fitting.map((each) =>
      make("option", { value: each.model, selected: each === model }, `${each.model} (version ${each.version})`),
    );
    const select = make("select", { onchange: () => this.#choose(select.value) }, ...options);
    return make("label", {}, "Model ", select);
  }

  #choose(name) {
    this.#chosen = name;
    this.#place.lastElementChild.replaceWith(about(this.model, false));
    this.#onChange();
  }
}

const answers = (model) => model.state === "ready" || model.state === "on_demand";

const can = (model, task, kind) =>
  model.task === task ? model.modalities.includes(kind) : model.composed.includes(`${task}.${kind}`);

function about(model, named) {
  if (!model) return make("p.hint.missing", {}, "No model for this is loaded.");
  const name = named ? [make("strong", {}, model.model), ` version ${model.version}. `] : [];
  return make("p.hint", {}, ...name, model.description ? `${model.description}.` : "");
}

function chip(status) {
  const aliases = Object.entries(status.aliases).map(([name, share]) => (share < 1 ? `@${name} ${Math.round(100 * share)} %` : `@${name}`));
  const size = status.resident && status.memory_bytes ? `${Math.ceil(status.memory_bytes / 2 ** 20)} MiB` : "";
  const facts = [status.version && `v${status.version}`, ...aliases, status.precision, status.device, size].filter(Boolean).join(" · ");
  const state = status.state === "ready" ? [] : [make("em", {}, status.state.replace("_", " "))];
  return make(
    "li",
    { "data-state": status.state, title: status.reason ?? status.description ?? "" },
    make("strong", {}, status.model),
    make("span", {}, facts),
    ...state,
  );
}

const identity = ({ statistics, ...rest }) => rest;
