/** What every page loads. */
import { installDialogs } from "../dialogs";
import { guardRequests } from "../htmx";
import { installThemeSwitch } from "../theme";
import { showLocalTimes } from "../times";
import { toast } from "../toasts";

guardRequests();
installDialogs();
installThemeSwitch();
showLocalTimes(document);
document.addEventListener("htmx:afterSwap", (event) => showLocalTimes(event.target as HTMLElement));
document.addEventListener("htmx:sendError", () => toast("The server does not answer. Nothing was changed; try again.", "error"));
