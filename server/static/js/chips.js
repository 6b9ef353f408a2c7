/** The terms of a query as chips: the same elements that the server's `chip` macro writes. */

const template = document.getElementById("chip-template");

/**
 * The chip of a term. `subject` is what subjects.js says of it; `turned` and `removed` are the addresses of the page
 * with the term counting the other way, and without it.
 */
export function chip(term, { name, picture }, { turned, removed }) {
  const element = template.content.firstElementChild.cloneNode(true);
  const against = term.weight < 0;
  element.classList.toggle("is-against", against);
  const sign = element.querySelector(".chip-sign");
  sign.href = turned;
  sign.textContent = against ? "−" : "+";
  sign.ariaLabel = against ? `Less like ${name}: turn into more` : `More like ${name}: turn into less`;
  sign.title = against ? "Counts against: press to turn" : "Counts for: press to turn";
  const remove = element.querySelector(".chip-remove");
  remove.href = removed;
  remove.ariaLabel = `Remove ${name}`;
  fill(element, { name, picture });
  return element;
}

/** A chip of a picture that is still being sent; `cancel` stops it. Its `value` is the share that has gone. */
export function sendingChip({ name, picture }, cancel) {
  const element = template.content.firstElementChild.cloneNode(true);
  const progress = document.createElement("progress");
  const remove = element.querySelector(".chip-remove");
  element.classList.add("is-sending");
  // It keeps its room, so that the chip is as wide when the picture has arrived.
  element.querySelector(".chip-sign").replaceChildren();
  element.querySelector(".chip-sign").removeAttribute("href");
  remove.ariaLabel = `Stop sending ${name}`;
  remove.addEventListener("click", (event) => {
    event.preventDefault();
    cancel();
  });
  progress.className = "chip-progress";
  progress.ariaLabel = `Sending ${name}`;
  element.append(progress);
  fill(element, { name, picture });
  return element;
}

/** A thumbnail of a picture; a sign where there is none, or where it does not load. */
export function fillPicture(holder, { name, picture }) {
  const image = holder.querySelector("img");
  holder.classList.toggle("is-blank", !picture);
  if (!picture) return;
  image.alt = name;
  image.addEventListener("error", () => holder.classList.add("is-blank"), { once: true });
  image.src = picture;
}

function fill(element, { name, picture }) {
  const words = element.querySelector(".chip-text");
  const holder = element.querySelector(".chip-picture");
  if (picture === null) {
    words.textContent = name;
    holder.remove();
  } else {
    words.remove();
    fillPicture(holder, { name, picture });
  }
}
