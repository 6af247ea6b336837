const COPIED_FOR = 1600;

/**
 * Make an element. Text goes in as text: nothing on this page is ever parsed as markup.
 *
 * @param {string} kind tag, then classes: "span.badge"
 * @param {Record<string, unknown>} attributes false and null leave one out
 * @param {...(Node | string)} children
 */
export function make(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** Show the one block of a form that belongs to the chosen mode; return a function that reads it. */
export function modes(form, onChange) {
  const radios = [...form.querySelectorAll(".modes input")];
  const mode = () => radios.find((radio) => radio.checked).value;
  const show = () => {
    for (const block of form.querySelectorAll("[data-mode]")) block.hidden = block.dataset.mode !== mode();
  };
  for (const radio of radios) {
    radio.addEventListener("change", () => {
      show();
      onChange(mode());
    });
  }
  show();
  return mode;
}

/**
 * Let the example buttons of a form fill its field.
 *
 * @returns {(kind: string) => void} shows the examples of a kind of model, else those for any; an
 *   example that stands in the field gives way to the first one that is shown
 */
export function examples(form, field, onChosen) {
  const groups = [...form.querySelectorAll(".examples")];
  const buttons = groups.flatMap((group) => [...group.querySelectorAll("button")]);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      field.value = button.dataset.text;
      onChosen();
    });
  }
  return (kind) => {
    const shown = groups.find((group) => group.dataset.kind === kind) ?? groups.find((group) => group.dataset.kind === "any");
    if (!shown?.hidden) return;
    for (const group of groups) group.hidden = group !== shown;
    if (buttons.some((button) => button.dataset.text === field.value)) field.value = shown.querySelector("button").dataset.text;
  };
}

/** Make a list of labels with bars for their scores. */
export const scores = (labels) => make("ol.scores", {}, ...labels.map(scoreRow));

function scoreRow({ label, score }) {
  const share = make("i");
  share.style.width = `${(100 * score).toFixed(2)}%`;
  return make("li", {}, make("span", {}, label), make("b", {}, percent(score)), make("div.share", { "aria-hidden": "true" }, share));
}

function percent(score) {
  if (score > 0 && score < 0.0005) return "< 0.1 %";
  return `${(100 * score).toFixed(1)} %`;
}

/** Write a number of milliseconds with about three digits. */
export function milliseconds(value) {
  if (value === 0) return "0 ms";
  if (value >= 100) return `${value.toFixed(0)} ms`;
  return `${value.toFixed(value >= 10 ? 1 : 2)} ms`;
}

/** Copy the text of an element, and say so on the button for a moment. */
export async function copy(code, button) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Browsers have no clipboard where the page came without TLS from another machine.
    getSelection().selectAllChildren(code);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Press Ctrl + C";
  setTimeout(() => (button.textContent = "Copy"), COPIED_FOR);
}
