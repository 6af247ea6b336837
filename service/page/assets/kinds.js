/** What samples fit a model: decided by its labels, languages and modalities, never by its name. */

const has = (model, ...labels) => labels.every((label) => model.labels?.includes(label));

/** Whether it classifies the ten digits. */
export const readsDigits = (model) => model.labels?.length === 10 && model.labels.every((label, index) => label === String(index));

/** Kind of examples for a classifier of texts. */
export const textKind = (model) => (has(model, "business", "entertainment") ? "news" : "any");

/** Kind of sample images for a classifier; a model without labels takes those of the request. */
export const imageKind = (model) => {
  if (readsDigits(model)) return "digits";
  return model.labels?.length ? "photos" : "drawings";
};

/** Kind of sample images for a detector. */
export const sceneKind = (model) => (has(model, "ace", "king") ? "cards" : "photos");

/** Kind of example texts for a translator: the language that it reads, without region or script. */
export const sourceKind = (model) => (model.languages?.[0] ?? "en").split(/[-_]/)[0].toLowerCase();

/** Kind of example texts for an embedder: names of pictures, or sentences where it takes no images. */
export const queryKind = (model) => (model.modalities.includes("image") ? "pictures" : "sentences");
