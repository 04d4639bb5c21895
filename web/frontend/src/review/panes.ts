/** The panes: one picture three times, at one zoom and place, with boxes drawn over each. */
import { type Boxes } from "./boxes";
import { type Box, type Size, type View, centred, fit, toScreen } from "./geometry";
import { type Item, type Loaded } from "./item";

export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"] as const;
export type Handle = (typeof HANDLES)[number];
const NARROW = matchMedia("(max-width: 45rem)");
const SVG = "http://www.w3.org/2000/svg";

interface Pane {
  name: string;
  figure: HTMLElement;
  viewport: HTMLElement;
  layer: HTMLElement;
  image: HTMLImageElement;
  heat: HTMLCanvasElement;
  svg: SVGSVGElement;
}

export class Panes {
  readonly list: Pane[];
  view: View = { scale: 1, left: 0, top: 0 };
  picture: Size = { width: 1, height: 1 };
  draft: Box | null = null;
  private item: Item | null = null;
  private othersShown = false;
  private fitted = true;

  constructor(private readonly stage: HTMLElement, private readonly boxes: Boxes, private readonly zoomLevel: HTMLElement) {
    this.list = [...stage.querySelectorAll<HTMLElement>(".pane")].map((figure) => ({
      name: figure.dataset["pane"] ?? "",
      figure,
      viewport: part(figure, ".viewport"),
      layer: part(figure, ".layer"),
      image: part<HTMLImageElement>(figure, "img"),
      heat: part<HTMLCanvasElement>(figure, "canvas"),
      svg: figure.querySelector("svg") as SVGSVGElement,
    }));
    boxes.onChange(() => this.draw());
    const adapt = (): void => {
      // One at a time was the narrow screen's wish, not the person's.
      if (NARROW.matches !== Boolean(stage.dataset["alone"])) this.enlarge(stage.dataset["alone"] ?? "overlay");
    };
    NARROW.addEventListener("change", adapt);
    if (NARROW.matches) adapt();
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(stage);
  }

  get size(): Size {
    const seen = this.list.find((pane) => pane.viewport.clientWidth > 0) ?? this.list[0];
    return { width: seen?.viewport.clientWidth || 1, height: seen?.viewport.clientHeight || 1 };
  }

  show(item: Item, loaded: Loaded | null): void {
    this.item = item;
    this.picture = { width: item.width, height: item.height };
    for (const pane of this.list) {
      const wanted = loaded?.picture && pane.name !== "map" ? loaded.picture.src : "";
      pane.image.hidden = !wanted;
      if (wanted) pane.image.src = wanted;
      else pane.image.removeAttribute("src");
      pane.layer.style.width = `${item.width}px`;
      pane.layer.style.height = `${item.height}px`;
      paintHeat(pane, loaded?.map ?? null);
    }
    this.fit();
  }

  fit(): void {
    this.fitted = true;
    this.place(fit(this.picture, this.size), true);
  }

  actualSize(): void { this.place(centred(this.picture, this.size, 1)); }

  place(view: View, fitted = false): void {
    this.view = view;
    this.fitted = fitted;
    const sharp = view.scale >= 3;
    for (const pane of this.list) {
      pane.layer.style.transform = `translate(${view.left}px, ${view.top}px) scale(${view.scale})`;
      pane.layer.classList.toggle("sharp", sharp);
    }
    this.zoomLevel.textContent = `${Math.round(view.scale * 100)} %`;
    this.draw();
  }

  setOpacity(share: number): void {
    for (const pane of this.list) if (pane.name === "overlay") pane.heat.style.opacity = String(share);
  }

  showOthers(shown: boolean): void {
    this.othersShown = shown;
    this.draw();
  }

  /** Make one pane as wide as the stage, or all of them equal again; a narrow screen shows one at a time. */
  enlarge(name: string): void {
    if (this.stage.dataset["alone"] !== name) this.stage.dataset["alone"] = name;
    else if (!NARROW.matches) delete this.stage.dataset["alone"];
    for (const button of document.querySelectorAll<HTMLElement>("[data-focus-pane]")) {
      button.setAttribute("aria-pressed", String(this.stage.dataset["alone"] === button.dataset["focusPane"]));
    }
    this.fit();
  }

  draw(): void {
    for (const pane of this.list) {
      pane.svg.replaceChildren(...this.shapes());
    }
  }

  private *shapes(): Generator<SVGElement> {
    for (const region of this.item?.regions ?? []) yield this.rectangle(region, "region");
    if (this.othersShown) for (const other of this.item?.others ?? []) for (const box of other.boxes) yield this.rectangle(box, "other", other.by);
    for (const [index, box] of this.boxes.all.entries()) {
      const chosen = index === this.boxes.index;
      const shape = this.rectangle(box, chosen ? "mine chosen" : "mine");
      shape.dataset["box"] = String(index);
      yield shape;
      if (chosen) yield* this.handles(box);
    }
    if (this.draft) yield this.rectangle(this.draft, "mine draft");
  }

  private rectangle(box: Box, kind: string, title = ""): SVGElement {
    const from = toScreen(this.view, { x: box.x0, y: box.y0 });
    const shape = document.createElementNS(SVG, "rect");
    set(shape, { class: kind, x: from.x, y: from.y, width: (box.x1 - box.x0) * this.view.scale, height: (box.y1 - box.y0) * this.view.scale });
    if (title) {
      const words = document.createElementNS(SVG, "title");
      words.textContent = title;
      shape.append(words);
    }
    return shape;
  }

  private *handles(box: Box): Generator<SVGElement> {
    const from = toScreen(this.view, { x: box.x0, y: box.y0 });
    const to = toScreen(this.view, { x: box.x1, y: box.y1 });
    const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
    for (const handle of HANDLES) {
      const at = { x: handle.includes("w") ? from.x : handle.includes("e") ? to.x : middle.x, y: handle.includes("n") ? from.y : handle.includes("s") ? to.y : middle.y };
      const shape = document.createElementNS(SVG, "circle");
      set(shape, { class: `handle ${handle}`, cx: at.x, cy: at.y, r: 6 });
      shape.dataset["handle"] = handle;
      yield shape;
    }
  }
}

function paintHeat(pane: Pane, map: ImageBitmap | null): void {
  pane.heat.hidden = !map || pane.name === "original";
  if (!map || pane.heat.hidden) return;
  pane.heat.width = map.width;
  pane.heat.height = map.height;
  pane.heat.getContext("2d")?.drawImage(map, 0, 0);
}

function set(shape: SVGElement, values: Record<string, string | number>): void {
  for (const [name, value] of Object.entries(values)) shape.setAttribute(name, String(value));
}

function part<T extends HTMLElement = HTMLElement>(root: HTMLElement, selector: string): T {
  const found = root.querySelector<T>(selector);
  if (!found) throw new Error(`the page has no ${selector}`);
  return found;
}
