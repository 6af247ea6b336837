/** HTTP: requests, which are sent and written as curl commands; answers; errors. */

/** Return a path of this service as an absolute address. */
export const address = (path) => new URL(path, document.baseURI).href;
const quoted = (text) => (/^[\w@=./:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const commandLine = (path, ...options) =>
  [`curl -s ${quoted(address(path))}`, ...(key ? [KEY_OPTION] : []), ...options].join(" \\\n  ");

const KEY_OPTION = '-H "X-API-Key: $KEY"'; // a command that is copied does not show the key
let key = "";

/** Send this key with every request from now on; "" sends none. */
export function setKey(value) {
  key = value;
}

/** A refusal or failure, with a message. */
export class Refusal extends Error {
  /** @param {{code?: string, requestId?: string}} more */
  constructor(detail, more = {}) {
    super(sentence(detail));
    this.code = more.code ?? "";
    this.requestId = more.requestId ?? "";
  }
}

/**
 * A request with a JSON body.
 *
 * @param {(event: object) => unknown} [tell] called with the events of a stream
 */
export function jsonRequest(path, body, tell) {
  const json = JSON.stringify(body);
  const curl = commandLine(path, "-H 'Content-Type: application/json'", `-d ${quoted(json)}`);
  return {
    path,
    curl: tell ? curl.replace("curl -s", "curl -sN") : curl,
    init: async () => ({ body: json, headers: { "Content-Type": "application/json" } }),
    tell,
  };
}

/**
 * A request with a picture in a form.
 *
 * @param {import("./picture.js").Choice} picture a sample, which curl reads from here, or a file
 * @param {Record<string, string | number | string[] | undefined>} fields a list is sent as several
 */
export const pictureRequest = (path, picture, fields) => fileRequest(path, "image", picture, fields);

/**
 * A request with a file in a form.
 *
 * @param {string} field name of the form's field for the file
 * @param {import("./picture.js").Choice} file
 * @param {(event: object) => unknown} [tell] called with the events of a stream
 */
export function fileRequest(path, field, file, fields, tell) {
  const given = Object.entries(fields)
    .flatMap(([name, value]) => [value].flat().map((one) => [name, one]))
    .filter(([, value]) => value !== undefined);
  const source = file.sample ? "-" : `"${file.name.replace(/["\\]/g, "\\$&")}"`;
  const options = [[field, `@${source}`], ...given].map(([name, value]) => `-F ${quoted(`${name}=${value}`)}`);
  const plain = commandLine(path, ...options);
  const whole = tell ? plain.replace("curl -s", "curl -sN") : plain;
  const curl = file.sample ? `${commandLine(file.sample)} \\\n| ${whole}` : whole;
  return {
    path,
    curl,
    init: async (signal) => {
      const body = new FormData();
      body.append(field, await file.read(signal), file.name);
      for (const [name, value] of given) body.append(name, String(value));
      return { body };
    },
    tell,
  };
}

/**
 * Send a request.
 *
 * @returns {Promise<{body: any, cache: string, spent: [string, number][], total: number, roundTrip: number}>}
 * @throws {Refusal} on any failure except an abort by `signal`
 */
export async function send(request, signal) {
  const init = await request.init(signal);
  const began = performance.now();
  const response = await reach(request.path, { ...init, method: "POST", signal });
  if (request.tell && response.ok) return summary(await told(response, request.tell), began);
  const body = await read(response);
  const roundTrip = performance.now() - began;
  const timing = serverTiming(response.headers.get("server-timing") ?? "");
  const total = timing.find(([name]) => name === "total")?.[1] ?? 0;
  return {
    body,
    cache: response.headers.get("x-cache") ?? "",
    spent: timing.filter(([name]) => name !== "total"),
    total,
    roundTrip,
  };
}

/** Report every event of a stream; return the last one. */
async function told(response, tell) {
  let last = {};
  for await (const line of lines(response.body.pipeThrough(new TextDecoderStream()))) {
    last = JSON.parse(line);
    tell(last);
  }
  return last;
}

/** Return the summary in the last event of a stream, as `send` does. */
function summary(last, began) {
  if (last.event !== "end") throw new Refusal("the answer ended before its end");
  const kinds = Object.keys(last.cache ?? {});
  return {
    body: last,
    cache: kinds.length === 1 ? kinds[0] : kinds.length ? "miss" : "",
    spent: Object.entries(last.longest ?? {}).map(([name, seconds]) => [name.replace("_seconds", ""), 1000 * seconds]),
    total: 1000 * (last.elapsed ?? last.seconds),
    roundTrip: performance.now() - began,
  };
}

async function* lines(stream) {
  const reader = stream.getReader(); // not every browser can iterate over a stream
  let rest = "";
  try {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      const found = (rest + value).split("\n");
      rest = found.pop();
      yield* found;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("the connection broke in the middle of the answer");
  }
}

/** Read the models and whether the service is ready. @throws {Refusal} if it does not answer */
export async function look() {
  const [models, health] = await Promise.all([
    reach("v1/models").then(read),
    reach("health/ready").then((response) => response.json()),
  ]);
  return { models: models.models, ready: health.status === "ready", reasons: health.models ?? {}, detail: health.detail };
}

/** Send a request without a form, and return its JSON; null if there is none. @throws {Refusal} */
export async function ask(path, init) {
  const response = await reach(path, init);
  return response.status === 204 ? null : read(response);
}

/** Report every event of a stream that is read with GET, until it ends. @throws {Refusal} */
export async function follow(path, init, tell) {
  const response = await reach(path, { ...init, headers: { ...init.headers, Accept: "application/x-ndjson" } });
  if (!response.ok) await read(response);
  await told(response, tell);
}

/** Read a file of this page. @throws {Refusal} */
export async function fetchFile(path, signal) {
  const response = await reach(path, { signal });
  if (!response.ok) throw new Refusal(`${path} could not be loaded`);
  return response.blob();
}

async function reach(path, init = {}) {
  try {
    const headers = key && !init.headers?.Authorization ? { ...init.headers, "X-API-Key": key } : init.headers;
    return await fetch(address(path), { ...init, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("the service does not answer; is it still running?");
  }
}

async function read(response) {
  let body;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(`the answer cannot be read (HTTP ${response.status})`);
  }
  if (response.ok) return body;
  const wait = response.headers.get("retry-after");
  const detail = body.errors?.[0]?.detail ?? body.detail ?? `the service answered ${response.status}`;
  throw new Refusal(wait ? `${detail}; try again in ${wait} s` : detail, { code: body.code, requestId: body.request_id });
}

function serverTiming(header) {
  return header.split(",").flatMap((part) => {
    const [name, ...parameters] = part.split(";").map((each) => each.trim());
    const duration = parameters.find((each) => each.startsWith("dur="));
    return duration ? [[name, Number(duration.slice(4))]] : [];
  });
}

function sentence(text) {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?。]$/.test(trimmed) ? "" : ".");
}
