/** Short messages in a corner, read out by screen readers, gone after a while unless they tell of an error. */

const STAYS_MS = 6000;

export interface ToastAction {
  label: string;
  run: () => void;
}

export function toast(message: string, kind: "info" | "good" | "error" = "info", action?: ToastAction): void {
  const region = document.getElementById("toasts");
  if (!region) return;
  const box = document.createElement("div");
  box.className = `toast ${kind}`;
  box.dataset["testid"] = "toast";
  const text = document.createElement("p");
  text.textContent = message;
  box.append(text);
  if (action) box.append(button(action.label, () => { box.remove(); action.run(); }));
  box.append(button("Dismiss", () => box.remove()));
  region.append(box);
  while (region.childElementCount > 4) region.firstElementChild?.remove();
  if (kind !== "error") setTimeout(() => box.remove(), STAYS_MS);
}

function button(label: string, run: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "button plain compact";
  made.textContent = label;
  made.addEventListener("click", run);
  return made;
}
