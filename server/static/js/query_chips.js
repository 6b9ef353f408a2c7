/** The terms of a query as chips: the elements of templates/_query_terms.html. */

const template = document.getElementById("query-chip-template");

/** The chip of a term; `flipUrl` and `removeUrl` are the pages with its sign changed, and without it. */
export function queryChip(term, label, { flipUrl, removeUrl }) {
  const chip = template.content.firstElementChild.cloneNode(true);
  const excluded = term.weight < 0;
  const sign = chip.querySelector(".chip-sign");
  chip.classList.toggle("is-excluded", excluded);
  sign.href = flipUrl;
  sign.textContent = excluded ? "−" : "+";
  sign.ariaLabel = excluded ? `Less like ${label.name}: switch to more` : `More like ${label.name}: switch to less`;
  sign.title = excluded ? "Switch to more like this" : "Switch to less like this";
  const remove = chip.querySelector(".chip-remove");
  remove.href = removeUrl;
  remove.ariaLabel = `Remove ${label.name}`;
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
  remove.ariaLabel = `Cancel upload of ${label.name}`;
  remove.addEventListener("click", (event) => {
    event.preventDefault();
    onCancel();
  });
  progress.className = "chip-progress";
  progress.ariaLabel = `Uploading ${label.name}`;
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
  const text = chip.querySelector(".chip-text");
  const holder = chip.querySelector(".chip-thumbnail");
  if (thumbnail === null) {
    text.textContent = name;
    holder.remove();
  } else {
    text.remove();
    fillThumbnail(holder, { name, thumbnail });
  }
}
