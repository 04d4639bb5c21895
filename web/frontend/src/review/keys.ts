/** One table of keys for the whole page. Keys typed into fields, and those of the browser itself, are left alone. */

export type Action = (event: KeyboardEvent) => void;

export function installKeys(actions: Record<string, Action>): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || typing(event) || document.querySelector("dialog[open]")) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}

/** Whether the key belongs to the element that has the focus. */
function typing(event: KeyboardEvent): boolean {
  const target = event.target instanceof HTMLElement ? event.target : null;
  if (!target) return false;
  if (target.matches("textarea, select, input:not([type=checkbox], [type=range])")) return true;
  if (target.matches("input[type=range]")) return /^(Arrow|Home|End|Page)/.test(event.key);
  return target.matches("button, a, summary, input") && (event.key === "Enter" || event.key === " ");
}
