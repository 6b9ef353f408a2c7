/** The chosen image above its neighbours, and the facts about an image in words. */

import { getJson } from "./api.js";
import { image as imageAddress } from "./address.js";
import { bytes, date, decimal, fileName, folder, number, score, taken } from "./format.js";

const template = document.getElementById("detail-template");

/** What of the EXIF is said in other words. */
const SAID = new Set(["exposure_time", "f_number", "iso", "focal_length", "date_time_original", "offset_time_original", "model"]);

/** The element of the chosen image. `element` is the server's, if it wrote one. */
export function detailElement(image, closeAddress, element = template.content.firstElementChild.cloneNode(true)) {
  const picture = element.querySelector(".detail-image");
  const name = fileName(image.key);
  const address = image.preview_url || image.url;
  fit(picture, image);
  fit(element.querySelector(".detail-stage"), image);
  picture.alt = name;
  // The thumbnail is there already where the reader has just clicked it.
  picture.style.backgroundImage = `url(${JSON.stringify(image.thumbnail_url)})`;
  picture.addEventListener("load", () => (picture.style.backgroundImage = ""), { once: true });
  if (picture.getAttribute("src") !== address) picture.src = address;
  else if (picture.complete) picture.style.backgroundImage = "";
  element.querySelector(".detail-stage").href = address;
  element.querySelector(".detail-name bdi").textContent = name;
  element.querySelector(".detail-close").href = closeAddress;
  element.querySelector(".detail-original").href = image.url;
  writeFacts(element.querySelector(".detail-facts"), image);
  return element;
}

/** Give a picture its final box before it is loaded; base.css does the arithmetic. */
export function fit(picture, image) {
  const known = image.width && image.height;
  if (picture.tagName === "IMG") picture.classList.toggle("fitted", Boolean(known));
  if (!known) return;
  picture.style.setProperty("--width", image.width);
  picture.style.setProperty("--height", image.height);
}

/** Ask once for what lists leave out (EXIF, lens, keywords) and keep it with the image; without it, all goes on. */
export async function withDetails(image, bucket) {
  if ("exif" in image) return;
  const whole = await getJson(imageAddress(bucket, image.id)).catch(() => ({}));
  Object.assign(image, { ...whole, ...image, status: whole.status ?? image.status });
}

/** Fill a `<dl>` with what is known of an image; call it again when more is. */
export function writeFacts(list, image) {
  list.replaceChildren(
    ...facts(image).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const description = document.createElement("dd");
      const text = document.createElement("bdi");
      term.textContent = name;
      text.textContent = value;
      description.append(text);
      return [term, description];
    }),
  );
}

function facts(image) {
  const rows = [];
  const add = (name, value) => {
    if (value !== null && value !== undefined && value !== "") rows.push([name, String(value)]);
  };
  add("Folder", folder(image.key));
  if (image.width && image.height) {
    const megapixels = number(Math.round((image.width * image.height) / 1e5) / 10);
    add("Size", `${number(image.width)} × ${number(image.height)} (${megapixels} MP)`);
  }
  if (image.size) add("File", bytes(image.size));
  if (image.taken_at) add("Taken", taken(image.taken_at));
  add("Camera", image.camera);
  add("Lens", image.lens);
  add("Exposure", exposure(image.exif ?? {}));
  add("Caption", image.caption);
  add("Keywords", image.keywords?.join(", "));
  if (image.latitude || image.longitude) add("Place", `${image.latitude.toFixed(5)}, ${image.longitude.toFixed(5)}`);
  if (image.created_at) add("Added", date(image.created_at));
  if (typeof image.score === "number") add("Similarity", score(image.score));
  if (image.status === "pending") add("Search", "Not searchable yet");
  if (image.status === "failed") add("Search", image.failure_reason ? `Failed: ${image.failure_reason}` : "Failed");
  const known = new Set(rows.map(([, value]) => value));
  for (const [name, value] of Object.entries(image.exif ?? {})) {
    if (!SAID.has(name) && !known.has(String(value))) add(spaced(name), String(value).slice(0, 200));
  }
  return rows;
}

/** As photographers write it: "1/125 s · ƒ/2.8 · ISO 400 · 35 mm". */
function exposure({ exposure_time: seconds, f_number: aperture, iso, focal_length: focal }) {
  const time = seconds && (seconds < 0.3 ? `1/${number(Math.round(1 / seconds))} s` : `${decimal(seconds)} s`);
  const parts = [time, aperture && `ƒ/${decimal(aperture)}`, iso && `ISO ${iso}`, focal && `${decimal(focal)} mm`];
  return parts.filter(Boolean).join(" · ");
}

/** "exposure_bias" as "Exposure bias". */
const spaced = (name) => name.charAt(0).toUpperCase() + name.slice(1).replace(/_/g, " ");
