/** One picture as the server hands it to the page: what is drawn, and the parts of the page that tell of it. */
import type { Box } from "./geometry";

export interface Item {
  id: number;
  token: string;
  seen: number;
  name: string;
  width: number;
  height: number;
  picture: string;
  map: string;
  regions: Box[];
  mine: Box[];
  others: { by: string; boxes: Box[] }[];
}

/** An item with its words, and its picture and map where they could be had. */
export interface Shown {
  item: Item;
  head: Element;
  info: Element;
  loaded: Promise<Loaded>;
}

export interface Loaded {
  picture: HTMLImageElement | null;
  map: ImageBitmap | null;
  problem: string;
}

/** Read the server's answer; null where it is not a picture but a word about there being none. */
export function readItem(html: string): Shown | null {
  const root = new DOMParser().parseFromString(html, "text/html").querySelector<HTMLElement>("[data-item]");
  return root ? fromElement(root) : null;
}

export function fromElement(root: HTMLElement): Shown | null {
  const head = root.querySelector("[data-part=head]");
  const info = root.querySelector("[data-part=info]");
  if (!head || !info || !root.dataset["item"]) return null;
  const item = JSON.parse(root.dataset["item"]) as Item;
  return { item, head: document.importNode(head, true), info: document.importNode(info, true), loaded: load(item) };
}

/** Let go of what the browser holds for a picture that will not be shown again. */
export async function forget(shown: Shown): Promise<void> {
  const { picture, map } = await shown.loaded;
  if (picture) URL.revokeObjectURL(picture.src);
  map?.close();
}

/** Fetch and decode both, so that showing them later costs nothing. Never fails: what is missing is said. */
async function load(item: Item): Promise<Loaded> {
  const [picture, map] = await Promise.all([attempt(item.picture, decodedPicture), attempt(item.map, decodedMap)]);
  const shown = picture.value;
  let problem = picture.problem || map.problem;
  if (shown && (shown.naturalWidth !== item.width || shown.naturalHeight !== item.height)) {
    problem = "The stored picture has not the size that was audited: its marks and boxes may lie in the wrong place.";
  }
  return { picture: picture.value, map: map.value, problem };
}

async function attempt<T>(address: string, decode: (blob: Blob) => Promise<T>): Promise<{ value: T | null; problem: string }> {
  if (!address) return { value: null, problem: "" };
  try {
    const answer = await fetch(address);
    if (!answer.ok) return { value: null, problem: await problemOf(answer) };
    return { value: await decode(await answer.blob()), problem: "" };
  } catch {
    return { value: null, problem: "The picture could not be loaded. Check the connection and reload the page." };
  }
}

/** What the server says is wrong. */
export async function problemOf(answer: Response): Promise<string> {
  try {
    const problem = (await answer.json()) as { detail?: string };
    return problem.detail ?? answer.statusText;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

async function decodedPicture(blob: Blob): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  await image.decode();
  return image;
}

async function decodedMap(blob: Blob): Promise<ImageBitmap> {
  return createImageBitmap(await coloured(blob));
}

/** The map in the colours of the overlay: orange to magenta, opaquer with probability, nothing below an eighth. */
async function coloured(blob: Blob): Promise<ImageData> {
  const grey = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(grey.width, grey.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  context.drawImage(grey, 0, 0);
  grey.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) paint(pixels.data, at);
  return pixels;
}

const COLD = [255, 159, 28] as const;
const HOT = [214, 0, 147] as const;
const VISIBLE_FROM = 64;

function paint(data: Uint8ClampedArray, at: number): void {
  const level = data[at] ?? 0;
  const heat = Math.max(0, (level - VISIBLE_FROM) / (255 - VISIBLE_FROM));
  for (const channel of [0, 1, 2] as const) data[at + channel] = COLD[channel] + (HOT[channel] - COLD[channel]) * heat;
  data[at + 3] = Math.min(255, Math.max(0, (level - VISIBLE_FROM / 2) * 1.4));
}
