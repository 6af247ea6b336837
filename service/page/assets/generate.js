/** Generate: a text that a model writes from another one, such as a summary. */

import { make, milliseconds } from "./elements.js";
import { Panel } from "./panel.js";
import { jsonRequest } from "./service.js";

const PATH = "v1/generate";

/** The tab is shown while a model for it is loaded. */
export function openGenerate(models) {
  const panel = new Panel("generate", models, request, show);
  const tab = document.getElementById("tab-generate");
  const [text, prefix] = ["textarea", "input"].map((each) => panel.form.querySelector(each));
  models.addEventListener("change", () => (tab.hidden = !panel.choice.model));
  panel.choice.offer("generate", "text");

  function request() {
    if (!text.value.trim()) return null;
    const given = prefix.value ? { prefix: prefix.value } : {};
    return jsonRequest(PATH, { text: text.value, ...given, ...panel.choice.fields });
  }

  function show({ body, roundTrip }) {
    const [{ text: written, truncated, finish_reason: reason }] = body.results;
    const by = make("p.by", {}, "By ", make("strong", {}, body.model), ` in ${milliseconds(roundTrip)}`);
    const hint = truncated ? "The text or what was written of it was truncated: it is longer than the model's limit." : REASONS[reason];
    panel.put(by, make("p.document", {}, written), ...(hint ? [make("p.hint", {}, hint)] : []));
  }
}

const REASONS = { length: "It ends at the limit of tokens.", repetition: "It was ended because the model repeated itself." };
