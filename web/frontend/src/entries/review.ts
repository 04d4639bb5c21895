/** The review page: the deck of pictures, the panes, the boxes, and all the ways to work with them. */
import { isSomebodyThere, watchActivity } from "../activity";
import { htmx } from "../htmx";
import { openDialog } from "../dialogs";
import { showLocalTimes } from "../times";
import { toast } from "../toasts";
import { Boxes, MOST_BOXES, inWords } from "../review/boxes";
import { Deck } from "../review/deck";
import { type Box, boxInView, moved, panned, resized, showing, zoomed } from "../review/geometry";
import { Gestures } from "../review/gestures";
import { type Shown, fromElement } from "../review/item";
import { installKeys } from "../review/keys";
import { Panes } from "../review/panes";
import type { Decision } from "../review/server";

const ZOOM = 1.25;
const PAN_PX = 60;
const COUNT_MS = 20_000;
// In the time that a claim lasts: whoever touches nothing for that long is away.
const CLAIM_RENEWALS = 4;

const root = element("deck");
const stage = element("stage");
const note = document.getElementById("note") as HTMLInputElement | null;
const opacity = element("opacity") as HTMLInputElement;
const othersSwitch = element("show-others") as HTMLInputElement;
const single = root.dataset["mode"] === "single";
const mayDecide = root.dataset["mayDecide"] === "true";

const renewS = Number(root.dataset["renewS"]);
watchActivity(CLAIM_RENEWALS * renewS);
const boxes = new Boxes();
const panes = new Panes(stage, boxes, element("zoom-level"));
const deck = new Deck(
  { show, empty, loading, failed, stored, refused, lost: () => toast("Your claim on this picture ran out and somebody else has it. Skip it.", "error") },
  single,
  renewS,
);
const gestures = new Gestures(panes, boxes, () => mayDecide && deck.current !== null);
let withoutPlace = 0;
let pressedAt = 0;

boxes.onChange(listBoxes);
opacity.addEventListener("input", () => panes.setOpacity(Number(opacity.value) / 100));
othersSwitch.addEventListener("change", () => panes.showOthers(othersSwitch.checked));
panes.setOpacity(Number(opacity.value) / 100);
document.addEventListener("click", clicked);
document.addEventListener("keyup", (event) => { if (event.key === " ") gestures.holdSpace(false); });
installKeys(keys());
installFilterToggle();
setInterval(() => { if (isSomebodyThere()) htmx.trigger(document.body, "decided"); }, COUNT_MS);
void start();

async function start(): Promise<void> {
  const given = document.querySelector<HTMLElement>("#given [data-item]");
  if (!single) return deck.advance();
  const shown = given ? fromElement(given) : null;
  document.getElementById("given")?.remove();
  if (!shown) return failed("The page holds no picture. Reload it.");
  if (!mayDecide) {
    deck.current = shown;
    return show(shown);
  }
  try {
    await deck.open(shown.item.id, shown);
  } catch (error) {
    toast((error as Error).message, "error");
  }
}

async function show(shown: Shown): Promise<void> {
  const { item } = shown;
  const loaded = await shown.loaded;
  if (deck.current !== shown) return;
  element("item-head").replaceChildren(shown.head);
  element("item-info").replaceChildren(...shown.info.children);
  showLocalTimes(root);
  setState("ready");
  panes.show(item, loaded);
  boxes.replace(item.mine);
  if (note) note.value = "";
  withoutPlace = 0;
  if (loaded.problem) head(loaded.problem);
  speak(`${item.name}. ${shown.head.textContent?.replace(/\s+/g, " ").trim() ?? ""}`);
  keepFocus();
  measure();
}

function head(problem: string): void {
  const notice = document.createElement("div");
  notice.className = "notice warning";
  notice.setAttribute("role", "alert");
  notice.dataset["testid"] = "picture-problem";
  notice.textContent = problem;
  element("item-head").append(notice);
}

function empty(html: string): void {
  setState("empty");
  // From our own server, with everything escaped.
  element("deck-state").innerHTML = html;
  speak("Nothing waits for you.");
}

function loading(): void { setState("loading"); }

