/** The dividers between images: above the less relevant ones, or above those of each month. */

import { monthName } from "./format.js";
import { dividerContent } from "./messages.js";
import { isByDateTaken } from "./page_state.js";

/** The month of the camera's clock in which an image was taken, as in "2024-05"; "" without a date. */
export const monthOf = (image) => image?.taken_at?.slice(0, 7) ?? "";

/** A function for the images of a list in their order, which returns the content of the divider above one, or null. */
export function createDividers(state, images) {
  return isByDateTaken(state) ? monthDividers() : relevanceDivider(state, images);
}

function monthDividers() {
  // In the last hours of a month, images of two months can alternate: they have been taken in several time zones.
  const seen = new Set();
  return (image) => {
    const month = monthOf(image);
    if (seen.has(month)) return null;
    seen.add(month);
    const heading = document.createElement("h2");
    heading.className = "month";
    heading.textContent = monthName(month);
    return [heading];
  };
}

function relevanceDivider(state, images) {
  let isPlaced = false;
  return (image) => {
    if (isPlaced || !image.weak) return null;
    isPlaced = true;
    return dividerContent(state, { onlyWeak: Boolean(images[0].weak) });
  };
}
