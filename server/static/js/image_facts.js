/** The facts about an image as a `<dl>`: size, date, camera, exposure, and the rest of its EXIF data. */

import { getJson, imageUrl } from "./api.js";
import { bytes, date, decimal, folder, number, score, takenDate } from "./format.js";

/** EXIF fields that other facts already show. */
const SHOWN_ELSEWHERE = new Set([
  "exposure_time",
  "f_number",
  "iso",
  "focal_length",
  "date_time_original",
  "offset_time_original",
  "model",
]);

/** Show the facts of `image` in `list`, first those that lists contain, then all of them. */
export async function showFacts(list, image, bucket) {
  list.replaceChildren(...factElements(image));
  const shown = (list.dataset.id = String(image.id));
  await loadDetails(image, bucket);
  if (list.dataset.id === shown) list.replaceChildren(...factElements(image));
}

/** Fetch what lists leave out (EXIF, lens, keywords) and store it in `image`. Failures are ignored. */
async function loadDetails(image, bucket) {
  if ("exif" in image) return;
  const details = await getJson(imageUrl(bucket, image.id)).catch(() => ({}));
  Object.assign(image, { ...details, ...image, status: details.status ?? image.status });
}

function factElements(image) {
  return facts(image).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    const text = document.createElement("bdi");
    term.textContent = name;
    text.textContent = value;
    description.append(text);
    return [term, description];
  });
}

function facts(image) {
  const rows = [
    ["Folder", folder(image.key)],
    ["Size", dimensions(image)],
    ["File size", image.size && bytes(image.size)],
    ["Date taken", image.taken_at && takenDate(image.taken_at)],
    ["Camera", image.camera],
    ["Lens", image.lens],
    ["Exposure", exposure(image.exif ?? {})],
    ["Title", image.title],
    ["Caption", image.caption],
    ["Keywords", image.keywords?.join(", ")],
    ["Location", coordinates(image)],
    ["Added", image.created_at && date(image.created_at)],
    ["Similarity", typeof image.score === "number" && score(image.score)],
    ["Indexing", indexingStatus(image)],
  ].filter(([, value]) => value);
  const shown = new Set(rows.map(([, value]) => value));
  const rest = Object.entries(image.exif ?? {})
    .filter(([name, value]) => !SHOWN_ELSEWHERE.has(name) && !shown.has(String(value)) && value !== null && value !== "")
    .map(([name, value]) => [capitalised(name), String(value).slice(0, 200)]);
  return [...rows, ...rest];
}

function dimensions({ width, height }) {
  if (!width || !height) return "";
  return `${number(width)} × ${number(height)} (${decimal((width * height) / 1e6)} MP)`;
}

function coordinates({ latitude, longitude }) {
  return latitude || longitude ? `${latitude.toFixed(5)}, ${longitude.toFixed(5)}` : "";
}

function indexingStatus({ status, failure_reason: reason }) {
  if (status === "pending") return "Pending";
  if (status === "failed") return reason ? `Failed: ${reason}` : "Failed";
  return "";
}

/** The exposure as photographers write it: "1/125 s · ƒ/2.8 · ISO 400 · 35 mm". */
function exposure({ exposure_time: seconds, f_number: aperture, iso, focal_length: focalLength }) {
  const time = seconds && (seconds < 0.3 ? `1/${number(Math.round(1 / seconds))} s` : `${decimal(seconds)} s`);
  const lens = focalLength && `${decimal(focalLength)} mm`;
  return [time, aperture && `ƒ/${decimal(aperture)}`, iso && `ISO ${iso}`, lens].filter(Boolean).join(" · ");
}

/** "exposure_bias" as "Exposure bias". */
const capitalised = (name) => name.charAt(0).toUpperCase() + name.slice(1).replace(/_/g, " ");
