/** Whether somebody is there. What a page does by itself must neither keep a session alive nor pictures from others. */

let lastMs = Date.now();
const returned: (() => void)[] = [];
let awayAfterMs = Infinity;

export function watchActivity(awayAfterS: number): void {
  awayAfterMs = awayAfterS * 1000;
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"] as const) {
    window.addEventListener(kind, noted, { capture: true, passive: true });
  }
}

export function isSomebodyThere(): boolean {
  return Date.now() - lastMs < awayAfterMs;
}

/** Call when somebody comes back after having been away. */
export function onReturn(run: () => void): void {
  returned.push(run);
}

function noted(): void {
  const wasAway = !isSomebodyThere();
  lastMs = Date.now();
  if (wasAway) for (const run of returned) run();
}
