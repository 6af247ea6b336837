/** The drawings, phrases and sentences that the page searches, and their vectors, which the service makes. */

import { fetchFile, Refusal, send } from "./service.js";

const FOLDER = "page/samples/emoji/";
const SENTENCES = "page/samples/sentences.json";
const BATCH = 32;

/** The sample set. Vectors are requested once per model, in bounded requests, and kept. */
export class SampleSet {
  #path;
  #drawings = null;
  #kept = new Map();

  /** @param {string} path of the embed route */
  constructor(path) {
    this.#path = path;
  }

  /** Return the drawings: path, en, zh. @throws {Refusal} */
  async drawings() {
    if (!this.#drawings) {
      const listed = JSON.parse(await (await fetchFile(`${FOLDER}emoji.json`)).text());
      this.#drawings = listed.map(({ file, ...names }) => ({ path: FOLDER + file, ...names }));
    }
    return this.#drawings;
  }

  /**
   * Return every drawing, phrase or sentence, with its vector.
   *
   * @param {"drawings" | "phrases" | "sentences"} set
   * @param {{model: string, version: number, digest: string}} model
   * @param {(done: number, all: number) => void} progress
   * @returns {Promise<{of: object, vector: number[]}[]>}
   * @throws {Refusal}
   */
  async vectors(set, model, progress, signal) {
    const key = [set, model.model, model.version, model.digest].join(" ");
    if (this.#kept.has(key)) return this.#kept.get(key);
    const members = await this.#members(set);
    const found = [];
    for (let size = BATCH; found.length < members.length; ) {
      progress(found.length, members.length);
      const batch = members.slice(found.length, found.length + size);
      try {
        const vectors = await this.#embed(set, batch, model, signal);
        found.push(...batch.map((of, index) => ({ of, vector: vectors[index] })));
      } catch (error) {
        // An operator may have set a lower limit of items or bytes than ours.
        if (!(error instanceof Refusal) || error.code !== "limit_exceeded" || size === 1) throw error;
        size = Math.ceil(size / 2);
      }
    }
    this.#kept.set(key, found);
    return found;
  }

  async #members(set) {
    if (set === "sentences") return JSON.parse(await (await fetchFile(SENTENCES)).text());
    const drawings = await this.drawings();
    return set === "drawings" ? drawings : drawings.flatMap(named);
  }

  async #embed(set, batch, { model, version }, signal) {
    const init = set === "drawings" ? () => form(batch, model, version, signal) : () => json(batch, model, version);
    const { body } = await send({ path: this.#path, init }, signal);
    return body.results.map((result) => result.embedding);
  }
}

async function form(batch, model, version, signal) {
  const body = new FormData();
  const files = await Promise.all(batch.map(({ path }) => fetchFile(path, signal)));
  for (const file of files) body.append("image", file);
  body.append("model", model);
  body.append("version", version);
  return { body };
}

async function json(batch, model, version) {
  const body = JSON.stringify({ text: batch.map(({ text }) => text), model, version });
  return { body, headers: { "Content-Type": "application/json" } };
}

const named = ({ path, en, zh }) => [{ path, text: en, lang: "en" }, { path, text: zh, lang: "zh" }];
