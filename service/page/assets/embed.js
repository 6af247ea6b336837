/** Embed: the drawings or sentences nearest to a text, the phrases or drawings nearest to an image. */

import { examples, make, modes } from "./elements.js";
import { queryKind } from "./kinds.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { SampleSet } from "./samples.js";
import { jsonRequest, pictureRequest } from "./service.js";

const PATH = "v1/embed";
const PHRASES = 8;
const BEST = 3;
const NEAR = 10;

export function openEmbed(models) {
  const panel = new Panel("embed", models, request, show);
  const { form } = panel;
  const text = form.querySelector("[type=text]");
  const picture = new Picture(form.querySelector(".picture"), () => panel.changed());
  const mode = modes(form, offer);
  const samples = new SampleSet(PATH);
  let opened = false;
  const fitExamples = examples(form, text, () => panel.changed());
  offer();

  return { open };

  function offer() {
    panel.choice?.offer("embed", mode());
  }

  /** Show the set as it is; it is loaded when the tab is opened for the first time. */
  async function open() {
    if (opened) return;
    opened = true;
    try {
      const drawings = await samples.drawings();
      const tiles = drawings.map((drawing) => tile(drawing));
      const shown = !panel.choice.model || searched(mode(), panel.choice.model) === "drawings";
      if (shown && !panel.answer.children.length) panel.put(make("p.by", {}, `${tiles.length} drawings, in no order yet`), make("ol.grid", {}, ...tiles));
    } catch (refusal) {
      opened = false;
      panel.put(make("div.problem", { role: "alert" }, make("p", {}, refusal.message)));
    }
  }

  function request() {
    const { fields, model } = panel.choice;
    fitExamples(queryKind(model));
    if (mode() === "image") return pictureRequest(PATH, picture.choice, fields);
    return text.value.trim() ? jsonRequest(PATH, { text: text.value, ...fields }) : null;
  }

  async function show({ body }, signal) {
    const asked = mode();
    const query = body.results[0].embedding;
    const progress = (done, all) => panel.put(make("div.empty", {}, make("p", {}, `Embedding the sample set: ${done} of ${all}`)));
    const set = searched(asked, panel.choice.model);
    const vectors = await samples.vectors(set, panel.choice.model, progress, signal);
    if (signal.aborted) return;
    const ranked = vectors.map(({ of, vector }) => ({ of, nearness: dot(query, vector) })).sort((a, b) => b.nearness - a.nearness);
    const by = [make("strong", {}, body.model), `, ${body.dimensions} dimensions`];
    if (set === "drawings") {
      panel.put(make("p.by", {}, "Nearest first, by ", ...by), ...grids(ranked));
    } else {
      const best = ranked.slice(0, PHRASES);
      panel.put(make("p.by", {}, `The nearest of ${ranked.length} ${set}, by `, ...by), make(set === "phrases" ? "ol.phrases" : "ol.phrases.plain", {}, ...best.map(phrase)));
    }
  }
}

/** What a query is compared with: the other modality where the model takes both, else its own. */
function searched(asked, { modalities }) {
  const other = asked === "text" ? "image" : "text";
  const kind = modalities.includes(other) ? other : asked;
  if (kind === "image") return "drawings";
  return kind === asked ? "sentences" : "phrases";
}

/** The best large and by name, the next with their nearness, the others small. */
function grids(ranked) {
  const tiles = ranked.map(({ of, nearness }, index) => {
    if (index < BEST) return tile(of, make("b", {}, of.en), make("span", {}, nearness.toFixed(2)));
    return index < BEST + NEAR ? tile(of, make("span", {}, nearness.toFixed(2))) : tile(of);
  });
  return [
    make("ol.best", {}, ...tiles.slice(0, BEST)),
    make("ol.near", { start: BEST + 1 }, ...tiles.slice(BEST, BEST + NEAR)),
    make("ol.grid", { start: BEST + NEAR + 1 }, ...tiles.slice(BEST + NEAR)),
  ];
}

function tile({ path, en, zh }, ...words) {
  return make("li", {}, make("img", { src: path, alt: en, title: `${en} · ${zh}`, width: 64, height: 64 }), ...words);
}

function phrase({ of: { text, lang, path }, nearness }) {
  const image = path ? [make("img", { src: path, alt: "", width: 32, height: 32 })] : [];
  return make("li", {}, ...image, make("span", { lang }, text), make("b", {}, nearness.toFixed(2)));
}

function dot(a, b) {
  return a.reduce((sum, value, index) => sum + value * b[index], 0);
}
