/** Numbers, dates and file names for display, in the language of the page. */

import { LANGUAGE, text } from "./texts.js";

/** The reader's regional variant of the language: dates differ between regions. */
const LOCALE = navigator.languages.find((tag) => tag.split("-")[0] === LANGUAGE) ?? LANGUAGE;

// The first format of each kind takes milliseconds to create, so none is created before it is needed.
const lazily = (create) => {
  let created;
  return () => (created ??= create());
};
const oneDigit = lazily(() => new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 }));
const twoDigits = lazily(
  () => new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: 2, maximumFractionDigits: 2 }),
);
const money = lazily(() => new Intl.NumberFormat(LOCALE, { style: "currency", currency: "USD" }));
const dateOnly = lazily(() => new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium" }));
// A camera's clock has no time zone: show its time unconverted.
const cameraTime = lazily(
  () => new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" }),
);
const monthAndYear = lazily(
  () => new Intl.DateTimeFormat(LOCALE, { month: "long", year: "numeric", timeZone: "UTC" }),
);

export const decimal = (value) => oneDigit().format(value);

export const fileName = (key) => key.slice(key.lastIndexOf("/") + 1);

export const folder = (key) => key.slice(0, Math.max(0, key.lastIndexOf("/")));

export function date(text) {
  const value = new Date(text);
  return Number.isNaN(value.valueOf()) ? text : dateOnly().format(value);
}

/** The date and time a photo was taken, by the camera's clock; ignores a time zone offset. */
export function takenDate(text) {
  const value = new Date(`${text.replace(" ", "T").slice(0, 19)}Z`);
  return Number.isNaN(value.valueOf()) ? text : cameraTime().format(value);
}

/** The name of a month such as "2024-05"; "" stands for images without a date. */
export function monthName(month) {
  if (!month) return text("timeline.undated");
  const value = new Date(`${month}-01T00:00:00Z`);
  return Number.isNaN(value.valueOf()) ? month : monthAndYear().format(value);
}

export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return new Intl.NumberFormat(LOCALE, { style: "unit", unit: units[power], maximumFractionDigits: 1 }).format(
    count / 1000 ** power,
  );
}

/** A rough duration: "40 sec", "12 min", "3.5 hr". */
export function duration(seconds) {
  const [value, unit] =
    seconds < 90 ? [Math.ceil(seconds), "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  const digits = unit === "hour" ? 1 : 0;
  return new Intl.NumberFormat(LOCALE, { style: "unit", unit, maximumFractionDigits: digits }).format(value);
}

export const rate = (perMinute) => text("progress.rate", { rate: decimal(perMinute) });

export const dollars = (amount = 0) => money().format(amount);

export const score = (value) => twoDigits().format(value);
