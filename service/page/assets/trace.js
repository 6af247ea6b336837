/** Below every tab: the curl line of its request, the timings, and the whole answer. */

import { copy, make, milliseconds } from "./elements.js";

const CACHE = {
  hit: ["From the cache", "known"],
  miss: ["Computed", "new"],
  shared: ["Shared with an identical request", "known"],
  bypass: ["Computed, cache bypassed", "new"],
};

/** Details of a tab's request and its answer. */
export class Trace {
  #root;

  constructor(panel) {
    const content = document.getElementById("trace").content.cloneNode(true);
    this.#root = content.firstElementChild;
    panel.append(content);
    const button = this.#find("[data-copy]");
    button.addEventListener("click", () => copy(this.#find(".curl code"), button));
  }

  /** Show the curl line of the current request. */
  ask(request) {
    this.#find(".curl code").textContent = request ? request.curl : "";
    this.#find("[data-copy]").disabled = !request;
  }

  /** Show timings and cache outcome of an answer. */
  show(answer) {
    const known = answer.spent.reduce((sum, [, spent]) => sum + spent, 0);
    const parts = [...answer.spent, ["rest", Math.max(0, answer.total - known)]];
    const told = parts.map(([name, spent]) => `${name} ${milliseconds(spent)}`);
    const bar = this.#find(".bar");
    bar.setAttribute("aria-label", told.join(", "));
    bar.replaceChildren(...parts.filter(([, spent]) => spent > 0).map(([name, spent]) => segment(name, spent / answer.total)));
    this.#find(".legend").replaceChildren(...parts.map(entry));
    this.#find("[data-total]").textContent =
      `${milliseconds(answer.total)} in the service, ${milliseconds(answer.roundTrip)} including the network.`;
    const [text, kind] = CACHE[answer.cache] ?? [answer.cache, "new"];
    const badge = this.#find("[data-cache]");
    badge.textContent = text;
    badge.dataset.cache = answer.cache;
    badge.dataset.kind = kind;
    this.#find(".spent").hidden = false;
    this.#find("details").hidden = false;
    this.#find("details code").textContent = JSON.stringify(answer.body, shortened, 2);
  }

  /** Forget the last answer. */
  clear() {
    this.#find(".spent").hidden = true;
    this.#find("details").hidden = true;
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }
}

function segment(name, share) {
  const part = make("span", { "data-step": name });
  part.style.flexGrow = String(1000 * share); // below 1 in all, they would not fill the bar
  return part;
}

function entry([name, spent]) {
  return make("li", { "data-step": name }, make("span", {}, name), make("b", {}, milliseconds(spent)));
}

/** Vectors are shortened to their first numbers; everything else is shown in full. */
function shortened(name, value) {
  if (name !== "embedding" || !Array.isArray(value)) return value;
  return [...value.slice(0, 4), `… ${value.length} numbers`];
}
