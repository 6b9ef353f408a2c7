/** JSON from the server. Every failure becomes an ApiError with a sentence that people can read. */

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Fetch JSON; rejects with ApiError, or with AbortError when `signal` was aborted. */
export async function getJson(address, { signal } = {}) {
  let response;
  try {
    response = await fetch(address, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Check the connection.");
  }
  const body = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (!response.ok) {
    throw new ApiError(body?.detail ?? body?.title ?? `The server answered ${response.status}.`, response.status);
  }
  if (body === null) throw new ApiError("The server's answer could not be read.", response.status);
  return body;
}
