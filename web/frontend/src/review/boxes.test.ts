import assert from "node:assert/strict";
import { test } from "node:test";
import { Boxes, MOST_BOXES } from "./boxes";

const box = (x0: number) => ({ x0, y0: 0, x1: x0 + 1, y1: 1 });

test("a new box is the chosen one, and the same box is not there twice", () => {
  const boxes = new Boxes();
  assert.ok(boxes.add(box(1)) && boxes.add(box(2)) && boxes.add(box(1)));
  assert.equal(boxes.all.length, 2);
  assert.deepEqual(boxes.current, box(1));
});

test("stepping goes round, and removing leaves a neighbour chosen", () => {
  const boxes = new Boxes();
  boxes.replace([box(1), box(2), box(3)]);
  assert.equal(boxes.current, undefined);
  boxes.step(-1);
  assert.deepEqual(boxes.current, box(3));
  boxes.step(1);
  assert.deepEqual(boxes.current, box(1));
  boxes.step(-1);
  boxes.remove();
  assert.deepEqual(boxes.current, box(2));
});

test("whoever listens hears of every change, and there is an end to boxes", () => {
  const boxes = new Boxes();
  let heard = 0;
  boxes.onChange(() => { heard += 1; });
  for (let number = 0; number < MOST_BOXES; number += 1) boxes.add(box(number));
  assert.equal(boxes.add(box(9999)), false);
  assert.equal(heard, MOST_BOXES);
});