function failed(message: string): void {
  setState("failed");
  const notice = document.createElement("div");
  notice.className = "notice error";
  notice.setAttribute("role", "alert");
  notice.textContent = message;
  const again = document.createElement("button");
  again.type = "button";
  again.className = "button";
  again.dataset["do"] = "look-again";
  again.textContent = "Try again";
  element("deck-state").replaceChildren(notice, again);
}

function stored(): void {
  speak("Stored.");
  undoButton();
  htmx.trigger(document.body, "decided");
}

function refused(message: string, goBack: () => void): void {
  toast(message, "error", { label: "Go to it", run: goBack });
}

function setState(state: "ready" | "loading" | "empty" | "failed"): void {
  root.dataset["state"] = state;
  const ready = state === "ready";
  for (const id of ["stage", "tools", "decide", "item-head", "item-info", "box-section"]) {
    const part = document.getElementById(id);
    if (part) part.hidden = !ready;
  }
  const words = element("deck-state");
  words.hidden = ready;
  if (state === "loading" && !words.querySelector("[data-testid=loading]")) words.replaceChildren(waiting());
}

function waiting(): HTMLElement {
  const box = document.createElement("div");
  box.className = "empty";
  box.dataset["testid"] = "loading";
  box.append("Fetching the next picture…");
  return box;
}

function decide(decision: Decision): void {
  const shown = deck.current;
  if (!shown || root.dataset["state"] !== "ready") return;
  const drawn = decision === "manipulated" ? [...boxes.all] : [];
  if (decision === "manipulated" && !drawn.length && withoutPlace !== shown.item.id) {
    withoutPlace = shown.item.id;
    speak("No box is drawn.");
    toast("No box is drawn. Draw one, press P for the marked regions, or press M again to say it without a place.");
    return;
  }
  pressedAt = performance.now();
  deck.decide({ decision, boxes: drawn, note: note?.value ?? "" });
}

/** From the key to the frame in which the next picture stands; benchmarks/review_page.py reads it. */
function measure(): void {
  if (!pressedAt) return;
  const start = pressedAt;
  pressedAt = 0;
  requestAnimationFrame(() => setTimeout(() => performance.measure("decision-to-next", { start, end: performance.now() })));
}

function undo(): void {
  void deck.undo().then(undoButton, (error: Error) => { undoButton(); toast(error.message, "error"); });
}

function undoButton(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-do=undo]");
  if (button) button.disabled = !deck.canUndo;
}

function clicked(event: MouseEvent): void {
  const target = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-do], [data-decide], [data-region], [data-focus-pane], [data-choose], [data-drop]") : null;
  if (!target) return;
  const { do: doing, decide: decision, region, focusPane, choose, drop } = target.dataset;
  if (decision) decide(decision as Decision);
  else if (region !== undefined) useRegion(Number(region));
  else if (focusPane) panes.enlarge(focusPane);
  else if (choose !== undefined) boxes.choose(Number(choose));
  else if (drop !== undefined) boxes.remove(Number(drop));
  else if (doing) BUTTONS[doing]?.();
}

const BUTTONS: Record<string, () => void> = {
  "zoom-in": () => zoom(ZOOM),
  "zoom-out": () => zoom(1 / ZOOM),
  fit: () => panes.fit(),
  "zoom-actual": () => panes.actualSize(),
  "new-box": newBox,
  prefill: prefill,
  "delete-box": () => boxes.remove(),
  skip: () => deck.skip(),
  undo,
  "look-again": () => deck.lookAgain(),
};

function keys(): Record<string, (event: KeyboardEvent) => void> {
  const view = {
    "1": () => panes.enlarge("original"), "2": () => panes.enlarge("map"), "3": () => panes.enlarge("overlay"),
    "+": () => zoom(ZOOM), "=": () => zoom(ZOOM), "-": () => zoom(1 / ZOOM), "0": () => panes.fit(), "9": () => panes.actualSize(),
    ",": () => fade(-10), ".": () => fade(10), o: () => { othersSwitch.click(); }, "?": () => openDialog("shortcuts"),
    Escape: () => boxes.choose(-1), " ": () => gestures.holdSpace(true),
    ArrowLeft: arrow(-1, 0), ArrowRight: arrow(1, 0), ArrowUp: arrow(0, -1), ArrowDown: arrow(0, 1),
  };
  if (!mayDecide) return view;
  return {
    ...view,
    a: () => decide("authentic"), m: () => decide("manipulated"), u: () => decide("unsure"), s: () => deck.skip(), z: undo,
    n: newBox, p: prefill, "[": () => boxes.step(-1), "]": () => boxes.step(1), Delete: () => boxes.remove(), Backspace: () => boxes.remove(),
    t: () => note?.focus(),
  };
}

