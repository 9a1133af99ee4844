// Questions to the explorer's own server.

export class AskError extends Error {}

/** The JSON that `path` answers; POST with a body. Raises `AskError` with what the user can do, or the AbortError of `signal`. */
export async function ask(path, { body = null, signal = null } = {}) {
  let response;
  try {
    const sent = body === null ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    response = await fetch(path, { ...sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError("The explorer does not answer. Is it still running? Start it again and load this page again.");
  }
  let value = null;
  try {
    value = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!response.ok) throw new AskError(value?.error ?? `The explorer answered ${response.status}.`);
  return value;
}

/** A path with a query. */
export function withQuery(path, parameters) {
  return `${path}?${new URLSearchParams(parameters)}`;
}
