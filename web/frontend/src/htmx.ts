/** htmx, told to bring neither inline styles nor `eval`, and to carry the CSRF token with everything that changes something. */
import htmx from "htmx.org";

htmx.config.includeIndicatorStyles = false;
htmx.config.allowEval = false;
htmx.config.allowScriptTags = false;
htmx.config.selfRequestsOnly = true;
htmx.config.historyCacheSize = 0;
htmx.config.scrollBehavior = "auto";
// Or a form with an empty required field would be left without a word.
htmx.config.reportValidityOfForms = true;
// An error's body says how to mend it: it is shown where the answer would have been.
htmx.config.responseHandling = [
  { code: "204", swap: false },
  { code: "[23]..", swap: true },
  { code: "[45]..", swap: true, error: true },
];

/** The token that proves a request to be of this page; empty where nobody is logged in. */
export function csrfToken(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
}

/** Let every request of htmx carry the token. */
export function guardRequests(): void {
  document.addEventListener("htmx:configRequest", (event) => {
    const { headers, verb } = (event as CustomEvent<{ headers: Record<string, string>; verb: string }>).detail;
    if (verb !== "get") headers["X-CSRF-Token"] = csrfToken();
  });
}

export { htmx };
