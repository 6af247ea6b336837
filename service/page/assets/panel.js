/** Shared parts of the tabs: a form, an answer, an error message. */

import { make } from "./elements.js";
import { ModelChoice } from "./models.js";
import { Refusal, send } from "./service.js";
import { Trace } from "./trace.js";

/** The panel of a tab. A new request aborts the previous one. */
export class Panel {
  #running = null;

  /**
   * @param {string} id of the tab panel
   * @param {import("./models.js").Models} models
   * @param {() => object | null} request the current request; null if the form is incomplete
   * @param {(answer: object, signal: AbortSignal) => unknown} show shows the answer
   * @param {typeof ModelChoice} Choice class of what chooses who answers
   */
  constructor(id, models, request, show, Choice = ModelChoice) {
    this.root = document.getElementById(id);
    this.form = this.root.querySelector("form");
    this.answer = this.root.querySelector(".answer");
    this.button = this.form.querySelector(".primary");
    this.trace = new Trace(this.root);
    this.request = request;
    this.show = show;
    this.choice = new Choice(this.form.querySelector(".model"), models, () => this.changed());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
  }

  /** Update after a change of the form. */
  changed() {
    const request = this.choice.model ? this.request() : null;
    this.button.disabled = !request;
    this.trace.ask(request);
  }

  /** Send the request, and show the answer or the error. */
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
