/** What the page asks of the server: pictures to look at, and what was decided about them. */
import { csrfToken } from "../htmx";
import type { Box } from "./geometry";
import { type Shown, problemOf, readItem } from "./item";

export type Decision = "authentic" | "manipulated" | "unsure";

export interface Said {
  decision: Decision;
  boxes: Box[];
  note: string;
  token: string;
  seen: number;
}

export interface Stored {
  id: number;
  review_id: number;
  annotation_id: number | null;
}

/** The server refused, or could not be reached; `message` is for people. */
export class Refused extends Error {}

/** The next picture of the queue; HTML that says so where there is none. */
export async function claimNext(without: Iterable<number>): Promise<Shown | string> {
  const form = new URLSearchParams(location.search);
  for (const id of without) form.append("without", String(id));
  const html = await (await send("/review/claims", form)).text();
  return readItem(html) ?? html;
}

export async function claimOne(id: number): Promise<Shown> {
  return item(await send(`/review/results/${id}/claim`, null));
}

export async function decide(id: number, said: Said): Promise<Stored> {
  const answer = await send(`/review/results/${id}/decision`, said);
  return { id, ...((await answer.json()) as Omit<Stored, "id">) };
}

export async function undo({ id, review_id, annotation_id }: Stored): Promise<Shown> {
  return item(await send(`/review/results/${id}/undo`, { review_id, annotation_id }));
}

/** Say that the page is still there; returns the claims that still stand. */
export async function renew(tokens: string[]): Promise<Set<string>> {
  const answer = await send("/review/claims/renew", { tokens });
  return new Set(((await answer.json()) as { standing: string[] }).standing);
}

/** Give pictures back; also while the page is being left. */
export function release(tokens: string[]): void {
  if (tokens.length) void send("/review/claims/release", { tokens }, true).catch(() => undefined);
}

async function item(answer: Response): Promise<Shown> {
  const shown = readItem(await answer.text());
  if (!shown) throw new Refused("The server's answer holds no picture. Reload the page.");
  return shown;
}

async function send(address: string, body: URLSearchParams | object | null, keepalive = false): Promise<Response> {
  const headers: Record<string, string> = { "X-CSRF-Token": csrfToken(), Accept: "application/json" };
  const form = body instanceof URLSearchParams;
  if (body && !form) headers["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(address, { method: "POST", headers, keepalive, ...(body ? { body: form ? body : JSON.stringify(body) } : {}) });
  } catch {
    throw new Refused("The server does not answer. Nothing was stored; try again.");
  }
  if (!answer.ok) throw new Refused(await problemOf(answer));
  return answer;
}
