/** JSON from the server. Every failure becomes an ApiError with a sentence that people can read. */

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const UNREACHABLE = "The server cannot be reached. Check the connection.";

/** Fetch JSON; rejects with ApiError, or with AbortError when `signal` was aborted. */
export async function getJson(address, { signal } = {}) {
  let response;
  try {
    response = await fetch(address, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  return checked(answer, response.status);
}

/**
 * Send a file, or an object as JSON, and answer what the server says of it; `progress(share)` is told how much has gone,
 * from 0 to 1. Rejects as `getJson` does.
 */
export function send(address, what, { signal, progress }) {
  return new Promise((resolve, reject) => {
    // Of the two ways to send, only this one tells how far it is.
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.responseType = "json";
    request.setRequestHeader("accept", "application/json");
    const isFile = what instanceof Blob;
    request.setRequestHeader("content-type", isFile ? what.type || "application/octet-stream" : "application/json");
    request.upload.addEventListener("progress", (event) => progress(event.total ? event.loaded / event.total : 0));
    request.addEventListener("error", () => reject(new ApiError(UNREACHABLE)));
    request.addEventListener("abort", () => reject(new DOMException("Aborted", "AbortError")));
    request.addEventListener("load", () => {
      try {
        resolve(checked(request.response, request.status));
      } catch (error) {
        reject(error);
      }
    });
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(isFile ? what : JSON.stringify(what));
  });
}

function checked(answer, status) {
  if (status < 200 || status > 299) {
    throw new ApiError(answer?.detail ?? answer?.title ?? `The server answered ${status}.`, status);
  }
  if (answer === null) throw new ApiError("The server's answer could not be read.", status);
  return answer;
}
