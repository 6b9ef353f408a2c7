/** Numbers, dates and names as the reader's own language writes them. */

const whole = new Intl.NumberFormat();
const oneDigit = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const money = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD" });
const dateOnly = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
// A camera's clock has no time zone: what it showed is what is written.
const cameraTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });

export const number = (value) => whole.format(value);

export const decimal = (value) => oneDigit.format(value);

export const images = (count) => `${number(count)} image${count === 1 ? "" : "s"}`;

export const fileName = (key) => key.slice(key.lastIndexOf("/") + 1);

export const folder = (key) => key.slice(0, Math.max(0, key.lastIndexOf("/")));

export function date(text) {
  const at = new Date(text);
  return Number.isNaN(at.valueOf()) ? text : dateOnly.format(at);
}

/** When a photo was taken, by the camera's clock; an offset in the text is left out of account. */
export function taken(text) {
  const at = new Date(`${text.replace(" ", "T").slice(0, 19)}Z`);
  return Number.isNaN(at.valueOf()) ? text : cameraTime.format(at);
}

export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return new Intl.NumberFormat(undefined, { style: "unit", unit: units[step], maximumFractionDigits: 1 }).format(
    count / 1000 ** step,
  );
}

/** A rough span: "40 sec", "12 min", "3.5 hr". */
export function duration(seconds) {
  const [value, unit] =
    seconds < 90 ? [Math.ceil(seconds), "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  const digits = unit === "hour" ? 1 : 0;
  return new Intl.NumberFormat(undefined, { style: "unit", unit, maximumFractionDigits: digits }).format(value);
}

export const rate = (perMinute) => `${decimal(perMinute)} per minute`;

export const dollars = (amount = 0) => money.format(amount);

export const score = (value) => value.toFixed(2);