/** Move the chosen box, or its lower right corner; where none is chosen, the picture. */
function arrow(x: number, y: number): (event: KeyboardEvent) => void {
  return (event) => {
    const box = boxes.current;
    const step = event.shiftKey ? 10 : 1;
    if (!box) panes.place(panned(panes.view, -x * PAN_PX, -y * PAN_PX, panes.picture, panes.size));
    else if (event.altKey) change(resized(box, { x: 1, y: 1 }, { x: box.x1 + x * step, y: box.y1 + y * step }, panes.picture));
    else change(moved(box, x * step, y * step, panes.picture));
  };
}

function change(box: Box): void {
  boxes.change(box);
  speak(inWords(box));
}

function zoom(factor: number): void {
  const { width, height } = panes.size;
  panes.place(zoomed(panes.view, factor, { x: width / 2, y: height / 2 }, panes.picture, panes.size));
}

function fade(by: number): void {
  opacity.value = String(Number(opacity.value) + by);
  panes.setOpacity(Number(opacity.value) / 100);
}

function newBox(): void {
  if (!deck.current || !boxes.add(boxInView(panes.view, panes.picture, panes.size))) return tooMany();
  if (boxes.current) speak(`New box ${inWords(boxes.current)}`);
}

function prefill(): void {
  const regions = deck.current?.item.regions ?? [];
  if (!regions.length) return speak("No region is marked.");
  for (const region of regions) if (!boxes.add(region)) return tooMany();
  speak(`${boxes.all.length} boxes from regions.`);
}

/** Show a region; what is shown already becomes a box. */
function useRegion(index: number): void {
  const region = deck.current?.item.regions[index];
  if (!region) return;
  const there = showing(region, panes.picture, panes.size);
  const seen = Math.abs(there.left - panes.view.left) < 1 && Math.abs(there.top - panes.view.top) < 1 && there.scale === panes.view.scale;
  if (seen && mayDecide) boxes.add(region);
  else panes.place(there);
}

function tooMany(): void { toast(`${MOST_BOXES} boxes are the most that a picture can have.`, "error"); }

function listBoxes(): void {
  const list = document.getElementById("box-list");
  const label = document.getElementById("manipulated-label");
  if (!list || !label) return;
  const count = boxes.all.length;
  label.textContent = count ? `Manipulated, ${count} box${count === 1 ? "" : "es"}` : "Manipulated";
  const remove = document.querySelector<HTMLButtonElement>("[data-do=delete-box]");
  if (remove) remove.disabled = !boxes.current;
  list.replaceChildren(...boxes.all.map(boxEntry));
}

function boxEntry(box: Box, index: number): HTMLElement {
  const entry = document.createElement("li");
  const choose = document.createElement("button");
  choose.type = "button";
  choose.className = "button compact";
  choose.dataset["choose"] = String(index);
  choose.setAttribute("aria-pressed", String(index === boxes.index));
  choose.textContent = `Box ${index + 1}: ${inWords(box)}`;
  const drop = document.createElement("button");
  drop.type = "button";
  drop.className = "button plain compact";
  drop.dataset["drop"] = String(index);
  drop.setAttribute("aria-label", `Remove box ${index + 1}`);
  drop.textContent = "×";
  entry.append(choose, drop);
  return entry;
}

/** What had the focus may be gone with the picture before. */
function keepFocus(): void {
  const active = document.activeElement;
  if (active === document.body || active === note || (active?.closest("#deck-state") ?? null)) stage.focus({ preventScroll: true });
}

function installFilterToggle(): void {
  const toggle = document.getElementById("filter-toggle");
  const panel = document.getElementById("filter-panel");
  toggle?.addEventListener("click", () => {
    if (!panel) return;
    panel.hidden = !panel.hidden;
    toggle.setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden) panel.querySelector<HTMLElement>("select, input")?.focus();
  });
}

function speak(words: string): void { element("spoken").textContent = words; }

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

