/** The boxes of one picture as they are being made: which there are, which one is chosen. Tells when anything changes. */
import { type Box, sameBox } from "./geometry";

export const MOST_BOXES = 200;

export class Boxes {
  private list: Box[] = [];
  private chosen = -1;
  private readonly heard: (() => void)[] = [];

  get all(): readonly Box[] { return this.list; }
  get index(): number { return this.chosen; }
  get current(): Box | undefined { return this.list[this.chosen]; }

  onChange(run: () => void): void { this.heard.push(run); }

  replace(boxes: readonly Box[]): void {
    this.list = [...boxes];
    this.chosen = -1;
    this.tell();
  }

  /** Add a box and choose it; one that is there already is only chosen. Returns whether there was room. */
  add(box: Box): boolean {
    const known = this.list.findIndex((each) => sameBox(each, box));
    if (known < 0 && this.list.length >= MOST_BOXES) return false;
    if (known < 0) this.list.push(box);
    this.choose(known < 0 ? this.list.length - 1 : known);
    return true;
  }

  /** Put another box in the place of the chosen one. */
  change(box: Box): void {
    if (this.chosen < 0) return;
    this.list[this.chosen] = box;
    this.tell();
  }

  remove(index: number = this.chosen): void {
    if (index < 0 || index >= this.list.length) return;
    this.list.splice(index, 1);
    this.chosen = Math.min(this.chosen, this.list.length - 1);
    this.tell();
  }

  choose(index: number): void {
    this.chosen = index >= 0 && index < this.list.length ? index : -1;
    this.tell();
  }

  /** The next one, or the one before, round and round. */
  step(by: number): void {
    const count = this.list.length;
    if (!count) return;
    this.choose(this.chosen < 0 ? (by > 0 ? 0 : count - 1) : (this.chosen + by + count) % count);
  }

  private tell(): void { for (const run of this.heard) run(); }
}

export function inWords(box: Box): string {
  return `${box.x0}, ${box.y0} to ${box.x1}, ${box.y1}`;
}
