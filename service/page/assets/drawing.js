/** A pad to draw a digit on. */

const STROKE = 22;
const SIDE = 28;
const DIGIT = 20;

/** The pad; drawings are scaled like the training images: 20 pixels in the middle of 28. */
export class Pad {
  #canvas;
  #pen;
  #last = null;

  constructor(canvas, clear, onStroke, onClear) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d", { willReadFrequently: true });
    Object.assign(this.#pen, { lineWidth: STROKE, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#last = this.#place(event);
      this.#draw(event);
    });
    canvas.addEventListener("pointermove", (event) => this.#last && this.#draw(event));
    const end = () => {
      if (this.#last) onStroke();
      this.#last = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    clear.addEventListener("click", () => {
      this.#pen.clearRect(0, 0, canvas.width, canvas.height);
      onClear();
    });
  }

  /** Whether nothing is drawn yet. */
  get empty() {
    return this.#ink() === null;
  }

  /** Return the drawing as a PNG of 28 x 28 pixels, white on black. */
  read() {
    const { left, top, width, height } = this.#ink();
    const small = document.createElement("canvas");
    small.width = small.height = SIDE;
    const to = small.getContext("2d");
    to.fillRect(0, 0, SIDE, SIDE);
    const scale = DIGIT / Math.max(width, height);
    const [wide, high] = [width * scale, height * scale];
    to.imageSmoothingQuality = "high";
    to.drawImage(this.#canvas, left, top, width, height, (SIDE - wide) / 2, (SIDE - high) / 2, wide, high);
    return new Promise((resolve) => small.toBlob(resolve, "image/png"));
  }

  #draw(event) {
    const to = this.#place(event);
    this.#pen.beginPath();
    this.#pen.moveTo(...this.#last);
    this.#pen.lineTo(...to);
    this.#pen.stroke();
    this.#last = to;
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  /** Return the box around all ink; null if there is none. */
  #ink() {
    const { width, height } = this.#canvas;
    const { data } = this.#pen.getImageData(0, 0, width, height);
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let at = 3; at < data.length; at += 4) {
      if (!data[at]) continue;
      const pixel = (at - 3) / 4;
      const [x, y] = [pixel % width, Math.floor(pixel / width)];
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), y];
    }
    return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
  }
}
