/** Light, dark, or as the system has it. The server reads the cookie, so that no page flashes in the wrong colours. */

const ORDER = ["auto", "light", "dark"] as const;
type Theme = (typeof ORDER)[number];
const A_YEAR_S = 31_536_000;

export function installThemeSwitch(): void {
  const current = document.documentElement.dataset["theme"] as Theme | undefined;
  for (const select of document.querySelectorAll<HTMLSelectElement>("[data-theme-switch]")) {
    select.value = current ?? "auto";
    select.addEventListener("change", () => choose(select.value as Theme));
  }
}

function choose(theme: Theme): void {
  if (!ORDER.includes(theme)) return;
  document.documentElement.dataset["theme"] = theme;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `tamperwatch_theme=${theme}; Path=/; Max-Age=${A_YEAR_S}; SameSite=Lax${secure}`;
}
