/**
 * Picture and screen coordinates.
 *
 * Boxes are whole original pixels, x0 and y0 inclusive, x1 and y1 exclusive. A screen point is in CSS pixels from the pane's upper
 * left corner; `scale` is CSS pixels a picture pixel. Everything here is pure, so that a box means the same at any zoom.
 */

export interface Size { width: number; height: number }
export interface Point { x: number; y: number }
export interface Box { x0: number; y0: number; x1: number; y1: number }
/** Where the picture lies in a pane: its upper left corner in screen coordinates, and its scale. */
export interface View { scale: number; left: number; top: number }
/** Which edges of a box a handle moves. */
export interface Edges { x: -1 | 0 | 1; y: -1 | 0 | 1 }

const MOST_SCALE = 32;

/** The whole picture in the middle of a pane; small ones are not blown up beyond four times. */
export function fit(picture: Size, pane: Size): View {
  const scale = Math.min(pane.width / picture.width, pane.height / picture.height, 4);
  return centred(picture, pane, scale);
}

export function centred(picture: Size, pane: Size, scale: number): View {
  return { scale, left: (pane.width - picture.width * scale) / 2, top: (pane.height - picture.height * scale) / 2 };
}

export function toPicture(view: View, at: Point): Point {
  return { x: (at.x - view.left) / view.scale, y: (at.y - view.top) / view.scale };
}

export function toScreen(view: View, at: Point): Point {
  return { x: view.left + at.x * view.scale, y: view.top + at.y * view.scale };
}

/** Zoom by a factor; the picture's point under `at` stays there. */
export function zoomed(view: View, factor: number, at: Point, picture: Size, pane: Size): View {
  const least = Math.min(fit(picture, pane).scale, 1);
  const scale = clamp(view.scale * factor, least, MOST_SCALE);
  const fixed = toPicture(view, at);
  return kept({ scale, left: at.x - fixed.x * scale, top: at.y - fixed.y * scale }, picture, pane);
}

export function panned(view: View, dx: number, dy: number, picture: Size, pane: Size): View {
  return kept({ scale: view.scale, left: view.left + dx, top: view.top + dy }, picture, pane);
}

/** Two fingers: what was under them stays under them. */
export function pinched(view: View, before: [Point, Point], after: [Point, Point], picture: Size, pane: Size): View {
  const from = middle(...before);
  const to = middle(...after);
  const factor = distance(...after) / Math.max(distance(...before), 1);
  return zoomed(panned(view, to.x - from.x, to.y - from.y, picture, pane), factor, to, picture, pane);
}

/** The box between two points of the picture, in any order: whole pixels inside it, at least one wide and high. */
export function boxBetween(from: Point, to: Point, picture: Size): Box {
  const x = span(from.x, to.x, picture.width);
  const y = span(from.y, to.y, picture.height);
  return { x0: x[0], y0: y[0], x1: x[1], y1: y[1] };
}

/** Moved by so many pixels, as far as the picture goes; its size stays. */
export function moved(box: Box, dx: number, dy: number, picture: Size): Box {
  const x = clamp(Math.round(dx), -box.x0, picture.width - box.x1);
  const y = clamp(Math.round(dy), -box.y0, picture.height - box.y1);
  return { x0: box.x0 + x, y0: box.y0 + y, x1: box.x1 + x, y1: box.y1 + y };
}

/** With the edges that a handle moves brought to a point; an edge never crosses the one opposite. */
export function resized(box: Box, edges: Edges, to: Point, picture: Size): Box {
  const x = Math.round(to.x);
  const y = Math.round(to.y);
  return {
    x0: edges.x < 0 ? clamp(x, 0, box.x1 - 1) : box.x0,
    y0: edges.y < 0 ? clamp(y, 0, box.y1 - 1) : box.y0,
    x1: edges.x > 0 ? clamp(x, box.x0 + 1, picture.width) : box.x1,
    y1: edges.y > 0 ? clamp(y, box.y0 + 1, picture.height) : box.y1,
  };
}

/** A new box in the middle of what a pane shows, a quarter of it wide and high. */
export function boxInView(view: View, picture: Size, pane: Size): Box {
  const from = toPicture(view, { x: 0, y: 0 });
  const to = toPicture(view, { x: pane.width, y: pane.height });
  const [x0, x1] = [clamp(from.x, 0, picture.width), clamp(to.x, 0, picture.width)];
  const [y0, y1] = [clamp(from.y, 0, picture.height), clamp(to.y, 0, picture.height)];
  const [w, h] = [(x1 - x0) / 4, (y1 - y0) / 4];
  const centre = { x: (x0 + x1) / 2, y: (y0 + y1) / 2 };
  return boxBetween({ x: centre.x - w / 2, y: centre.y - h / 2 }, { x: centre.x + w / 2, y: centre.y + h / 2 }, picture);
}

/** So that a box is seen whole with room around it. */
export function showing(box: Box, picture: Size, pane: Size): View {
  const room = 2;
  const scale = clamp(
    Math.min(pane.width / ((box.x1 - box.x0) * room), pane.height / ((box.y1 - box.y0) * room)), fit(picture, pane).scale, 8);
  const left = pane.width / 2 - ((box.x0 + box.x1) / 2) * scale;
  const top = pane.height / 2 - ((box.y0 + box.y1) / 2) * scale;
  return kept({ scale, left, top }, picture, pane);
}

export function sameBox(one: Box, other: Box): boolean {
  return one.x0 === other.x0 && one.y0 === other.y0 && one.x1 === other.x1 && one.y1 === other.y1;
}

export function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), Math.max(least, most));
}

/** Never lost out of sight: a picture smaller than the pane stays inside it, a larger one covers it. */
function kept(view: View, picture: Size, pane: Size): View {
  return {
    scale: view.scale,
    left: keptAlong(view.left, picture.width * view.scale, pane.width),
    top: keptAlong(view.top, picture.height * view.scale, pane.height),
  };
}

function keptAlong(start: number, length: number, room: number): number {
  return length <= room ? (room - length) / 2 : clamp(start, room - length, 0);
}

function span(one: number, other: number, length: number): [number, number] {
  const start = clamp(Math.round(Math.min(one, other)), 0, length - 1);
  return [start, clamp(Math.round(Math.max(one, other)), start + 1, length)];
}

function middle(one: Point, other: Point): Point {
  return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
}

function distance(one: Point, other: Point): number {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
