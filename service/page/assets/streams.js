/** Live streams: administrators start, watch and delete them. */

import { drawObjects, makeStage, tintsOf } from "./boxes.js";
import { make, scores } from "./elements.js";
import { ask, follow, Refusal } from "./service.js";
import { lines, vector } from "./steps.js";

const PATH = "v1/streams";
const PAUSE = 2000;
const LAST = 6;
const TRACKED = ["detect", "workflow"];

/** Fill the panel when it is opened; its list is refreshed while it is open. */
export function openStreams(panel) {
  const [door, form] = panel.querySelectorAll("form");
  const list = panel.querySelector("[data-list]");
  const said = panel.querySelector("[data-said]");
  const watched = panel.querySelector("[data-watched]");
  let token = "";
  let timer = 0;
  let watching = null;

  const options = (more) => ({ ...more, headers: { ...more?.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) } });
  const administer = (path, more) => ask(path, options(more));
  panel.addEventListener("toggle", () => (panel.open ? refresh() : rest()));
  door.addEventListener("submit", (event) => {
    event.preventDefault();
    token = door.querySelector("input").value.trim();
    refresh();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const started = await administer(PATH, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wanted()) });
      form.querySelector("[name=url]").value = "";
      watch(started.id);
    });
  });
  form.addEventListener("change", show);
  show();

  function show() {
    const { task } = fields();
    form.querySelector(".check").hidden = !TRACKED.includes(task);
    form.querySelector("[data-workflow]").hidden = task !== "workflow";
    form.querySelector("[data-labels]").hidden = task !== "classify";
  }

  function fields() {
    return Object.fromEntries(new FormData(form));
  }

  function wanted() {
    const { url, task, workflow, fps, labels } = fields();
    const given = (labels ?? "").split(/[,，、]/).map((each) => each.trim()).filter(Boolean);
    const body = { url: url.trim(), ...(task === "workflow" ? { workflow: workflow.trim() } : { task }) };
    if (fps) body.fps = Number(fps);
    if (TRACKED.includes(task) && form.querySelector("[name=track]").checked) body.track = true;
    if (task === "classify" && given.length) body.labels = given;
    return body;
  }

  /** Do something, then read the list; a refusal is written below the form. */
  async function attempt(action) {
    said.textContent = "";
    try {
      await action();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      said.textContent = error.message;
    }
    await refresh(true);
  }

  async function refresh(quietly = false) {
    clearTimeout(timer);
    try {
      const { streams } = await administer(PATH);
      door.hidden = true;
      form.hidden = false;
      if (!quietly) said.textContent = "";
      list.replaceChildren(...(streams.length ? streams.map(row) : [make("li", {}, make("span.hint", {}, "No stream runs."))]));
      timer = setTimeout(() => panel.open && refresh(true), PAUSE);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      form.hidden = true;
      door.hidden = !["unauthorized", "forbidden"].includes(error.code);
      if (!quietly || !door.hidden) said.textContent = token || door.hidden ? error.message : "";
    }
  }

  function rest() {
    clearTimeout(timer);
    watching?.abort();
  }

  function row({ id, url, task, workflow, model, state, frames, age, counts, detail }) {
    const found = Object.entries(counts ?? {}).map(([label, count]) => `${count} × ${label}`);
    const late = age == null ? [] : [`${Math.round(1000 * age)} ms late`];
    const facts = [task ?? workflow, model, `${frames.analysed} analysed`, `${frames.dropped} dropped`, ...late, ...found];
    const why = detail ? [make("p.hint.missing", {}, detail)] : [];
    return make(
      "li",
      { "data-state": state },
      make("div", {}, make("strong", {}, url), ` ${state}`, make("p.hint", {}, facts.filter(Boolean).join(" · ")), ...why),
      make("button.quiet", { type: "button", onclick: () => watch(id) }, "Watch"),
      make("button.quiet", { type: "button", onclick: () => remove(id) }, "Delete"),
    );
  }

  function remove(id) {
    attempt(() => administer(`${PATH}/${encodeURIComponent(id)}`, { method: "DELETE" }));
  }

  /** Show the events of a stream until it ends, another one is watched, or the panel is closed. */
  async function watch(id) {
    watching?.abort();
    const { signal } = (watching = new AbortController());
    const view = new View(watched);
    try {
      while (!view.ended) await follow(`${PATH}/${encodeURIComponent(id)}/events`, options({ signal }), (event) => view.tell(event));
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refusal)) throw error;
      view.say(error.message);
    }
  }
}

/** What the events of a stream say. */
class View {
  #stage;
  #start;
  #answer = make("div");
  #facts = make("p.hint");
  #last = make("ul.hint");

  ended = false;

  constructor(place) {
    this.#stage = make("div");
    place.replaceChildren(this.#stage, this.#facts, this.#answer, this.#last);
  }

  /** Take an event. */
  tell(event) {
    if (event.event === "start") this.#begin(event);
    if (event.event === "frame") this.#frame(event);
    if (event.event === "state") this.say([event.state, event.detail].filter(Boolean).join(": "));
    if (event.event === "segment") this.say(`${event.start.toFixed(1)} to ${event.end.toFixed(1)} s: ${event.label}`);
    if (event.event === "error") this.say(event.detail);
    if (event.event === "end") {
      this.ended = true;
      this.say("The stream has ended.");
    }
  }

  /** Add a line; the last few are kept. */
  say(words) {
    this.#last.append(make("li", {}, words));
    if (this.#last.childElementCount > LAST) this.#last.firstElementChild.remove();
  }

  #begin(start) {
    this.#start = start;
    const stage = makeStage(make("div.blank"), start);
    this.#stage.replaceWith(stage);
    this.#stage = stage;
  }

  #frame({ time, objects, labels, embedding, steps, age, dropped }) {
    this.#facts.textContent = `Second ${time.toFixed(1)}: ${Math.round(1000 * age)} ms late, ${dropped} dropped`;
    const found = objects ?? Object.values(steps ?? {}).find((step) => step.objects)?.objects ?? [];
    drawObjects(this.#stage, found, this.#start, tintsOf([...found].sort((a, b) => a.label.localeCompare(b.label))));
    if (labels) this.#answer.replaceChildren(scores(labels.slice(0, LAST)));
    if (embedding) this.#answer.replaceChildren(make("p.hint", {}, vector(embedding)));
    if (steps) this.#answer.replaceChildren(...lines(steps));
  }
}
