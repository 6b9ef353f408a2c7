/** The text in a picture, as an SVG above it: selectable, with the words of the query marked. */

const SVG = "http://www.w3.org/2000/svg";
/** As for shared/ocr: lines that are this much taller than wide run from top to bottom. */
const VERTICAL = 1.5;
/** Height of the letters above the baseline, as a share of a line's height. */
const ASCENT = 0.78;
/** Margin of a box to the left and right of its text, as a share of its height. */
const MARGIN = 0.14;
/** Margin of a mark to the left and right of its word. */
const MARK_MARGIN = 0.08;
const WORD = /\p{N}+|[\p{L}\p{M}]+/gu;
/** Scripts without spaces between words. */
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;
/** As in the function spellings of the database: shorter words and numbers have no similar ones. */
const MIN_SIMILAR = 5;
const MIN_PREFIX = 3;

/** Return the layer for `image`, `{width, height, texts}`. Call `markWords` once it is shown. */
export function textLayer({ width, height, texts }) {
  const layer = element("svg", { class: "text-layer", viewBox: `0 0 ${width} ${height}` });
  for (const { text, box } of texts) {
    const corners = [0, 2, 4, 6].map((i) => [box[i] * width, box[i + 1] * height]);
    const isVertical = distance(corners[0], corners[3]) >= VERTICAL * distance(corners[0], corners[1]);
    const [start, end, , below] = isVertical ? [...corners.slice(1), corners[0]] : corners;
    const angle = Math.atan2(end[1] - start[1], end[0] - start[0]) * (180 / Math.PI);
    const lineHeight = distance(start, below);
    const line = element("g", { transform: `translate(${start}) rotate(${angle})` });
    const words = element("text", {
      x: MARGIN * lineHeight,
      y: ASCENT * lineHeight,
      "font-size": lineHeight,
      textLength: Math.max(1, distance(start, end) - 2 * MARGIN * lineHeight),
      lengthAdjust: "spacingAndGlyphs",
    });
    words.textContent = text;
    line.append(words);
    layer.append(line);
  }
  return layer;
}

/** Mark the words of `query` in a shown layer, if the picture shows all of them. */
export function markWords(layer, query) {
  const wanted = [...query.matchAll(WORD)].map(([word]) => folded(word));
  const lines = [...layer.querySelectorAll("text")];
  const found = lines.map((line) => [...line.textContent.matchAll(WORD)]);
  const shown = found.flat().map(([word]) => folded(word));
  if (!wanted.every((word) => shown.some((other) => isHit(other, word)))) return;
  lines.forEach((line, index) => {
    for (const match of found[index]) {
      const hit = wanted.find((word) => isHit(folded(match[0]), word));
      if (hit) line.before(mark(line, ...range(match, hit)));
    }
  });
}

/** The first and the last character to mark: a part of a word where no spaces separate words. */
function range({ 0: word, index }, hit) {
  const start = UNSPACED.test(hit) ? Math.max(0, folded(word).indexOf(hit)) : 0;
  return [index + start, index + (UNSPACED.test(hit) ? start + hit.length : word.length) - 1];
}

function mark(line, first, last) {
  const { x } = line.getStartPositionOfChar(first);
  const height = line.getAttribute("font-size");
  // The widths of the letters are those of another font.
  const margin = MARK_MARGIN * height;
  return element("rect", { x: x - margin, width: line.getEndPositionOfChar(last).x - x + 2 * margin, height });
}

function isHit(word, wanted) {
  if (word === wanted || (wanted.length >= MIN_PREFIX && word.startsWith(wanted))) return true;
  if (UNSPACED.test(wanted)) return word.includes(wanted);
  return Math.min(word.length, wanted.length) >= MIN_SIMILAR && !/\p{N}/u.test(word) && differByOne(word, wanted);
}

/** Return whether one letter differs, is missing, or is one too many. */
function differByOne(a, b) {
  const shorter = Math.min(a.length, b.length);
  let before = 0;
  let after = 0;
  while (before < shorter && a[before] === b[before]) before++;
  while (after < shorter - before && a.at(-1 - after) === b.at(-1 - after)) after++;
  return Math.max(a.length, b.length) - before - after <= 1;
}

/** Fold case and accents, as the database does. */
const folded = (word) => word.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replaceAll("ß", "ss");

const distance = ([x1, y1], [x2, y2]) => Math.hypot(x2 - x1, y2 - y1);

function element(name, attributes) {
  const created = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}
