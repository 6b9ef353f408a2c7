/** The facts about an image as a `<dl>`: size, date, camera, exposure, and the rest of its EXIF data. */

import { getJson, imageUrl } from "./api.js";
import { bytes, date, decimal, folder, score, takenDate } from "./format.js";
import { number, text } from "./texts.js";

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

/** Fetch what lists leave out (EXIF, lens, keywords, text in the picture) and store it in `image`. Failures are ignored. */
export async function loadDetails(image, bucket) {
  if ("exif" in image) return;
  const details = await getJson(imageUrl(bucket, image.id)).catch(() => ({}));
  Object.assign(image, { ...details, ...image, status: details.status ?? image.status });
}

function factElements(image) {
  return facts(image).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    const isolated = document.createElement("bdi");
    term.textContent = name;
    isolated.textContent = value;
    description.append(isolated);
    return [term, description];
  });
}

function facts(image) {
  const rows = [
    [text("fact.folder"), folder(image.key)],
    [text("fact.size"), dimensions(image)],
    [text("fact.file_size"), image.size && bytes(image.size)],
    [text("fact.date_taken"), image.taken_at && takenDate(image.taken_at)],
    [text("fact.camera"), image.camera],
    [text("fact.lens"), image.lens],
    [text("fact.exposure"), exposure(image.exif ?? {})],
    [text("fact.title"), image.title],
    [text("fact.caption"), image.caption],
    [text("fact.keywords"), image.keywords?.join(", ")],
    [text("fact.text"), image.texts?.map((line) => line.text).join("\n")],
    [text("fact.place"), image.places?.join(", ")],
    [text("fact.location"), coordinates(image)],
    [text("fact.colours"), image.colours?.map((colour) => text(`colour.${colour}`)).join(", ")],
    [text("fact.added"), image.created_at && date(image.created_at)],
    [text("fact.similarity"), typeof image.score === "number" && score(image.score)],
    [text("fact.indexing"), indexingStatus(image)],
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
  if (status === "pending") return text("fact.pending");
  if (status === "failed") return reason ? text("fact.failed_because", { reason: text(`reason.${reason}`) }) : text("fact.failed");
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
