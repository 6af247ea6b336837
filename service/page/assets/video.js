/** Video: objects of a clip, drawn over it while it is analysed, with a timeline below. */

import { drawObjects, makeStage, tintOf } from "./boxes.js";
import { make } from "./elements.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { fileRequest } from "./service.js";

const PATH = "v1/video";
const RECORDED_SECONDS = 5;

export function openVideo(models) {
  const panel = new Panel("video", models, request, show);
  const track = panel.form.querySelector("[name=track]");
  const clip = new Picture(panel.form.querySelector(".picture"), () => panel.changed());
  openCamera(panel.form.querySelector("[data-camera]"), clip);
  panel.choice.offer("detect", "image");
  let film = null;

  function request() {
    const fields = { ...(track.checked ? { track: true } : {}), ...panel.choice.fields };
    return fileRequest(PATH, "video", clip.choice, fields, tell);
  }

  function tell(event) {
    if (event.event === "start") {
      film?.close();
      film = new Film(clip.choice, event);
      panel.put(film.root);
    }
    if (event.event === "frame") film.add(event);
    if (event.event === "error") film.root.append(make("p.hint", {}, event.detail));
  }

  function show({ body }) {
    film.end(body);
  }
}

/** A video with its boxes, and what was found when. */
class Film {
  #frames = [];
  #tints = new Map();
  #marks = new Map();
  #screen;
  #stage;
  #by;
  #rows = make("div.timeline", { role: "img", "aria-label": "When each label was found" });
  #seconds;
  #info;
  #timer;

  constructor(choice, start) {
    this.#info = start;
    this.#seconds = start.seconds || 1;
    this.#screen = make("video", { controls: true, playsinline: true });
    this.#screen.muted = true;
    this.#load(choice);
    this.#by = make("p.by", {}, "Analysing by ", make("strong", {}, start.model));
    this.#stage = makeStage(this.#screen, start);
    this.root = make("div.film", {}, this.#by, this.#stage, this.#rows);
    this.#timer = setInterval(() => this.#draw(), 50);
  }

  /** Stop drawing, and let go of the file. */
  close() {
    clearInterval(this.#timer);
    URL.revokeObjectURL(this.#screen.src);
  }

  /** The whole file, because a browser cannot jump within one that it gets in one piece. */
  async #load(choice) {
    this.#screen.src = URL.createObjectURL(await choice.read());
  }

  /** Take a frame; the video stands at the latest one until it is played. */
  add(frame) {
    this.#frames.push(frame);
    if (this.#screen.paused) this.#screen.currentTime = frame.time;
    for (const { label } of frame.objects) this.#mark(label, frame.time);
  }

  /** Say what was counted. */
  end({ frames, counts }) {
    const found = Object.entries(counts ?? {}).map(([label, count]) => `${count} × ${label}`);
    const words = found.length ? `: ${found.join(", ")}` : "";
    this.#by.replaceChildren(`${frames} frames by `, make("strong", {}, this.#info.model), words);
    this.#screen.currentTime = 0;
  }

  #tint(label) {
    if (!this.#tints.has(label)) this.#tints.set(label, tintOf(this.#tints.size));
    return this.#tints.get(label);
  }

  #mark(label, time) {
    if (!this.#marks.has(label)) {
      const bar = make("div.bar", { "data-tint": this.#tint(label) });
      this.#rows.append(make("div.row", {}, make("span", {}, label), bar));
      this.#marks.set(label, bar);
    }
    const mark = make("i");
    mark.style.left = `${(100 * time) / this.#seconds}%`;
    mark.style.width = `${Math.max(0.4, 100 / ((this.#info.fps || 25) * this.#seconds))}%`;
    this.#marks.get(label).append(mark);
  }

  #draw() {
    if (!this.root.isConnected) return;
    const now = this.#screen.currentTime + 0.5 / (this.#info.fps || 25);
    const frame = this.#frames.findLast(({ time }) => time <= now);
    drawObjects(this.#stage, frame?.objects ?? [], this.#info, this.#tints);
  }
}

/** Record a few seconds from the camera. */
function openCamera(button, clip) {
  button.hidden = !navigator.mediaDevices?.getUserMedia || typeof MediaRecorder === "undefined";
  button.addEventListener("click", async () => {
    const words = button.textContent;
    button.disabled = true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: true });
      const recorder = new MediaRecorder(stream);
      const ended = new Promise((resolve) => (recorder.ondataavailable = ({ data }) => resolve(data)));
      recorder.start();
      for (let left = RECORDED_SECONDS; left; left -= 1) {
        button.textContent = `Recording, ${left} s`;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      recorder.stop();
      const data = await ended;
      for (const each of stream.getTracks()) each.stop();
      clip.take(new File([data], "camera.webm", { type: data.type }));
      button.textContent = words;
    } catch (error) {
      button.textContent = `No camera: ${error.message}`;
    } finally {
      button.disabled = false;
    }
  });
}
