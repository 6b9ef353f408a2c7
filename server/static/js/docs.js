/** The page of the API: sends what its forms say, and shows what comes back. */

const LONGEST = 200_000; // characters of an answer that are shown

const token = document.querySelector("#token");

for (const form of document.querySelectorAll(".try")) {
  const operation = form.closest(".operation");
  const curl = operation.querySelector(".curl");
  const stop = form.querySelector(".stop");
  let running = null;

  const show = () => (curl.textContent = curlLine(requestOf(form)));
  form.addEventListener("input", show);
  token.addEventListener("input", show);
  operation.addEventListener("toggle", show);
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    const current = (running = new AbortController());
    stop.hidden = false;
    try {
      await tryIt(requestOf(form), operation.querySelector(".answer"), current.signal);
    } finally {
      if (running === current) stop.hidden = true;
    }
  });
}

document.querySelector("#token-form").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", openTarget);
openTarget();

/** A link to an operation or a schema opens it. */
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.open = true;
}

/** Return what a form asks for: address, method, headers and body, and the body's text or file name for a person. */
function requestOf(form) {
  let path = form.getAttribute("action");
  const query = new URLSearchParams();
  const headers = {};
  let body = null;
  let words = null;
  for (const field of form.querySelectorAll("[data-in]")) {
    if (field.dataset.in === "path") {
      path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    } else if (field.dataset.in === "query") {
      if (field.value) query.append(field.name, field.value);
    } else if (field.type === "file") {
      if (field.files.length) {
        body = field.files[0];
        words = `@${body.name}`;
        headers["Content-Type"] = body.type || "application/octet-stream";
      }
    } else {
      body = words = field.value;
      headers["Content-Type"] = field.dataset.type;
    }
  }
  if (token.value) headers.Authorization = `Bearer ${token.value}`;
  const address = new URL(query.size ? `${path}?${query}` : path, location.origin);
  return { address, method: form.dataset.method, headers, body, words };
}

function curlLine({ address, method, headers, words }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl"];
  if (method !== "GET") parts.push("-X", method);
  for (const [name, value] of Object.entries(headers)) {
    // What is shown can be read over a shoulder.
    parts.push("-H", name === "Authorization" ? '"Authorization: Bearer $TOKEN"' : quoted(`${name}: ${value}`));
  }
  if (words !== null) parts.push("--data-binary", quoted(words));
  return [...parts, quoted(address.href)].join(" ");
}

async function tryIt({ address, method, headers, body }, panel, signal) {
  const status = panel.querySelector(".answer-status");
  const text = panel.querySelector(".answer-body");
  const show = (words, ok) => {
    status.textContent = words;
    status.dataset.ok = ok;
  };
  panel.hidden = false;
  text.textContent = panel.querySelector(".answer-headers").textContent = "";
  show("…", true);
  const started = performance.now();
  try {
    const response = await fetch(address, { method, headers, body, signal });
    const took = Math.round(performance.now() - started);
    show(`${response.status} ${response.statusText} in ${took} ms`, response.ok);
    panel.querySelector(".answer-headers").textContent = [...response.headers]
      .map(([name, value]) => `${name}: ${value}`)
      .join("\n");
    await showBody(response, text);
  } catch (error) {
    if (error.name !== "AbortError") show(`No answer: ${error.message}`, false);
  }
}

/** Show the body as it comes, since a stream of events does not end; JSON is indented when it is there. */
async function showBody(response, target) {
  const decoder = new TextDecoder();
  let whole = "";
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    whole += decoder.decode(value, { stream: true });
    if (whole.length > LONGEST) break;
    target.textContent = whole;
  }
  try {
    target.textContent = JSON.stringify(JSON.parse(whole), null, 2);
  } catch {
    target.textContent = whole.slice(0, LONGEST);
  }
}
