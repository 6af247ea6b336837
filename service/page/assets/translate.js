/** Translate: a text from one language to another; several lines are streamed by segment. */

import { examples, make, milliseconds } from "./elements.js";
import { sourceKind } from "./kinds.js";
import { Panel } from "./panel.js";
import { jsonRequest } from "./service.js";

const PATH = "v1/translate";
const LONG = 100;

const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

export function openTranslate(models) {
  const panel = new Panel("translate", models, request, show);
  const text = panel.form.querySelector("textarea");
  const source = panel.form.querySelector("[data-source]");
  const fitExamples = examples(panel.form, text, () => panel.changed());
  panel.choice.offer("translate", "text");

  function request() {
    fitExamples(sourceKind(panel.choice.model));
    const [from] = panel.choice.model.languages ?? [];
    source.textContent = from ? named(from) : "Text";
    text.lang = from ?? "";
    if (!text.value.trim()) return null;
    const asked = { text: text.value, ...panel.choice.fields };
    if (!isDocument(asked.text)) return jsonRequest(PATH, asked);
    return jsonRequest(PATH, { ...asked, split: "sentences", stream: "segments" }, teller(panel, asked.text));
  }

  function show({ body, roundTrip }) {
    if (body.event === "end") return sumUp(panel, body, roundTrip);
    const [{ translation, target, truncated }] = body.results;
    panel.put(
      by(target, body.model, roundTrip),
      make("p.translation", { lang: target }, translation),
      ...(truncated ? [hint("The text or its translation was truncated: it is longer than the model's limit.")] : []),
    );
  }
}

const isDocument = (text) => text.trim().includes("\n") || text.length > LONG;
const hint = (text) => make("p.hint", {}, text);
const by = (target, model, spent) => make("p.by", {}, named(target), " by ", make("strong", {}, model), ` in ${milliseconds(spent)}`);

/** Return a writer that shows a text while it is translated, with a progress bar. */
function teller(panel, source) {
  const written = make("div.document");
  const bar = make("progress", { "aria-label": "Pieces translated" });
  const count = make("p.by", {}, "Translating…");
  return (event) => {
    if (event.event === "start") {
      written.dataset.model = event.model;
      panel.put(count, bar, written);
    }
    if (event.total !== undefined) {
      Object.assign(bar, { max: event.total || 1, value: event.done });
      count.textContent = `${event.done} of ${event.total} pieces`;
    }
    if (event.event === "segment") {
      written.lang = event.target;
      written.append(event.before, event.translation, event.after);
    }
    if (event.event !== "error") return;
    if (event.index === undefined) panel.answer.append(hint(event.detail));
    else written.append(event.before, make("span.failed", { title: event.detail }, source.slice(event.start, event.end)), event.after);
  };
}

function sumUp(panel, end, roundTrip) {
  const written = panel.answer.querySelector(".document");
  panel.answer.querySelector("progress").remove();
  panel.answer.querySelector(".by").replaceWith(by(written.lang, written.dataset.model, roundTrip));
  if (end.failed) panel.answer.append(hint(`${end.failed} of ${end.total} segments could not be translated.`));
  if (end.truncated) panel.answer.append(hint(`${end.truncated} segments were truncated.`));
}

function named(code) {
  try {
    return names.of(code);
  } catch {
    return code; // a model may use any language names
  }
}
