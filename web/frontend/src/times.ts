/** Times as the reader's own clock shows them: the server writes UTC into `<time datetime>`. */

const FORMAT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function showLocalTimes(root: ParentNode): void {
  for (const each of root.querySelectorAll<HTMLTimeElement>("time[datetime]:not([title])")) {
    const at = new Date(each.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    each.title = each.dateTime;
    each.textContent = FORMAT.format(at);
  }
}
