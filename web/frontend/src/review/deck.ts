/**
 * The pictures that this page has: the one before the moderator, and the next, claimed and decoded while they look.
 *
 * A decision shows the next picture at once and is sent meanwhile; if it is refused, the moderator is told and led back.
 */
import { isSomebodyThere, onReturn } from "../activity";
import { type Box } from "./geometry";
import { type Shown, forget } from "./item";
import { type Said, type Stored, claimNext, claimOne, decide, release, renew, undo } from "./server";

// Claimed and decoded before they are wanted: a moderator may decide twice before the server has answered once.
const AHEAD = 2;
const LOOK_AGAIN_MS = 20_000;
const SKIPPED = "tamperwatch skipped";
const MOST_SKIPPED = 400;

export interface Screen {
  show(shown: Shown): Promise<void>;
  empty(html: string): void;
  loading(): void;
  failed(message: string): void;
  stored(stored: Stored): void;
  refused(message: string, goBack: () => void): void;
  lost(): void;
}

export class Deck {
  current: Shown | null = null;
  private ahead: Promise<Shown | string>[] = [];
  private last: Promise<Stored | null> = Promise.resolve(null);
  private lastBoxes: Box[] = [];
  private undoable = 0;
  private timer = 0;
  private readonly claims = new Set<string>();
  /** Of those, what went to others while nobody was here. */
  private readonly gone = new Set<string>();
  private readonly skipped: number[] = JSON.parse(sessionStorage.getItem(SKIPPED) ?? "[]") as number[];

  constructor(private readonly screen: Screen, private readonly single: boolean, renewS: number) {
    setInterval(() => { if (isSomebodyThere()) void this.renew(); }, renewS * 1000);
    onReturn(() => void this.renew());
    window.addEventListener("pagehide", () => release([...this.claims]));
    // Back from the browser's cache: the claims were given up when it was left.
    window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  }

  get canUndo(): boolean { return this.undoable > 0; }

  /** Show the next picture, and fetch the one after it. */
  async advance(): Promise<void> {
    window.clearTimeout(this.timer);
    const coming = this.ahead.shift() ?? this.claim();
    if (!(await settled(coming))) this.screen.loading();
    try {
      const next = await coming;
      if (typeof next === "string") {
        this.current = null;
        this.screen.empty(next);
        this.keepPictures();
        this.timer = window.setTimeout(() => this.lookLater(), LOOK_AGAIN_MS);
        return;
      }
      if (this.gone.delete(next.item.token)) return await this.advance();
      await this.put(next);
    } catch (error) {
      this.current = null;
      this.screen.failed((error as Error).message);
      return;
    }
    if (this.ahead.length < AHEAD) this.ahead.push(...Array.from({ length: AHEAD - this.ahead.length }, () => this.claim()));
  }

  /** Take one picture by its number, as the page of one result does; `given` is what the server has sent with the page. */
  async open(id: number, given: Shown | null = null): Promise<void> {
    if (given) await this.put(given);
    const shown = await claimOne(id);
    this.claims.add(shown.item.token);
    await this.put(shown);
  }

  decide(said: Omit<Said, "token" | "seen">): void {
    const { current } = this;
    if (!current) return;
    const { id, token, seen } = current.item;
    this.lastBoxes = said.boxes;
    this.last = decide(id, { ...said, token, seen }).then(
      (stored) => this.isStored(stored, token),
      (error: Error) => this.isRefused(id, said, error),
    );
    if (this.single) void this.last.then((stored) => (stored ? this.open(id) : undefined)).catch(() => undefined);
    else void this.leave(current).then(() => this.advance());
  }

  skip(): void {
    const { current } = this;
    if (!current || this.single) return;
    this.skipped.push(current.item.id);
    sessionStorage.setItem(SKIPPED, JSON.stringify(this.skipped.slice(-MOST_SKIPPED)));
    this.giveBack(current);
    void this.advance();
  }

  /** Take the last decision back and have its picture again; the one before the moderator comes after it. */
  async undo(): Promise<void> {
    const stored = await this.last;
    if (!stored) return;
    this.last = Promise.resolve(null);
    this.undoable = 0;
    const shown = await undo(stored);
    // To correct them, not to draw them anew.
    if (this.lastBoxes.length) shown.item.mine = this.lastBoxes;
    if (shown.item.token) this.claims.add(shown.item.token);
    if (this.current && !this.single) this.ahead.unshift(Promise.resolve(this.current));
    window.clearTimeout(this.timer);
    await this.put(shown);
  }

  /** Look for pictures that were skipped, too. */
  lookAgain(): void {
    this.skipped.length = 0;
    sessionStorage.removeItem(SKIPPED);
    void this.advance();
  }

  private lookLater(): void {
    if (isSomebodyThere()) void this.advance();
    else this.timer = window.setTimeout(() => this.lookLater(), LOOK_AGAIN_MS);
  }

  /** Of what was asked for ahead, drop the answers that there is nothing: there may be something later. */
  private keepPictures(): void {
    const asked = this.ahead;
    this.ahead = [];
    for (const each of asked) {
      void each.then((found) => { if (typeof found !== "string") this.ahead.push(each); }, () => undefined);
    }
  }

  private async put(shown: Shown): Promise<void> {
    this.current = shown;
    await this.screen.show(shown);
  }

  private async claim(): Promise<Shown | string> {
    const next = await claimNext(this.skipped.slice(-MOST_SKIPPED));
    if (typeof next !== "string") this.claims.add(next.item.token);
    return next;
  }

  private async leave(shown: Shown): Promise<void> {
    // Its pixels may still be on the screen until the next one is.
    setTimeout(() => void forget(shown), 2000);
  }

  private giveBack(shown: Shown): void {
    release([shown.item.token]);
    this.claims.delete(shown.item.token);
    void this.leave(shown);
  }

  private isStored(stored: Stored, token: string): Stored {
    this.claims.delete(token);
    this.undoable = stored.review_id;
    this.screen.stored(stored);
    return stored;
  }

  private isRefused(id: number, said: { boxes: Box[]; note: string }, error: Error): null {
    this.screen.refused(error.message, () => void this.goBack(id, said.boxes));
    return null;
  }

  private async goBack(id: number, boxes: Box[]): Promise<void> {
    try {
      const shown = await claimOne(id);
      this.claims.add(shown.item.token);
      if (this.current && !this.single) this.ahead.unshift(Promise.resolve(this.current));
      shown.item.mine = boxes.length ? boxes : shown.item.mine;
      await this.put(shown);
    } catch (error) {
      this.screen.refused((error as Error).message, () => { location.href = `/review/results/${id}`; });
    }
  }

  private async renew(): Promise<void> {
    const tokens = [...this.claims];
    if (!tokens.length) return;
    try {
      const standing = await renew(tokens);
      for (const token of tokens.filter((each) => !standing.has(each))) {
        // A decision that was under way has spent its claim meanwhile.
        if (!this.claims.delete(token)) continue;
        if (this.current?.item.token === token) this.screen.lost();
        else this.gone.add(token);
      }
    } catch {
      // The next one may come through; a claim lasts for several.
    }
  }
}

/** Whether a promise has ended already. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  const waiting = Symbol("waiting");
  return (await Promise.race([promise.catch(() => null), Promise.resolve(waiting)])) !== waiting;
}
