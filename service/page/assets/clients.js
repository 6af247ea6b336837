/** The snippets of docs/clients.md, for this service's address; and the key that requests need. */

import { copy, make } from "./elements.js";
import { address, fetchFile, setKey } from "./service.js";

const DOCUMENTED = "http://127.0.0.1:8000";
const STORED = "quartet-key";

/** Fill the panel when it is opened for the first time. */
export function openClients(panel) {
  const base = address("").replace(/\/$/, "");
  panel.querySelector("[data-base]").textContent = base;
  panel.addEventListener("toggle", async () => {
    const place = panel.querySelector("[data-snippets]");
    if (!panel.open || place.childElementCount) return;
    try {
      const text = await (await fetchFile("page/clients.txt")).text();
      place.replaceChildren(...protocols(text, base));
    } catch (refusal) {
      place.replaceChildren(make("p.problem", { role: "alert" }, refusal.message));
    }
  });
}

/** Show the field for a key when the service asks for one; keep the key until the tab is closed. */
export function openKey(form, models) {
  const field = form.querySelector("input");
  let tried = sessionStorage.getItem(STORED) ?? "";
  setKey(tried);
  models.addEventListener("key", () => {
    if (tried) form.querySelector("[data-said]").textContent = "This key is not known.";
    form.hidden = false;
  });
  models.addEventListener("change", () => (form.hidden = true));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tried = field.value.trim();
    sessionStorage.setItem(STORED, tried);
    setKey(tried);
    models.refresh();
  });
}

/** Make an element of every protocol: a section of the document, with its snippets. */
function protocols(text, base) {
  return text.split(/^## /m).slice(1).map((section) => {
    const name = section.slice(0, section.indexOf("\n"));
    const snippets = section.split(/^### /m).slice(1).flatMap((part) => snippet(part, base));
    return snippets.length ? make("details", {}, make("summary", {}, name), ...snippets) : "";
  });
}

function snippet(part, base) {
  const client = part.slice(0, part.indexOf("\n"));
  const written = /^```\w*\n(.*?)^```/ms.exec(part)?.[1];
  if (!written) return [];
  const here = written.replaceAll(DOCUMENTED, base).replaceAll("127.0.0.1:8000", new URL(base).host).trimEnd();
  const code = make("code", {}, here);
  const button = make("button.quiet", { type: "button", onclick: () => copy(code, button) }, "Copy");
  const heading = make("div.heading", {}, make("h4", {}, client), button);
  return [make("div.curl", {}, heading, make("pre", { tabindex: 0, "aria-label": client }, code))];
}
