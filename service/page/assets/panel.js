/** What the four tabs have in common: a form that asks, an answer, a refusal as a sentence. */

import { make } from "./elements.js";
import { ModelChoice } from "./models.js";
import { Refusal, send } from "./service.js";
import { Trace } from "./trace.js";

/** One tab's panel. Only the last request counts: a new one takes back the one before. */
export class Panel {
  #running = null;

  /**
   * @param {string} id of the tab panel
   * @param {import("./models.js").Models} models
   * @param {() => object | null} request what would be asked now; null if there is nothing to ask
   * @param {(answer: object, signal: AbortSignal) => unknown} show shows the answer
   */
  constructor(id, models, request, show) {
    this.root = document.getElementById(id);
    this.form = this.root.querySelector("form");
    this.answer = this.root.querySelector(".answer");
    this.button = this.form.querySelector(".primary");
    this.trace = new Trace(this.root);
    this.request = request;
    this.show = show;
    this.choice = new ModelChoice(this.form.querySelector(".model"), models, () => this.changed());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
  }

  /** Follow what the form says now. */
  changed() {
    const request = this.choice.model ? this.request() : null;
    this.button.disabled = !request;
    this.trace.ask(request);
  }

  /** Ask, and show the answer or why there is none. */
  async run() {
    const request = this.choice.model && this.request();
    if (!request) return;
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    this.root.setAttribute("aria-busy", "true");
    try {
      const answer = await send(request, running.signal);
      await this.show(answer, running.signal);
      if (!running.signal.aborted) this.trace.show(answer);
    } catch (error) {
      if (!running.signal.aborted) this.#refuse(error);
    } finally {
      if (this.#running === running) this.root.removeAttribute("aria-busy");
    }
  }

  /** Put the answer in place. */
  put(...children) {
    this.answer.replaceChildren(...children);
  }

  #refuse(error) {
    if (!(error instanceof Refusal)) throw error;
    const more = [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
    const lines = [make("p", {}, error.message), ...(more ? [make("p.hint", {}, more)] : [])];
    this.trace.clear();
    this.put(make("div.problem", { role: "alert" }, ...lines));
  }
}
