/** Give an element the final size of the image before it is loaded; css/base.css computes it. */
export function reserveSpace(element, image) {
  const hasSize = image.width && image.height;
  if (element.tagName === "IMG") element.classList.toggle("fitted", Boolean(hasSize));
  if (!hasSize) return;
  element.style.setProperty("--width", image.width);
  element.style.setProperty("--height", image.height);
}
