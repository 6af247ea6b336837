/** Translate: a text in one language to one in another. */

import { examples, make, milliseconds } from "./elements.js";
import { Panel } from "./panel.js";
import { jsonRequest } from "./service.js";

const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

export function openTranslate(models) {
  const panel = new Panel("translate", models, request, show);
  const text = panel.form.querySelector("textarea");
  const source = panel.form.querySelector("[data-source]");
  examples(panel.form, text, () => panel.changed());
  panel.choice.offer("translate", "text");

  function request() {
    const [from] = panel.choice.model.languages ?? [];
    source.textContent = from ? named(from) : "Text";
    text.lang = from ?? "";
    return text.value.trim() ? jsonRequest("v1/translate", { text: text.value, ...panel.choice.fields }) : null;
  }

  function show({ body, roundTrip }) {
    const [{ translation, target, truncated }] = body.results;
    const cut = make("p.hint", {}, "The text or its translation was cut: it is longer than the model takes.");
    panel.put(
      make("p.by", {}, named(target), " by ", make("strong", {}, body.model), ` in ${milliseconds(roundTrip)}`),
      make("p.translation", { lang: target }, translation),
      ...(truncated ? [cut] : []),
    );
  }
}

function named(code) {
  try {
    return names.of(code);
  } catch {
    return code; // a model may name its languages as it likes
  }
}
