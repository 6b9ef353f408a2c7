/** The terms of a query as chips: the elements of templates/_query_terms.html. */

import { text } from "./texts.js";

const template = document.getElementById("query-chip-template");

/** The chip of a term; `flipUrl` and `removeUrl` are the pages with its sign changed, and without it. */
export function queryChip(term, label, { flipUrl, removeUrl }) {
  const chip = template.content.firstElementChild.cloneNode(true);
  const excluded = term.weight < 0;
  const sign = chip.querySelector(".chip-sign");
  chip.classList.toggle("is-excluded", excluded);
  sign.href = flipUrl;
  sign.textContent = excluded ? "−" : "+";
  sign.ariaLabel = text(excluded ? "term.excluded" : "term.included", { name: label.name });
  sign.title = text(excluded ? "term.include" : "term.exclude");
  const remove = chip.querySelector(".chip-remove");
  remove.href = removeUrl;
  remove.ariaLabel = text("term.remove_term", { name: label.name });
  fillLabel(chip, label);
  return chip;
}

/** The chip of an image that is being uploaded; its `<progress>` shows the share sent. */
export function uploadChip(label, onCancel) {
  const chip = template.content.firstElementChild.cloneNode(true);
  const progress = document.createElement("progress");
  const sign = chip.querySelector(".chip-sign");
  const remove = chip.querySelector(".chip-remove");
  chip.classList.add("is-uploading");
  // An empty sign keeps its width, so that nothing shifts once the upload is done.
  sign.replaceChildren();
  sign.removeAttribute("href");
  remove.ariaLabel = text("search.cancel_upload", { name: label.name });
  remove.addEventListener("click", (event) => {
    event.preventDefault();
    onCancel();
  });
  progress.className = "chip-progress";
  progress.ariaLabel = text("search.uploading", { name: label.name });
  chip.append(progress);
  fillLabel(chip, label);
  return chip;
}

/** Show a thumbnail in `holder`, or an icon if there is none or it fails to load. */
export function fillThumbnail(holder, { name, thumbnail }) {
  const image = holder.querySelector("img");
  holder.classList.toggle("has-no-thumbnail", !thumbnail);
  if (!thumbnail) return;
  image.alt = name;
  image.addEventListener("error", () => holder.classList.add("has-no-thumbnail"), { once: true });
  image.src = thumbnail;
}

function fillLabel(chip, { name, thumbnail }) {
  const words = chip.querySelector(".chip-text");
  const holder = chip.querySelector(".chip-thumbnail");
  if (thumbnail === null) {
    words.textContent = name;
    holder.remove();
  } else {
    words.remove();
    fillThumbnail(holder, { name, thumbnail });
  }
}
