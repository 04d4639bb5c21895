/** Pointers on the panes: one draws, moves and resizes boxes; two, the wheel, the middle button or Space move and zoom the picture. */
import { type Boxes } from "./boxes";
import { type Box, type Edges, type Point, boxBetween, moved, panned, pinched, resized, toPicture, zoomed } from "./geometry";
import { type Handle, type Panes } from "./panes";

// Less than this is a click, not a box.
const LEAST_DRAG_PX = 4;

type Drag =
  | { kind: "draw"; from: Point; start: Point }
  | { kind: "move"; from: Point; box: Box }
  | { kind: "resize"; edges: Edges }
  | { kind: "pan"; last: Point };

export class Gestures {
  private drag: Drag | null = null;
  private readonly pointers = new Map<number, Point>();
  private spaceHeld = false;

  constructor(private readonly panes: Panes, private readonly boxes: Boxes, private readonly mayDraw: () => boolean) {
    for (const { viewport } of panes.list) {
      const surface = viewport.parentElement as HTMLElement;
      surface.addEventListener("pointerdown", (event) => this.down(event, viewport));
      // A quick stroke would count as a fling, and browsers take the next tap, on a button even, for the finger that stops it.
      surface.addEventListener("touchmove", (event) => event.preventDefault(), { passive: false });
      surface.addEventListener("pointermove", (event) => this.move(event, viewport));
      for (const end of ["pointerup", "pointercancel"] as const) surface.addEventListener(end, (event) => this.up(event));
      surface.addEventListener("wheel", (event) => this.wheel(event, viewport), { passive: false });
    }
    window.addEventListener("blur", () => { this.spaceHeld = false; });
  }

  holdSpace(held: boolean): void { this.spaceHeld = held; }

  private down(event: PointerEvent, viewport: HTMLElement): void {
    if (!(event.target instanceof Element) || event.target.closest("figcaption")) return;
    if (event.button > 1) return;
    const at = place(event, viewport);
    this.pointers.set(event.pointerId, at);
    capture(event);
    if (this.pointers.size === 2) {
      this.panes.draft = null;
      this.drag = null;
      this.panes.draw();
    } else if (this.pointers.size === 1) {
      this.drag = this.begin(event, at, event.target);
    }
  }

  private begin(event: PointerEvent, at: Point, target: Element): Drag {
    if (event.button === 1 || this.spaceHeld || !this.mayDraw()) return { kind: "pan", last: at };
    const from = toPicture(this.panes.view, at);
    const handle = (target as SVGElement).dataset["handle"] as Handle | undefined;
    if (handle) return { kind: "resize", edges: edgesOf(handle) };
    const index = (target as SVGElement).dataset["box"];
    if (index !== undefined) {
      this.boxes.choose(Number(index));
      const box = this.boxes.current;
      if (box) return { kind: "move", from, box };
    }
    return { kind: "draw", from, start: at };
  }

  private move(event: PointerEvent, viewport: HTMLElement): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const at = place(event, viewport);
    if (this.pointers.size === 2) this.pinch(event.pointerId, at);
    else this.dragTo(at);
    this.pointers.set(event.pointerId, at);
  }

  private dragTo(at: Point): void {
    const { panes, boxes, drag } = this;
    if (!drag) return;
    const to = toPicture(panes.view, at);
    if (drag.kind === "pan") {
      panes.place(panned(panes.view, at.x - drag.last.x, at.y - drag.last.y, panes.picture, panes.size));
      drag.last = at;
    } else if (drag.kind === "draw") {
      const far = Math.hypot(at.x - drag.start.x, at.y - drag.start.y) >= LEAST_DRAG_PX;
      panes.draft = far || panes.draft ? boxBetween(drag.from, to, panes.picture) : null;
      panes.draw();
    } else if (drag.kind === "move") {
      boxes.change(moved(drag.box, to.x - drag.from.x, to.y - drag.from.y, panes.picture));
    } else if (boxes.current) {
      boxes.change(resized(boxes.current, drag.edges, to, panes.picture));
    }
  }

  private pinch(moving: number, at: Point): void {
    const ids = [...this.pointers.keys()];
    const before = ids.map((id) => this.pointers.get(id)) as [Point, Point];
    const after = ids.map((id) => (id === moving ? at : this.pointers.get(id))) as [Point, Point];
    this.panes.place(pinched(this.panes.view, before, after, this.panes.picture, this.panes.size));
  }

  private up(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    const { draft } = this.panes;
    this.panes.draft = null;
    if (this.drag?.kind === "draw" && event.type === "pointerup") {
      if (draft) this.boxes.add(draft);
      else this.boxes.choose(-1);
    }
    this.drag = null;
    this.panes.draw();
  }

  private wheel(event: WheelEvent, viewport: HTMLElement): void {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002));
    this.panes.place(zoomed(this.panes.view, factor, place(event, viewport), this.panes.picture, this.panes.size));
  }
}

/** In CSS pixels from the viewport's corner, as fine as the device tells. */
function place(event: MouseEvent, viewport: HTMLElement): Point {
  const { left, top } = viewport.getBoundingClientRect();
  return { x: event.clientX - left, y: event.clientY - top };
}

/** So that a drag goes on outside the pane. */
function capture(event: PointerEvent): void {
  const surface = event.currentTarget as HTMLElement;
  if (event.isTrusted) surface.setPointerCapture(event.pointerId);
}

function edgesOf(handle: Handle): Edges {
  return { x: handle.includes("w") ? -1 : handle.includes("e") ? 1 : 0, y: handle.includes("n") ? -1 : handle.includes("s") ? 1 : 0 };
}
