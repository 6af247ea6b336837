/** Choosing a picture: drop it, pick it, or take a sample. */

import { make } from "./elements.js";
import { fetchFile } from "./service.js";

/**
 * @typedef {object} Choice
 * @property {string} name
 * @property {string} url to show it
 * @property {string} sample its path on this service; empty for the user's own
 * @property {(signal?: AbortSignal) => Promise<Blob>} read
 */

/** The image of a form. */
export class Picture {
  /** @type {Choice} */
  choice;
  #preview;
  #kind;
  #sets;
  #offered = "";
  #group;
  #name = make("span.name");
  #thumbs = [];
  #onChange;

  /** The place's data-samples lists the samples of each kind: kind:path|words,path|words;kind:path|words. */
  constructor(place, onChange) {
    this.#onChange = onChange;
    this.#kind = place.dataset.kind ?? "image";
    this.#preview = this.#show({ alt: "", decoding: "async" });
    this.#group = make("div.thumbs", { role: "group", "aria-label": `Sample ${this.#kind}s` });
    const kinds = place.dataset.samples.split(";").map((each) => each.split(":"));
    this.#sets = new Map(kinds.map(([kind, listed]) => [kind, listed.split(",").map((each) => each.split("|"))]));
    const input = make("input", { type: "file", accept: `${this.#kind}/*` });
    input.addEventListener("change", () => {
      if (input.files.length) this.take(input.files[0]);
      input.value = "";
    });
    const words = make("span", {}, make("b", {}, `Choose ${this.#kind === "image" ? "an image" : "a video"}`), " or drop it here");
    const drop = make("label.drop", {}, input, this.#preview, this.#name, words);
    this.#preview.addEventListener("error", () => (this.#preview.hidden = true));
    this.#receive(drop);
    place.append(drop, this.#group);
    this.fit(kinds[0][0]);
  }

  /** Offer the samples of a kind; a sample that is chosen gives way to the first of them. */
  fit(kind) {
    if (kind === this.#offered) return;
    this.#offered = kind;
    const samples = this.#sets.get(kind);
    this.#thumbs = samples.map(([path, words]) => this.#thumb(path, words));
    this.#group.replaceChildren(...this.#thumbs);
    if (!this.choice || this.choice.sample) this.#takeSample(...samples[0]);
    else this.#mark();
  }

  /** Take a file of the user's. */
  take(file) {
    this.#set({ name: file.name, url: URL.createObjectURL(file), sample: "", read: async () => file });
  }

  #takeSample(path, words) {
    const sample = `page/samples/${path}`;
    const read = (signal) => fetchFile(sample, signal);
    this.#set({ name: path.split("/").at(-1), url: sample, sample, read, words });
  }

  #set(choice) {
    if (this.choice && !this.choice.sample) URL.revokeObjectURL(this.choice.url);
    this.choice = choice;
    this.#preview.hidden = false;
    this.#preview.src = choice.url;
    this.#name.textContent = choice.words ?? choice.name;
    this.#mark();
    this.#onChange();
  }

  #show(attributes) {
    if (this.#kind === "image") return make("img", attributes);
    const video = make("video", { ...attributes, preload: "metadata" });
    video.muted = true;
    return video;
  }

  #mark() {
    for (const thumb of this.#thumbs) thumb.setAttribute("aria-pressed", String(thumb.value === this.choice.sample));
  }

  #thumb(path, words) {
    const image = this.#show({ src: `page/samples/${path}`, alt: words, width: 48, height: 48, loading: "lazy" });
    const take = () => this.#takeSample(path, words);
    return make("button", { type: "button", value: `page/samples/${path}`, title: words, onclick: take }, image);
  }

  #receive(drop) {
    const over = (event) => {
      event.preventDefault();
      drop.classList.toggle("over", event.type === "dragover");
    };
    drop.addEventListener("dragover", over);
    drop.addEventListener("dragleave", over);
    drop.addEventListener("drop", (event) => {
      over(event);
      const [file] = event.dataTransfer.files;
      if (file) this.take(file);
    });
  }
}
