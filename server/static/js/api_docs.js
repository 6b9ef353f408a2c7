/** The API page: sends the requests of its forms and shows the responses. */

/** Maximum length of a displayed response, in characters. */
const MAX_LENGTH = 200_000;

const token = document.querySelector("#token");

for (const form of document.querySelectorAll(".try")) {
  const operation = form.closest(".operation");
  const curl = operation.querySelector(".curl");
  const stop = form.querySelector(".stop");
  let running = null;

  const showCommand = () => (curl.textContent = curlCommand(requestOf(form)));
  form.addEventListener("input", showCommand);
  token.addEventListener("input", showCommand);
  operation.addEventListener("toggle", showCommand);
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    const current = (running = new AbortController());
    stop.hidden = false;
    try {
      await send(requestOf(form), operation.querySelector(".response"), current.signal);
    } finally {
      if (running === current) stop.hidden = true;
    }
  });
}

document.querySelector("#token-form").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", openTarget);
openTarget();

/** Open the operation or schema that the URL links to. */
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.open = true;
}

/** The request of a form: `{url, method, headers, body, bodyText}`; `bodyText` is the body as curl takes it. */
function requestOf(form) {
  let path = form.getAttribute("action");
  const query = new URLSearchParams();
  const headers = {};
  let body = null;
  let bodyText = null;
  for (const field of form.querySelectorAll("[data-in]")) {
    if (field.dataset.in === "path") {
      path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    } else if (field.dataset.in === "query") {
      if (field.value) query.append(field.name, field.value);
    } else if (field.type === "file") {
      if (field.files.length) {
        body = field.files[0];
        bodyText = `@${body.name}`;
        headers["Content-Type"] = body.type || "application/octet-stream";
      }
    } else {
      body = bodyText = field.value;
      headers["Content-Type"] = field.dataset.type;
    }
  }
  if (token.value) headers.Authorization = `Bearer ${token.value}`;
  const url = new URL(query.size ? `${path}?${query}` : path, location.origin);
  return { url, method: form.dataset.method, headers, body, bodyText };
}

function curlCommand({ url, method, headers, bodyText }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl"];
  if (method !== "GET") parts.push("-X", method);
  for (const [name, value] of Object.entries(headers)) {
    // Never show the token on screen.
    parts.push("-H", name === "Authorization" ? '"Authorization: Bearer $TOKEN"' : quoted(`${name}: ${value}`));
  }
  if (bodyText !== null) parts.push("--data-binary", quoted(bodyText));
  return [...parts, quoted(url.href)].join(" ");
}

async function send({ url, method, headers, body }, panel, signal) {
  const status = panel.querySelector(".response-status");
  const text = panel.querySelector(".response-body");
  const showStatus = (message, ok) => {
    status.textContent = message;
    status.dataset.ok = ok;
  };
  panel.hidden = false;
  text.textContent = panel.querySelector(".response-headers").textContent = "";
  showStatus("…", true);
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body, signal });
    const elapsed = Math.round(performance.now() - started);
    showStatus(`${response.status} ${response.statusText} in ${elapsed} ms`, response.ok);
    panel.querySelector(".response-headers").textContent = [...response.headers]
      .map(([name, value]) => `${name}: ${value}`)
      .join("\n");
    await showBody(response, text);
  } catch (error) {
    if (error.name !== "AbortError") showStatus(`Request failed: ${error.message}`, false);
  }
}

/** Show the body while it arrives, because an event stream never ends. Complete JSON is indented. */
async function showBody(response, target) {
  const decoder = new TextDecoder();
  let text = "";
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
    if (text.length > MAX_LENGTH) break;
    target.textContent = text;
  }
  try {
    target.textContent = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    target.textContent = text.slice(0, MAX_LENGTH);
  }
}
