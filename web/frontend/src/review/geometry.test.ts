import assert from "node:assert/strict";
import { test } from "node:test";
import {
  boxBetween, boxInView, centred, fit, moved, panned, pinched, resized, showing, toPicture, toScreen, zoomed, type Box, type View,
} from "./geometry";

const PICTURE = { width: 4000, height: 3000 };
const PANE = { width: 400, height: 330 };

/** Views as people make them: the whole picture, then zoomed and panned about. */
function views(): View[] {
  const found = [fit(PICTURE, PANE)];
  for (const factor of [1.3, 2, 5, 0.7, 9, 0.31]) {
    const last = found[found.length - 1] ?? fit(PICTURE, PANE);
    const next = zoomed(last, factor, { x: 123.4, y: 77.7 }, PICTURE, PANE);
    found.push(next, panned(next, -311.3, 45.9, PICTURE, PANE));
  }
  return found;
}

test("a box that is drawn on the screen lands within a pixel of the original, at any zoom", () => {
  const wanted: Box[] = [{ x0: 0, y0: 0, x1: 4000, y1: 3000 }, { x0: 1203, y0: 871, x1: 1290, y1: 1002 }, { x0: 3999, y0: 2999, x1: 4000, y1: 3000 }];
  for (const view of views()) {
    for (const box of wanted) {
      const from = toScreen(view, { x: box.x0, y: box.y0 });
      const to = toScreen(view, { x: box.x1, y: box.y1 });
      assert.deepEqual(boxBetween(toPicture(view, from), toPicture(view, to), PICTURE), box);
      // Where a pointer gives whole screen pixels only, the box ends where the pointer was.
      const rough = toPicture(view, { x: Math.floor(from.x), y: Math.floor(from.y) });
      const drawn = boxBetween(rough, toPicture(view, to), PICTURE);
      assert.ok(Math.abs(drawn.x0 - Math.max(rough.x, 0)) <= 0.5 && Math.abs(drawn.y0 - Math.max(rough.y, 0)) <= 0.5);
    }
  }
});

test("boxes stay inside the picture and are never empty, whichever way they are drawn", () => {
  assert.deepEqual(boxBetween({ x: 50.4, y: 60.6 }, { x: -9, y: 99999 }, PICTURE), { x0: 0, y0: 61, x1: 50, y1: 3000 });
  assert.deepEqual(boxBetween({ x: 10, y: 10 }, { x: 10, y: 10 }, PICTURE), { x0: 10, y0: 10, x1: 11, y1: 11 });
  assert.deepEqual(boxBetween({ x: 9000, y: 9000 }, { x: 9000, y: 9000 }, PICTURE), { x0: 3999, y0: 2999, x1: 4000, y1: 3000 });
});

test("moving keeps the size, resizing never turns a box inside out", () => {
  const box = { x0: 10, y0: 20, x1: 110, y1: 70 };
  assert.deepEqual(moved(box, -500, 9999, PICTURE), { x0: 0, y0: 2950, x1: 100, y1: 3000 });
  assert.deepEqual(resized(box, { x: 1, y: 1 }, { x: -5, y: 5000 }, PICTURE), { x0: 10, y0: 20, x1: 11, y1: 3000 });
  assert.deepEqual(resized(box, { x: -1, y: 0 }, { x: 500, y: 1 }, PICTURE), { x0: 109, y0: 20, x1: 110, y1: 70 });
});

test("zooming keeps the point under the pointer, where the picture's edges allow it", () => {
  const view = zoomed(fit(PICTURE, PANE), 6, { x: 200, y: 165 }, PICTURE, PANE);
  const before = toPicture(view, { x: 130, y: 60 });
  const after = toPicture(zoomed(view, 1.7, { x: 130, y: 60 }, PICTURE, PANE), { x: 130, y: 60 });
  assert.ok(Math.abs(before.x - after.x) < 1e-6 && Math.abs(before.y - after.y) < 1e-6);
});

test("two fingers keep what is under them", () => {
  const view = zoomed(fit(PICTURE, PANE), 4, { x: 200, y: 165 }, PICTURE, PANE);
  const held = toPicture(view, { x: 150, y: 150 });
  const next = pinched(view, [{ x: 100, y: 150 }, { x: 200, y: 150 }], [{ x: 80, y: 160 }, { x: 240, y: 160 }], PICTURE, PANE);
  const under = toPicture(next, { x: 160, y: 160 });
  assert.ok(Math.abs(held.x - under.x) < 1e-6 && Math.abs(held.y - under.y) < 1e-6);
  assert.ok(Math.abs(next.scale / view.scale - 1.6) < 1e-9);
});

test("the picture is never lost out of sight", () => {
  for (const view of views()) {
    const far = panned(view, 1e6, -1e6, PICTURE, PANE);
    const corner = toPicture(far, { x: PANE.width / 2, y: PANE.height / 2 });
    assert.ok(corner.x >= 0 && corner.x <= PICTURE.width && corner.y >= 0 && corner.y <= PICTURE.height);
  }
  assert.deepEqual(centred({ width: 100, height: 50 }, PANE, 1), { scale: 1, left: 150, top: 140 });
});

test("a box by keyboard is in the middle of what is seen, and a region is shown whole", () => {
  const view = fit(PICTURE, PANE);
  assert.deepEqual(boxInView(view, PICTURE, PANE), { x0: 1500, y0: 1125, x1: 2500, y1: 1875 });
  const region = { x0: 3000, y0: 100, x1: 3100, y1: 160 };
  const near = showing(region, PICTURE, PANE);
  const corner = toScreen(near, { x: region.x1, y: region.y1 });
  assert.ok(near.scale > view.scale && corner.x <= PANE.width && corner.y <= PANE.height);
});
