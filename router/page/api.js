// What the director is asked. A token is kept for this tab only, and sent as a header: no cookie, nothing that a
// browser would add by itself.

const KEY = "uvs-token";

let token = sessionStorage.getItem(KEY);

export class Refused extends Error {
  constructor(message, status, kind) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

export function hasToken() {
  return token !== null;
}

/** Forgets it. */
export function lock() {
  token = null;
  sessionStorage.removeItem(KEY);
}

/** Takes it, if the director does. */
export async function unlock(said) {
  await post("overview", {}, said);
  token = said;
  sessionStorage.setItem(KEY, said);
}

async function post(path, body, bearer = token) {
  const headers = { "Content-Type": "application/json" };
  if (bearer !== null) headers.Authorization = `Bearer ${bearer}`;
  let response;
  try {
    response = await fetch(`/api/${path}`, {
      method: "POST", headers, body: JSON.stringify(body), cache: "no-store", credentials: "omit",
    });
  } catch {
    throw new Refused("the director does not answer", 0, "unreachable");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const error = answer?.error;
  throw new Refused(error?.message ?? `${response.status} ${response.statusText}`, response.status, error?.kind);
}

export async function overview() {
  const it = await post("overview", {});
  // What there is none of, the director leaves out.
  const interfaces = it.interfaces.map((one) => ({ reasons: [], losses: [], ...one }));
  return { notices: [], not_accelerated: [], ...it, interfaces };
}

export function rows(query) {
  return post("rows", query);
}

/** A request of the control socket. */
export async function control(request) {
  const answer = await post("control", { version: 1, request });
  return Object.values(answer)[0];
}
